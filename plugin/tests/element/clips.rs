// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real clips: the one that is shipped, and those beside the workspace where there are any.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::prelude::*;

use crate::library::{run, tool};
use crate::play::{Pipeline, Time};

/// The clip that the project ships.
pub fn shipped_clip() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/clips/cockatoo.mp4")
}

/// Frames of which a gain is measured.
const FRAMES: usize = 4;

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

/// Times of the video frames in a file.
fn times(file: &Path) -> Vec<Time> {
    let pipeline = Pipeline::new(&format!(
        "filesrc location={} ! decodebin ! videoconvert name=c ! fakesink",
        file.display()
    ));
    let times = pipeline.times("c", "sink");
    pipeline.run();
    std::mem::take(&mut *times.lock().unwrap())
}

/// The main job as a user types it, with the embedded network; scaled down, so that every frame of every
/// clip can go through it.
#[test]
fn gst_launch_writes_every_frame_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    for clip in clips() {
        let target = folder.path().join("out.mp4");
        let mut command = tool("gst-launch-1.0", folder.path());
        let [source, sink] = [&clip, &target].map(|path| format!("location={}", path.display()));
        command.args(["filesrc", &source, "!", "decodebin", "!", "videoconvert", "!", "videoscale", "!"]);
        command.args(["video/x-raw,width=96,height=64", "!", "i2sbrestore", "!", "videoconvert", "!"]);
        command.args(["x264enc", "!", "mp4mux", "!", "filesink", &sink]);
        run(command);
        let (before, after) = (times(&clip), times(&target));
        assert!(
            before.len() > 10 && before.len() == after.len(),
            "{}: {} {}",
            clip.display(),
            before.len(),
            after.len()
        );
        // The file starts with its first frame; a clip may not.
        let since = |times: &[Time]| -> Vec<_> {
            times.iter().map(|time| time.0.expect("a time") - times[0].0.expect("a time")).collect()
        };
        for (index, (a, b)) in since(&before).into_iter().zip(since(&after)).enumerate() {
            let apart = a.max(b) - a.min(b);
            assert!(apart <= gst::ClockTime::MSECOND, "{}: frame {index} at {a} and {b}", clip.display());
        }
        println!("{}: {} frames", clip.display(), after.len());
    }
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

/// A clean picture of known origin, spoilt, restored: luma against luma.
fn gain(source: &str, spoil: &str) -> (f64, f64) {
    let pipeline = Pipeline::new(&format!(
        "{source} ! video/x-raw,format=I420 ! identity eos-after={} ! identity name=clean ! {spoil} ! videoconvert \
         ! video/x-raw,format=I420 ! i2sbrestore name=r ! fakesink",
        FRAMES + 1
    ));
    let frames = |name: &str, pad: &str| {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = frames.clone();
        pipeline.element(name).static_pad(pad).unwrap().add_probe(
            gst::PadProbeType::BUFFER,
            move |pad, info| {
                let mut seen = seen.lock().unwrap();
                // A frame or two may be on their way when the stream is ended.
                if seen.len() < FRAMES {
                    seen.push(luma(pad, info.buffer().unwrap()));
                }
                gst::PadProbeReturn::Ok
            },
        );
        frames
    };
    let (clean, spoilt, restored) = (frames("clean", "sink"), frames("r", "sink"), frames("r", "src"));
    pipeline.run();
    let clean = clean.lock().unwrap();
    assert_eq!(clean.len(), FRAMES);
    (psnr(&clean, &spoilt.lock().unwrap()), psnr(&clean, &restored.lock().unwrap()))
}

#[test]
fn the_embedded_network_brings_frames_closer_to_their_clean_source() {
    let size = "videoscale ! video/x-raw,width=320,height=180,pixel-aspect-ratio=1/1";
    for clip in clips() {
        let name = clip.file_name().unwrap().to_string_lossy().into_owned();
        // Scaled down to a quarter the shipped clip has lost what its own compression left in it.
        let scaled = match name.as_str() {
            "cockatoo.mp4" => format!("! {size} "),
            name if name.contains("_ffv1_") => String::new(),
            _ => continue,
        };
        let source = format!("filesrc location={} ! decodebin {scaled}! videoconvert", clip.display());
        let spoils = [
            ("jpegenc quality=15 ! jpegdec", 0.4),
            ("jpegenc quality=60 ! jpegdec", 0.4),
            // Made for JPEG, the network helps a little with what another codec left.
            ("x264enc pass=quant quantizer=34 bframes=0 ! avdec_h264", 0.02),
            ("x264enc pass=quant quantizer=40 bframes=0 ! avdec_h264", 0.05),
        ];
        for (spoil, least) in spoils {
            let (before, after) = gain(&source, spoil);
            println!("{name}, {spoil}: {before:.2} dB before, {after:.2} dB after");
            assert!(after > before + least, "{name}, {spoil}: {before} -> {after}");
        }
    }
}
