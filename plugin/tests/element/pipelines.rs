// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real pipelines: decoders, clocks, tees, seeks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::prelude::*;

/// A running pipeline that is stopped when it is dropped.
struct Pipeline(gst::Pipeline);

impl Pipeline {
    fn new(description: &str) -> Self {
        crate::null::init();
        Self(gst::parse::launch(description).expect(description).downcast().expect("a pipeline"))
    }

    fn element(&self, name: &str) -> gst::Element {
        self.0.by_name(name).expect(name)
    }

    /// Times of all buffers at a pad of an element.
    fn times(&self, name: &str, pad: &str) -> Arc<Mutex<Vec<Option<gst::ClockTime>>>> {
        let times = Arc::new(Mutex::new(Vec::new()));
        let seen = times.clone();
        self.element(name).static_pad(pad).expect(pad).add_probe(
            gst::PadProbeType::BUFFER,
            move |_, info| {
                seen.lock().unwrap().push(info.buffer().and_then(|buffer| buffer.pts()));
                gst::PadProbeReturn::Ok
            },
        );
        times
    }

    /// Plays to EOS; returns the element messages.
    fn run(&self) -> Vec<gst::Message> {
        self.0.set_state(gst::State::Playing).expect("playing");
        let mut messages = Vec::new();
        loop {
            let message =
                self.0.bus().unwrap().timed_pop(60 * gst::ClockTime::SECOND).expect("EOS in a minute");
            match message.view() {
                gst::MessageView::Eos(_) => return messages,
                gst::MessageView::Error(error) => {
                    panic!("{:?}: {} ({:?})", error.src(), error.error(), error.debug())
                }
                gst::MessageView::Element(_) => messages.push(message),
                _ => {}
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn shipped_clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/clips/cockatoo.mp4")
}

/// The clips beside the workspace, where there are any.
fn clips() -> Vec<PathBuf> {
    let mut clips = vec![shipped_clip()];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/clips");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no clips in {}", folder.display());
        return clips;
    };
    clips.extend(entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e != "csv")));
    clips.sort();
    clips
}

#[test]
fn every_frame_of_every_clip_comes_out_with_its_time() {
    for clip in clips() {
        let pipeline = Pipeline::new(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! i2sbrestore name=r model=null:add ! fakesink",
            clip.display()
        ));
        let (input, output) = (pipeline.times("r", "sink"), pipeline.times("r", "src"));
        pipeline.run();
        let (input, output) = (input.lock().unwrap(), output.lock().unwrap());
        assert!(
            input.len() > 10 && *input == *output,
            "{}: {} {}",
            clip.display(),
            input.len(),
            output.len()
        );
        let stats: gst::Structure = pipeline.element("r").property("stats");
        assert_eq!(stats.get::<u64>("restored").unwrap(), input.len() as u64);
        println!("{}: {} frames", clip.display(), input.len());
    }
}

#[test]
fn strength_zero_has_the_checksum_of_the_input() {
    let checksum = |filter: &str, clip: &Path| {
        let pipeline = Pipeline::new(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! {filter} videocodectestsink",
            clip.display()
        ));
        let messages = pipeline.run();
        let found =
            messages.iter().filter_map(|m| m.structure()).find(|s| s.name() == "conformance/checksum");
        found.expect("a checksum").get::<String>("checksum").expect("text")
    };
    for clip in clips() {
        let plain = checksum("", &clip);
        assert_eq!(checksum("i2sbrestore model=null:add strength=0 !", &clip), plain, "{}", clip.display());
        assert_eq!(checksum("i2sbrestore model=null:identity !", &clip), plain, "{}", clip.display());
        assert_ne!(checksum("i2sbrestore model=null:add !", &clip), plain, "{}", clip.display());
    }
}

#[test]
fn a_clocked_sink_behind_a_slow_network_gets_every_frame() {
    let pipeline = Pipeline::new(
        "videotestsrc num-buffers=40 ! video/x-raw,width=64,height=48,framerate=60/1 ! jpegenc ! jpegdec \
         ! i2sbrestore model=null:slow:40 ! fakesink name=out sync=true qos=true",
    );
    let times = pipeline.times("out", "sink");
    pipeline.run();
    assert_eq!(times.lock().unwrap().len(), 40);
}

#[test]
fn recording_and_watching_loses_no_frame_of_the_recording() {
    let pipeline = Pipeline::new(
        "videotestsrc num-buffers=40 ! video/x-raw,width=64,height=48,framerate=60/1 ! jpegenc ! jpegdec \
         ! i2sbrestore model=null:slow:40 ! tee name=t \
         t. ! queue ! fakesink name=monitor sync=true qos=true \
         t. ! queue ! fakesink name=record sync=false",
    );
    let (monitor, record) = (pipeline.times("monitor", "sink"), pipeline.times("record", "sink"));
    pipeline.run();
    assert_eq!((monitor.lock().unwrap().len(), record.lock().unwrap().len()), (40, 40));
}

#[test]
fn a_flushing_seek_and_a_stop_wait_for_no_frame() {
    let pipeline = Pipeline::new(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! i2sbrestore name=r model=null:slow:8000 ! fakesink",
        shipped_clip().display()
    ));
    pipeline.0.set_state(gst::State::Playing).unwrap();
    let stats = || pipeline.element("r").property::<gst::Structure>("stats").get::<u64>("frames-in").unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while stats() < 3 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let start = Instant::now();
    pipeline.0.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
    let seek = start.elapsed();
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    pipeline.0.set_state(gst::State::Null).unwrap();
    let stop = start.elapsed();
    println!("flushing seek {seek:?}, stop {stop:?}");
    assert!(seek < Duration::from_millis(500) && stop < Duration::from_millis(500));
}

#[test]
fn audio_stays_where_it_was() {
    // Two streams into one muxer: the restored one keeps its times, so nothing shifts.
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let pipeline = Pipeline::new(&format!(
        "videotestsrc num-buffers=25 ! video/x-raw,width=64,height=48,framerate=25/1 ! i2sbrestore name=r \
         model=null:slow:5 ! jpegenc ! matroskamux name=m ! filesink location={} \
         audiotestsrc num-buffers=40 ! audio/x-raw,rate=44100 ! queue max-size-time=0 max-size-bytes=0 \
         max-size-buffers=0 ! m.",
        target.display()
    ));
    let (input, output) = (pipeline.times("r", "sink"), pipeline.times("r", "src"));
    pipeline.run();
    assert_eq!(*input.lock().unwrap(), *output.lock().unwrap());
    assert!(std::fs::metadata(target).unwrap().len() > 1000);
}

/// The luma of an I420 frame, without what its strides add.
fn luma(pad: &gst::Pad, buffer: &gst::BufferRef) -> Vec<u8> {
    let info = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let (stride, width) = (frame.plane_stride()[0] as usize, info.width() as usize);
    let rows = frame.plane_data(0).unwrap().chunks(stride).take(info.height() as usize);
    rows.flat_map(|row| row[..width].to_vec()).collect()
}

/// PSNR in dB of pictures against clean ones.
fn psnr(clean: &[Vec<u8>], other: &[Vec<u8>]) -> f64 {
    assert_eq!(clean.len(), other.len());
    let pairs: Vec<_> = clean.iter().flatten().zip(other.iter().flatten()).collect();
    let sum: f64 = pairs.iter().map(|(a, b)| (f64::from(**a) - f64::from(**b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * pairs.len() as f64 / sum).log10()
}

#[test]
fn the_embedded_network_brings_frames_closer_to_their_clean_source() {
    let clean: Vec<_> =
        clips().into_iter().filter(|path| path.to_string_lossy().contains("_ffv1_")).collect();
    if clean.is_empty() {
        println!("skipped: no clean clips");
    }
    for clip in clean {
        let pipeline = Pipeline::new(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=I420 ! identity eos-after=5 \
             ! jpegenc name=spoil quality=15 ! jpegdec ! videoconvert ! video/x-raw,format=I420 \
             ! i2sbrestore name=r ! fakesink",
            clip.display()
        ));
        let frames = |name: &str, pad: &str| {
            let frames = Arc::new(Mutex::new(Vec::new()));
            let seen = frames.clone();
            pipeline.element(name).static_pad(pad).unwrap().add_probe(
                gst::PadProbeType::BUFFER,
                move |pad, info| {
                    seen.lock().unwrap().push(luma(pad, info.buffer().unwrap()));
                    gst::PadProbeReturn::Ok
                },
            );
            frames
        };
        let (clean, spoilt, restored) = (frames("spoil", "sink"), frames("r", "sink"), frames("r", "src"));
        pipeline.run();
        let clean = clean.lock().unwrap();
        let before = psnr(&clean, &spoilt.lock().unwrap());
        let after = psnr(&clean, &restored.lock().unwrap());
        println!("{}: {before:.2} dB before, {after:.2} dB after", clip.display());
        assert!(after > before + 0.2, "{}: {before} -> {after}", clip.display());
    }
}

#[test]
fn tiles_that_did_not_change_are_reused_bit_by_bit() {
    crate::null::init();
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    let info = crate::rig::i420(512, 256);
    let mut second = crate::rig::noise(info.size(), 3);
    let first = second.clone();
    // One small part of the luma changes.
    for y in 20..30 {
        second[512 * y + 20..512 * y + 30].fill(200);
    }
    let run = |frames: &[&Vec<u8>]| {
        let mut h = crate::rig::harness(&format!("model={}", preset.display()));
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
        let mut outputs = Vec::new();
        for frame in frames {
            h.push(gst::Buffer::from_mut_slice((*frame).clone())).unwrap();
            outputs.push(crate::rig::bytes(&crate::rig::pull(&mut h)));
        }
        (outputs.pop().unwrap(), crate::rig::count(&h, "tiles-reused"))
    };
    let (fresh, none) = run(&[&second]);
    let (reused, some) = run(&[&first, &second]);
    assert_eq!(none, 0);
    assert!(some > 10, "{some} of 32 tiles");
    assert!(fresh == reused, "reused tiles differ from restored ones");
}
