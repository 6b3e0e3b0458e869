// SPDX-License-Identifier: MIT OR Apache-2.0
//! The job `archive`: the same bits whole, twice, in chunks from seeks, killed and gone on with; 16 bits stay 16.

use std::path::Path;
use std::process::Command;

use crate::archive::{Archive, scene};
use crate::rig::{HERE, text, until};

/// What a run leaves, all of which must be equal.
const FILES: [&str; 5] =
    ["out.mkv", "out.mkv.jsonl", "out.mkv.in.framemd5", "out.mkv.out.framemd5", "out.mkv.changes.png"];

/// The recipe with another length of chunks.
fn recipe(place: &Archive, chunk: u32) -> String {
    let text = std::fs::read_to_string(Path::new(HERE).join("archive/pipeline.toml")).unwrap();
    let other = text.replace("chunk = 250", &format!("chunk = {chunk}"));
    assert_ne!(text, other);
    std::fs::write(place.at("pipeline.toml"), other).unwrap();
    place.at("pipeline.toml")
}

fn i2sb_run(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_i2sb-run"));
    command.args(args).env("I2SB_MODEL_PATH", Path::new(HERE).join("../weights"));
    command
}

fn good(args: &[&str]) {
    let done = i2sb_run(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", text(&done));
}

#[test]
fn whole_twice_in_chunks_and_after_a_kill_the_files_are_equal() {
    let place = Archive::new();
    // Long groups of pictures, so that a seek does not land on its frame; and sound.
    let made = format!(
        "{} -f lavfi -i sine=d=0.48 -c:v libx264 -g 7 -bf 2 -pix_fmt yuv420p10le -colorspace bt709 -color_range tv \
         -color_primaries bt709 -color_trc bt709 -c:a pcm_s16le",
        scene("64x48", 0.48, "25")
    );
    let source = place.ffmpeg("in.mkv", &made);
    // Noise, a frame's own, where a mask says that the picture is lost.
    let hole = image::GrayImage::from_fn(64, 48, |x, y| {
        image::Luma([if x / 8 == 3 && y / 8 == 2 { 255 } else { 0 }])
    });
    hole.save(place.at("hole.png")).unwrap();
    let hole = format!("inpaint-mask={}", place.at("hole.png"));
    let set = ["--set", &hole, "--set", "steps=2", "--set", "seed=5"];
    for folder in ["whole", "again", "killed", "fleet"] {
        std::fs::create_dir(place.at(folder)).unwrap();
    }
    for folder in ["whole", "again"] {
        place.good(&[&[&*source, &place.at(&format!("{folder}/out.mkv"))], &set[..]].concat());
    }
    // Killed in the second of six chunks, and once more in the fourth.
    let (recipe, out) = (recipe(&place, 2), place.at("killed/out.mkv"));
    let mut options = vec!["--recipe", &recipe, &source, &out, "--model", "jpeg-nano", "--device", "cpu"];
    options.extend(set);
    for chunk in [1, 3] {
        let mut child = i2sb_run(&options).spawn().unwrap();
        let before = format!("{out}.job/chunks/{:06}.json", chunk - 1);
        until(&mut || Path::new(&before).exists());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(!Path::new(&out).exists(), "killed too late to show anything");
    // Nothing that was done is done again.
    let done = |chunk: u32| {
        std::fs::metadata(format!("{out}.job/chunks/{chunk:06}.mkv")).unwrap().modified().unwrap()
    };
    let before = done(0);
    place.bad(3, &[&source, &out, "--set", "seed=6"], "holds an unfinished job with other settings");
    assert_eq!(done(0), before);
    good(&options);
    assert!(!Path::new(&format!("{out}.job")).exists() && !Path::new(&format!("{out}.part")).exists());
    // Many workers.
    let job = place.at("job");
    let mut plan = vec!["fleet", "plan", &source, &job, "--recipe", &recipe, "--chunk", "5"];
    plan.extend(set);
    good(&[&plan[..], &["--set", "model=jpeg-nano", "--set", "device=cpu"]].concat());
    let both = [(); 2].map(|()| i2sb_run(&["fleet", "work", &job]).spawn().unwrap());
    both.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    good(&["fleet", "join", &job, &place.at("fleet/out.mkv")]);
    for file in FILES {
        let whole = std::fs::read(place.at(&format!("whole/{file}"))).unwrap();
        for folder in ["again", "killed", "fleet"] {
            let other = std::fs::read(place.at(&format!("{folder}/{file}"))).unwrap();
            assert!(other == whole, "{folder}/{file} differs");
        }
    }
    // The noise is there: another seed, another output; the input is the same.
    place.good(&[&source, &place.at("other.mkv"), "--set", &hole, "--steps", "2", "--set", "seed=6"]);
    assert_ne!(place.read("other.mkv.out.framemd5"), place.read("whole/out.mkv.out.framemd5"));
    assert_eq!(place.read("other.mkv.in.framemd5"), place.read("whole/out.mkv.in.framemd5"));
}

/// Grey samples of a frame of 256 by 256 pixels, by ffmpeg.
fn grey(place: &Archive, file: &str) -> Vec<u16> {
    let raw = place.ffmpeg("raw", &format!("-i {file} -frames:v 1 -pix_fmt gray16le -f rawvideo"));
    let bytes = std::fs::read(raw).unwrap();
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn a_ramp_of_sixteen_bits_keeps_every_step() {
    let place = Archive::new();
    // Every value once, from black to white.
    let made = "-f lavfi -i nullsrc=s=256x256:d=0.08:r=25,format=gray16le,geq=lum=Y*256+X -c:v ffv1 -pix_fmt gray16le -color_range pc";
    let source = place.ffmpeg("ramp.mkv", made);
    let before = grey(&place, &source);
    assert_eq!(before, (0..=u16::MAX).collect::<Vec<_>>());
    let mask = image::GrayImage::from_fn(256, 256, |x, _| image::Luma([if x < 128 { 255 } else { 0 }]));
    mask.save(place.at("mask.png")).unwrap();
    let protect = format!("protect-mask={}", place.at("mask.png"));
    let out = place.at("out.mkv");
    place.good(&[&source, &out, "--set", &protect]);
    let after = grey(&place, &out);
    let halves = |left: bool| (0..65536usize).filter(move |n| (n % 256 < 128) == left);
    // Where nothing may change: every bit.
    assert!(halves(true).all(|n| before[n] == after[n]));
    // Where it is restored: not moved as a whole, and still with nearly as many steps as there were.
    let change: Vec<f64> = halves(false).map(|n| f64::from(after[n]) - f64::from(before[n])).collect();
    let mean = change.iter().sum::<f64>() / change.len() as f64;
    let steps: std::collections::BTreeSet<u16> = halves(false).map(|n| after[n]).collect();
    println!("mean change {mean:.2} of 65535, {} of 32768 steps", steps.len());
    assert!(change.iter().any(|&change| change != 0.0) && mean.abs() < 65.0, "mean change {mean}");
    assert!(steps.len() > 16_384, "{} of 32768 steps", steps.len());
}

#[test]
fn a_restored_picture_that_changed_is_named_by_its_frame() {
    let place = Archive::new();
    std::fs::create_dir(place.at("scan")).unwrap();
    place.ffmpeg("scan/a_%04d.dpx", &format!("{} -pix_fmt gbrp10le", scene("96x64", 0.2, "24")));
    for folder in ["whole", "fleet"] {
        std::fs::create_dir(place.at(folder)).unwrap();
    }
    place.good(&[&place.at("scan"), &place.at("whole/out/%06d.tif"), "--framerate", "24"]);
    let (job, out) = (place.at("job"), place.at("fleet/out"));
    let recipe = Path::new(HERE).join("archive/pipeline.toml");
    let plan = ["fleet", "plan", &place.at("scan"), &job, "--recipe", recipe.to_str().unwrap()];
    let options = ["--chunk", "2", "--framerate", "24", "--pictures", "tif"];
    good(&[&plan[..], &options, &["--set", "model=jpeg-nano", "--set", "device=cpu"]].concat());
    good(&["fleet", "work", &job]);
    // One bit of frame 3, the second of the second chunk.
    let picture = format!("{job}/chunks/000001.pictures/000003.tif");
    let intact = std::fs::read(&picture).unwrap();
    let mut wrong = intact.clone();
    wrong[intact.len() / 2] ^= 0x80;
    std::fs::write(&picture, wrong).unwrap();
    let done = i2sb_run(&["fleet", "join", &job, &out]).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("frame 3 of") && text(&done).contains("000001.json"), "{}", text(&done));
    assert_eq!(std::fs::read_dir(place.at("fleet")).unwrap().count(), 0);
    std::fs::write(&picture, intact).unwrap();
    good(&["fleet", "join", &job, &out]);
    for file in ["out.jsonl", "out.in.framemd5", "out.out.framemd5", "out.changes.png", "out/a_0004.tif"] {
        let [whole, fleet] =
            ["whole", "fleet"].map(|folder| std::fs::read(place.at(&format!("{folder}/{file}"))).unwrap());
        assert!(whole == fleet, "{file} differs");
    }
}
