// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sink pad: frames are decoded and queued, with the events and queries between them.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::archival::Noise;
use super::caps::{Format, Scan};
use super::engines::Passed;
use super::frame::{parts, regions, rows};
use super::imp::{CAT, I2sbRestore, lock};
use super::masks::Cut;
use super::number;
use super::settings::{Compare, Hdr, LateFrames, OnError, Settings};
use super::src::unexplained;
use super::stream::{BatchKey, Held, Other, Outcome, Pass, PendingQuery, Work, begins};
use super::strict;
use crate::engine::{Image, Picture};
use crate::flow::ladder::Move;
use i2sb::pixel::{Raw, to_rgb};

/// When a frame is due, and the next.
struct Times {
    frame: Option<Duration>,
    running: Option<gst::ClockTime>,
}

/// Whether the one engine that works on a frame takes it in its own format.
fn takes_raw(passes: &[Pass]) -> bool {
    let [pass] = passes else { return false };
    pass.weight == 1.0 && pass.worker.about().is_some_and(|about| about.raw)
}

impl I2sbRestore {
    /// A frame.
    pub fn sink_chain(
        &self,
        _pad: &gst::Pad,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let arrived = self.stream.now();
        let (format, segment) = {
            let input = lock(&self.input);
            (input.format.clone().ok_or(gst::FlowError::NotNegotiated)?, input.segment.clone())
        };
        let live = self.is_live();
        if let Some(time) = segment.as_ref().and_then(|segment| segment.to_stream_time(buffer.pts())) {
            // Fails only for properties without a binding.
            let _ = self.obj().sync_values(time);
        }
        let settings = lock(&self.settings).clone();
        let waited = self.wait_for_room()?;
        let number = number::of(&buffer, segment.as_ref(), format.info.fps());
        gst::log!(CAT, imp = self, "frame {number} at {:?}", buffer.pts());
        if settings.archival.strict {
            let judged = strict::buffer(&buffer, &format, number, &mut lock(&self.input).top_first);
            judged.map_err(|refusal| self.refuse(&refusal))?;
        }
        let work = match self.policy(&format, segment.as_ref(), &buffer, &settings)? {
            None => Err(Passed::Asked),
            Some(scan) => match self.pick(&settings, live && waited) {
                // The bus has been told, with the reason.
                Err(Passed::Outage) if settings.on_error == OnError::Error => {
                    return Err(gst::FlowError::Error);
                }
                Err(why) => Err(why),
                Ok(mut passes) => {
                    if settings.archival.noise == Noise::Frame {
                        passes.iter_mut().for_each(|pass| pass.knobs.frame = number);
                    }
                    let times = Times {
                        frame: format.frame_time().or(buffer.duration()).map(Into::into),
                        running: segment.as_ref().and_then(|segment| segment.to_running_time(buffer.pts())),
                    };
                    Ok(self.decode(&format, &buffer, scan, &settings, passes, times)?)
                }
            },
        };
        let mut state = self.stream.lock();
        state.flow?;
        if state.sated {
            return Err(gst::FlowError::Eos);
        }
        state.counters.input += 1;
        match work {
            Err(why) => {
                state.queue.push_done(None, Held { buffer, work: None, due: None }, Outcome::Passed(why));
                drop(state);
                self.stream.ring();
            }
            Ok(work) => {
                let now = self.stream.now();
                let key = BatchKey::of(&work);
                let bound =
                    state.fixed_latency.filter(|_| live && settings.late_frames != LateFrames::Process);
                let due = bound.map(|latency| arrived + latency);
                state.queue.push(now, Some(key), Held { buffer, work: Some(work), due });
                self.stream.hand_on(state);
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Whether upstream is live: asked once per segment.
    fn is_live(&self) -> bool {
        if let Some(live) = lock(&self.input).live {
            return live;
        }
        let mut query = gst::query::Latency::new();
        let live = self.sinkpad.peer_query(&mut query) && query.result().0;
        lock(&self.input).live = Some(live);
        live
    }

    /// Who works on the next frame; engines whose time has come are loaded again.
    fn pick(&self, settings: &Settings, late: bool) -> Result<Vec<Pass>, Passed> {
        let now = self.stream.now();
        let (picked, due) = {
            let mut state = self.stream.lock();
            if late {
                state.engines.late(now);
            }
            let due = state.engines.due(now);
            let (picked, moved) = state.engines.pick(now, settings);
            state.counters.step_downs += u64::from(moved == Some(Move::Down));
            state.counters.step_ups += u64::from(moved == Some(Move::Up));
            (picked, due)
        };
        for seat in due {
            self.load_again(seat);
        }
        picked
    }

    /// Whether there was any waiting.
    fn wait_for_room(&self) -> Result<bool, gst::FlowError> {
        let mut state = self.stream.lock();
        let mut waited = false;
        loop {
            state.flow?;
            if state.eos || state.sated {
                return Err(gst::FlowError::Eos);
            }
            if state.queue.has_room() {
                return Ok(waited);
            }
            waited = true;
            state = self.stream.wait(state, None);
        }
    }

    /// Whether this buffer is restored, and as what.
    fn policy(
        &self,
        format: &Format,
        segment: Option<&gst::FormattedSegment<gst::ClockTime>>,
        buffer: &gst::BufferRef,
        settings: &Settings,
    ) -> Result<Option<Scan>, gst::FlowError> {
        let nothing = settings.strength == 0.0 && settings.compare == Compare::Off;
        let unseen = gst::BufferFlags::GAP | gst::BufferFlags::DECODE_ONLY;
        if !settings.enabled || nothing || buffer.flags().intersects(unseen) {
            return Ok(None);
        }
        if let Some(segment) = segment {
            let trick = gst::SegmentFlags::TRICKMODE
                | gst::SegmentFlags::TRICKMODE_KEY_UNITS
                | gst::SegmentFlags::TRICKMODE_FORWARD_PREDICTED;
            let end = buffer.pts().zip(buffer.duration()).map(|(pts, duration)| pts + duration);
            let outside =
                buffer.pts().is_some() && segment.clip(buffer.pts(), end.or(buffer.pts())).is_none();
            if segment.flags().intersects(trick) || outside {
                return Ok(None);
            }
        }
        if format.hdr && self.hdr(settings.hdr)? {
            return Ok(None);
        }
        format.scan(buffer, settings.interlaced).map_err(|reason| {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{reason}"), ["interlaced=error"]);
            gst::FlowError::Error
        })
    }

    /// Whether HDR content passes through.
    fn hdr(&self, policy: Hdr) -> Result<bool, gst::FlowError> {
        let what = "PQ or HLG video, which the networks were not trained for";
        if policy == Hdr::Error {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("{what}, and hdr=error forbids it; convert it to SDR before this element"),
                ["hdr=error"]
            );
            return Err(gst::FlowError::Error);
        }
        if !std::mem::replace(&mut lock(&self.told).hdr, true) {
            let done = match policy {
                Hdr::PassThrough => "frames pass unrestored; set hdr=process to restore them nevertheless",
                _ => "frames are restored as if they were SDR",
            };
            gst::element_imp_warning!(self, gst::StreamError::Format, ("{what}: {done}"), ["hdr"]);
        }
        Ok(policy == Hdr::PassThrough)
    }

    fn decode(
        &self,
        format: &Format,
        buffer: &gst::BufferRef,
        scan: Scan,
        settings: &Settings,
        passes: Vec<Pass>,
        times: Times,
    ) -> Result<Work, gst::FlowError> {
        let map = buffer.map_readable().map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Read,
                ("A frame's memory cannot be read"),
                ["map: {error}"]
            );
            gst::FlowError::Error
        })?;
        let parts = parts(format, buffer, scan, map.len()).map_err(|error| {
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("A buffer does not hold the frame its caps promise: {error}"),
                ["upstream sent a wrong buffer or wrong caps"]
            );
            gst::FlowError::Error
        })?;
        let masks = lock(&self.masks).clone();
        let regions = regions(buffer, &settings.archival.protect_roi);
        let raw = settings.compare == Compare::Off && takes_raw(&passes);
        let decode = |(index, part): (usize, &super::frame::Part)| {
            let (width, height) = (part.view.width, part.view.height);
            let Cut { hole, keep } = masks.cut(rows(format, buffer, scan, index, part), &regions);
            let as_it_is = raw && hole.is_none() && keep.is_none();
            if let Some(Ok(frame)) = as_it_is.then(|| Raw::cut(&part.view, &part.color, &map)) {
                return (Image::Raw { frame: Arc::new(frame), broken: false }, keep);
            }
            let mut rgb = vec![0.0; 3 * width * height];
            to_rgb(&part.view, &part.color, &map, &mut rgb);
            (Image::Decoded(Arc::new(Picture { width, height, rgb, hole })), keep)
        };
        let (inputs, keep) = parts.iter().enumerate().map(decode).unzip();
        Ok(Work {
            parts,
            inputs,
            keep,
            passes,
            strength: settings.strength,
            compare: settings.compare,
            frame_time: times.frame,
            running_time: times.running,
        })
    }

    /// An event from upstream.
    ///
    /// # Errors
    /// [`gst::FlowError`]: how the flow ended, as a frame would be told, too.
    pub fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::debug!(CAT, obj = pad, "{event:?}");
        let forwarded = match event.view() {
            gst::EventView::FlushStart(_) => {
                self.residual_event(&event);
                // First free whoever waits here, then whoever waits downstream.
                for dropped in self.stream.stop() {
                    if !matches!(&dropped, Other::Event(event) if event.type_() == gst::EventType::Segment) {
                        self.keep_sticky(dropped);
                    }
                }
                let result = self.srcpad.push_event(event);
                // Stopped and not paused: a paused task would keep its function and leak the next one.
                // Fails only when the pad is being deactivated, which stops the task itself.
                let _ = self.srcpad.stop_task();
                result
            }
            gst::EventView::FlushStop(_) => {
                self.residual_event(&event);
                let result = self.srcpad.push_event(event);
                {
                    let mut input = lock(&self.input);
                    (input.segment, input.live) = (None, None);
                }
                self.restart();
                result
            }
            gst::EventView::Caps(caps) => {
                self.set_caps(caps)?;
                return self.enqueue(event);
            }
            gst::EventView::Segment(segment) => {
                self.set_segment(segment)?;
                return self.enqueue(event);
            }
            _ if event.is_serialized() => return self.enqueue(event),
            _ => self.srcpad.push_event(event),
        };
        forwarded.then_some(gst::FlowSuccess::Ok).ok_or(gst::FlowError::Error)
    }

    fn set_segment(&self, event: &gst::event::Segment) -> Result<(), gst::FlowError> {
        let segment = event.segment();
        let Some(time) = segment.downcast_ref::<gst::ClockTime>() else {
            let format = segment.format();
            if self.is_news(event) {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Format,
                    ("Only segments in time can be played, not in {format:?}"),
                    ["put a parser or a decoder before this element"]
                );
            }
            return Err(gst::FlowError::Error);
        };
        let mut input = lock(&self.input);
        (input.segment, input.live) = (Some(time.clone()), None);
        Ok(())
    }

    /// What must not be lost with the frames around it: what is true of the stream, and not its end alone.
    pub fn keep_sticky(&self, dropped: Other) {
        let Other::Event(event) = dropped else { return };
        if event.is_sticky() && event.type_() != gst::EventType::Eos {
            // Fails only if the pad is flushing already, which then has forgotten everything anyway.
            let _ = self.srcpad.store_sticky_event(&event);
        }
    }

    /// Queues a serialized event behind what is there.
    fn enqueue(&self, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        let type_ = event.type_();
        let mut state = self.stream.lock();
        match type_ {
            gst::EventType::Eos => state.eos = true,
            gst::EventType::StreamStart => state.eos = false,
            _ => {}
        }
        state.sated &= !begins(type_);
        if let Err(error) = state.flow {
            drop(state);
            if type_ == gst::EventType::Eos {
                if unexplained(error) {
                    // No frame will come any more whose return could tell upstream.
                    self.post_flow_error(error);
                }
            } else if error == gst::FlowError::NotLinked {
                // For whoever is linked later; the next frame tells upstream.
                self.keep_sticky(Other::Event(event));
                return Ok(gst::FlowSuccess::Ok);
            }
            return Err(error);
        }
        state.queue.push_other(Other::Event(event));
        // What waits for its batch to fill need not wait any longer.
        self.stream.hand_on(state);
        Ok(gst::FlowSuccess::Ok)
    }

    /// A query from upstream: serialized ones keep their place between frames.
    pub fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if !query.is_serialized() {
            return gst::Pad::query_default(pad, Some(&*self.obj()), query);
        }
        let enqueue = |pending: PendingQuery| {
            let mut state = self.stream.lock();
            if state.flow.is_err() {
                return false;
            }
            state.queue.push_other(Other::Query(pending));
            self.stream.hand_on(state);
            true
        };
        PendingQuery::ask(query, enqueue)
    }

    /// The sink pad starts or stops.
    pub fn sink_activate(&self, mode: gst::PadMode, active: bool) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "only push mode is possible"));
        }
        if !active {
            drop(self.stream.stop());
        }
        Ok(())
    }
}
