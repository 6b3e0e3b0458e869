// SPDX-License-Identifier: MIT OR Apache-2.0
//! The job `compressed-video`.

use gst::prelude::*;

use crate::rig::{LIMIT, clip, gst_pipeline, make_file, run, streams, text};

#[test]
fn a_video_keeps_its_frames_times_and_sound() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let output = run(&[clip().to_str().unwrap(), target.to_str().unwrap(), "--strength", "0"]);
    assert!(output.status.success(), "{}", text(&output));
    let (before, sound) = streams(&clip());
    let (after, copied) = streams(&target);
    assert_eq!(before.len(), after.len());
    // Matroska counts milliseconds.
    let start = |times: &[gst::ClockTime]| times[0].mseconds();
    for (a, b) in before.iter().zip(&after) {
        let (a, b) = (a.mseconds() - start(&before), b.mseconds() - start(&after));
        assert!(a.abs_diff(b) <= 1, "{a} {b}");
    }
    assert!(!sound.is_empty() && sound == copied, "{} {}", sound.len(), copied.len());
    let picture = folder.path().join("out.mkv.before-after.png");
    // Both frames, and below them a strip of each.
    let picture = image::open(picture).unwrap();
    assert_eq!((picture.width(), picture.height()), (2 * 1280 + 4, 720 + 4 + 4 * 96));
    assert!(text(&output).contains("42 passed through"), "{}", text(&output));
}

#[test]
fn every_container_of_the_recipe_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    // A source without sound, which not every container could hold.
    let source = folder.path().join("in.mkv");
    make_file(&format!(
        "videotestsrc num-buffers=10 ! video/x-raw,width=64,height=48 ! jpegenc ! matroskamux ! filesink location={}",
        source.display()
    ));
    for ending in ["mp4", "m4v", "mov", "mkv", "ts", "avi", "webm", "ogv"] {
        let target = folder.path().join(format!("out.{ending}"));
        let output = run(&[source.to_str().unwrap(), target.to_str().unwrap(), "--compare", "split"]);
        assert!(output.status.success(), "{ending}: {}", text(&output));
        assert!(text(&output).contains("10 restored of 10 frames"), "{ending}: {}", text(&output));
    }
}

#[test]
fn pictures_of_odd_width_and_height_find_an_encoder_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in.mkv");
    make_file(&format!(
        "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=65,height=47 ! jpegenc ! matroskamux \
         ! filesink location={}",
        source.display()
    ));
    for ending in ["mp4", "mov", "mkv", "ts", "avi", "webm", "ogv"] {
        // Into a folder that is not there yet.
        let target = folder.path().join(ending).join(format!("out.{ending}"));
        let output = run(&[source.to_str().unwrap(), target.to_str().unwrap()]);
        assert!(text(&output).contains("3 restored of 3 frames"), "{ending}: {}", text(&output));
        let picture = image::open(format!("{}.before-after.png", target.display())).unwrap();
        assert_eq!((picture.width(), picture.height()), (2 * 65 + 4, 47), "{ending}");
    }
}

#[test]
fn a_folder_of_pictures_becomes_a_folder_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input).unwrap();
    for (name, width, height) in [("a.jpg", 48, 32), ("b.JPEG", 33, 57)] {
        let picture =
            image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 5) as u8, (y * 4) as u8, 99]));
        let caps = format!("video/x-raw,format=RGB,width={width},height={height},framerate=1/1");
        let pipeline = gst_pipeline(&format!(
            "appsrc name=s caps={caps} ! videoconvert ! jpegenc quality=20 ! filesink location={}",
            input.join(name).display()
        ));
        let source = pipeline.by_name("s").unwrap();
        let stride = (3 * width as usize).next_multiple_of(4);
        let mut rows = vec![0; stride * height as usize];
        for (row, pixels) in rows.chunks_mut(stride).zip(picture.as_raw().chunks(3 * width as usize)) {
            row[..pixels.len()].copy_from_slice(pixels);
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        let _: gst::FlowReturn = source.emit_by_name("push-buffer", &[&gst::Buffer::from_mut_slice(rows)]);
        let _: gst::FlowReturn = source.emit_by_name("end-of-stream", &[]);
        pipeline.bus().unwrap().timed_pop_filtered(LIMIT, &[gst::MessageType::Eos]).expect("an end");
        pipeline.set_state(gst::State::Null).unwrap();
    }
    std::fs::write(input.join("broken.jpg"), "no picture").unwrap();
    let done = run(&[input.to_str().unwrap(), output.to_str().unwrap()]);
    assert!(!done.status.success() && text(&done).contains("broken.jpg"), "{}", text(&done));
    for (name, size) in [("a.png", (48, 32)), ("b.png", (33, 57))] {
        let picture = image::open(output.join(name)).unwrap();
        assert_eq!((picture.width(), picture.height()), size);
    }
    assert!(!output.join("broken.png").exists() && !output.join("broken.part").exists());
}

#[test]
fn pictures_are_turned_upright_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir(&input).unwrap();
    let fixtures = std::path::Path::new(crate::rig::HERE).join("../tests/fixtures/pictures");
    // One that says nothing comes after one that does.
    let pictures = [("a", "turned.jpg"), ("b", "quality80-422.jpg"), ("c", "turned.jpg"), ("d", "grey.jpg")];
    for (name, from) in pictures {
        std::fs::copy(fixtures.join(from), input.join(format!("{name}.jpg"))).unwrap();
    }
    let done = run(&[input.to_str().unwrap(), output.to_str().unwrap(), "--strength", "0"]);
    assert!(done.status.success(), "{}", text(&done));
    for (name, from) in pictures {
        let upright = image::open(fixtures.join(format!("expected/{from}.png"))).unwrap().to_rgb8();
        let made = image::open(output.join(format!("{name}.png"))).unwrap().to_rgb8();
        assert_eq!(made.dimensions(), upright.dimensions(), "{from}");
        let differences = made.as_raw().iter().zip(upright.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / made.as_raw().len() as f64;
        // Decoders differ by how they enlarge colours; a picture that lies on its side is off by tens.
        assert!(mean < 8.0, "{from}: {mean}");
    }
}
