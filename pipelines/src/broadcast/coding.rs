// SPDX-License-Identifier: MIT OR Apache-2.0
//! The encoder behind the restoring element: replaced where size, rate or scan of the picture change, after all
//! that it held is out.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use gst::prelude::*;

use super::ancillary::Ancillary;
use super::mpeg2;
use super::nal::{self, Codec};
use super::streams::Encoder;
use crate::exit::refused;

/// Longest time that an encoder may take to give what it holds.
const DRAIN: Duration = Duration::from_secs(10);

/// In a description of an encoder, the properties of the picture's level.
const LEVEL: &str = "{level}";

/// The place of the encoder between two elements.
pub struct Coding {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    restore: gst::Element,
    after: gst::Element,
    encoder: Encoder,
    now: Mutex<Option<(gst::Bin, gst::Caps)>>,
}

impl Coding {
    /// Puts the encoder for these caps between two elements of the pipeline, and keeps it the right one.
    pub fn start(
        pipeline: &gst::Pipeline,
        restore: &gst::Element,
        after: &gst::Element,
        encoder: &Encoder,
        caps: &gst::Caps,
    ) -> Result<()> {
        let (restore, after, encoder) = (restore.clone(), after.clone(), encoder.clone());
        let pad = restore.static_pad("src").context("i2sbrestore has no source pad")?;
        let coding = Self { pipeline: pipeline.downgrade(), restore, after, encoder, now: Mutex::default() };
        coding.place(caps)?;
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
            let Some(gst::EventView::Caps(event)) = info.event().map(|event| event.view()) else {
                return gst::PadProbeReturn::Ok;
            };
            if let Err(error) = coding.change(pad, &event.caps_owned()) {
                gst::element_error!(coding.restore, gst::StreamError::Encode, ("{error:#}"), ["encoder"]);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    /// Builds the encoder for these caps and links it.
    fn place(&self, caps: &gst::Caps) -> Result<()> {
        let pipeline = self.pipeline.upgrade().context("the pipeline is gone")?;
        let text = format!("videoconvert ! {}", description(&self.encoder, caps)?);
        let bin = gst::parse::bin_from_description(&text, true).context(text)?;
        pipeline.add(&bin)?;
        let source = bin.static_pad("src").context("an encoder has a source pad")?;
        write_ancillary(&source, &self.encoder);
        bin.link(&self.after)?;
        bin.sync_state_with_parent()?;
        self.restore.link(&bin)?;
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some((bin, caps.clone()));
        Ok(())
    }

    /// Replaces the encoder, if these caps ask for another.
    fn change(&self, pad: &gst::Pad, caps: &gst::Caps) -> Result<()> {
        let old = {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            if now.as_ref().is_some_and(|(_, before)| before == caps) {
                return Ok(());
            }
            now.take()
        };
        if let Some((old, before)) = old {
            // The first caps that pass may say more than those that were found.
            eprintln!("the picture changes: {}", difference(&before, caps));
            drain(&old)?;
            let pipeline = self.pipeline.upgrade().context("the pipeline is gone")?;
            self.restore.unlink(&old);
            old.unlink(&self.after);
            old.set_locked_state(true);
            old.set_state(gst::State::Null)?;
            pipeline.remove(&old)?;
        }
        self.place(caps)?;
        let begin = pad.sticky_event::<gst::event::StreamStart>(0).context("a stream without a start")?;
        let peer = pad.peer().context("the encoder is not linked")?;
        peer.send_event(begin.to_owned());
        Ok(())
    }
}

/// Fields that differ, new ones.
fn difference(before: &gst::Caps, after: &gst::Caps) -> String {
    let (Some(before), Some(after)) = (before.structure(0), after.structure(0)) else { return String::new() };
    let changed = after.iter().filter(|(name, value)| {
        !before.value(*name).is_ok_and(|old| old.serialize().ok() == value.serialize().ok())
    });
    let text = |(name, value): (&gst::glib::GStr, &gst::glib::SendValue)| {
        format!("{name}={}", value.serialize().map(String::from).unwrap_or_default())
    };
    changed.map(text).collect::<Vec<_>>().join(", ")
}

/// Has an encoder give all that it holds, and nothing of its end.
fn drain(bin: &gst::Bin) -> Result<()> {
    let out: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let source = bin.static_pad("src").context("an encoder has a source pad")?;
    let seen = out.clone();
    source.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if info.event().is_some_and(|event| event.type_() == gst::EventType::Eos) {
            *seen.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            seen.1.notify_all();
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
    bin.static_pad("sink").context("an encoder has a sink pad")?.send_event(gst::event::Eos::new());
    let ended = out.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = out.1.wait_timeout_while(ended, DRAIN, |ended| !*ended);
    let (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if *ended { Ok(()) } else { anyhow::bail!("the encoder does not give what it holds within {DRAIN:?}") }
}

/// How this video is encoded.
fn description(encoder: &Encoder, caps: &gst::Caps) -> Result<String> {
    let picture = caps.structure(0).context("caps without a structure")?;
    let mode = picture.get::<String>("interlace-mode").unwrap_or_default();
    let found = if ["", "progressive"].contains(&mode.as_str()) {
        &encoder.progressive
    } else {
        let bottom = picture.get::<String>("field-order").is_ok_and(|order| order == "bottom-field-first");
        let interlaced = encoder.interlaced.as_ref();
        let found = if bottom { encoder.bottom_first.as_ref().or(interlaced) } else { interlaced };
        found.ok_or_else(|| refused(format!("--encoder {} has no interlaced coding", encoder.name)))?
    };
    Ok(found.replace(LEVEL, of_level(encoder, picture)?))
}

/// What stands for [`LEVEL`] in an encoder's description.
fn of_level<'a>(encoder: &'a Encoder, picture: &gst::StructureRef) -> Result<&'a str> {
    if encoder.levels.is_empty() {
        return Ok("");
    }
    let side = |name| picture.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok()).context(name);
    let (width, height) = (side("width")?, side("height")?);
    let fps = picture.get::<gst::Fraction>("framerate").context("framerate")?;
    let level = mpeg2::Level::of(width, height, fps).and_then(|level| encoder.levels.get(level.name));
    level.map(String::as_str).ok_or_else(|| {
        let name = &encoder.name;
        refused(format!(
            "--encoder {name}: no level of MPEG-2 holds {width}×{height} at {fps} frames a second"
        ))
    })
}

/// Has each coded picture carry what rode on its frame, as far as the encoder does not write it.
fn write_ancillary(pad: &gst::Pad, encoder: &Encoder) {
    let with_captions = !encoder.writes_captions;
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let caps = pad.current_caps();
        let kind = caps.as_ref().and_then(|caps| caps.structure(0)).map(|s| s.name().as_str());
        let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
        let rode = Ancillary::of(buffer);
        let Ok(data) = buffer.map_readable() else { return gst::PadProbeReturn::Ok };
        let registered = || rode.registered(with_captions).into_iter().map(|data| (nal::REGISTERED, data));
        let written = match kind {
            Some("video/x-h264") => nal::insert(Codec::H264, &data, &registered().collect::<Vec<_>>()),
            Some("video/x-h265") => {
                let code = rode.timecode.as_ref().map(|code| (nal::TIME_CODE, nal::time_code(code)));
                nal::insert(Codec::H265, &data, &registered().chain(code).collect::<Vec<_>>())
            }
            Some("video/mpeg") => {
                mpeg2::insert(&data, &rode.user_data(with_captions), rode.timecode.as_ref())
            }
            _ => return gst::PadProbeReturn::Ok,
        };
        if written.len() != data.len() || written != *data {
            drop(data);
            let mut new = gst::Buffer::from_mut_slice(written);
            let flags = gst::BUFFER_COPY_METADATA;
            // Metadata alone fits any buffer.
            let _ = buffer.copy_into(new.make_mut(), flags, ..);
            *buffer = new;
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scan_has_its_encoder_or_is_refused() {
        gst::init().unwrap();
        let all = |bottom_first: Option<&str>, interlaced: Option<&str>| Encoder {
            name: "x".into(),
            progressive: "p".into(),
            interlaced: interlaced.map(Into::into),
            bottom_first: bottom_first.map(Into::into),
            writes_captions: false,
            levels: [("Main", "m"), ("High", "h")].map(|(a, b)| (a.to_string(), b.to_string())).into(),
        };
        let caps = |more: &str| {
            format!("video/x-raw,width=720,height=576,framerate=25/1{more}").parse::<gst::Caps>().unwrap()
        };
        let bottom = caps(",interlace-mode=interleaved,field-order=bottom-field-first");
        let whole = all(Some("b"), Some("i"));
        assert_eq!(description(&whole, &caps("")).unwrap(), "p");
        assert_eq!(description(&whole, &caps(",interlace-mode=mixed")).unwrap(), "i");
        assert_eq!(description(&whole, &bottom).unwrap(), "b");
        assert_eq!(description(&all(None, Some("i")), &bottom).unwrap(), "i");
        let error = description(&all(None, None), &bottom).unwrap_err();
        assert_eq!(crate::exit::of(&error), 3);
        let sized = all(None, Some("bits={level} !"));
        let mixed = caps(",interlace-mode=mixed");
        assert_eq!(description(&sized, &mixed).unwrap(), "bits=m !");
        let mut full = mixed.copy();
        full.get_mut().unwrap().set("width", 1920);
        full.get_mut().unwrap().set("height", 1080);
        assert_eq!(description(&sized, &full).unwrap(), "bits=h !");
        full.get_mut().unwrap().set("framerate", gst::Fraction::new(50, 1));
        let error = description(&sized, &full).unwrap_err();
        assert_eq!(crate::exit::of(&error), 3);
        assert!(error.to_string().contains("1920×1080 at 50"), "{error}");
    }
}
