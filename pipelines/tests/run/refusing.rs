// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cannot be, or must not be unasked, is said before anything is lost; exit codes tell which.

use std::path::Path;

use crate::rig::{HERE, clip, log_lines, make_file, run, text};

#[test]
fn what_cannot_be_is_said_before_anything_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let clip = clip();
    let (clip, target_text) = (clip.to_str().unwrap(), target.to_str().unwrap());
    let webm = folder.path().join("out.webm");
    let text_file = Path::new(HERE).join("Cargo.toml");
    let cases: [(&[&str], &str); 6] = [
        (&[clip, "out.txt"], "mkv"),
        (&[clip, clip], "same"),
        (&["absent.mp4", target_text], "absent.mp4"),
        (&[clip, target_text, "--model", "no-such"], "no-such"),
        (&[clip, webm.to_str().unwrap(), "--strength", "0"], ".mkv can hold"),
        (&[text_file.to_str().unwrap(), target_text], "text"),
    ];
    for (args, word) in cases {
        let output = run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(text(&output).contains(word), "{args:?}: {}", text(&output));
    }
    assert!(!target.exists() && !webm.exists());
    let strength = run(&[clip, target_text, "--strength", "7"]);
    assert!(text(&strength).contains("strength"), "{}", text(&strength));
}

#[test]
fn values_beyond_their_range_are_refused_with_the_range() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let clip = clip();
    let (clip, target_text) = (clip.to_str().unwrap(), target.to_str().unwrap());
    let cases: [(&[&str], &str); 7] = [
        (&["--steps", "5000"], "steps cannot be \"5000\": from -1 to "),
        (&["--set", "steps=5000"], "steps cannot be \"5000\": from -1 to "),
        (&["--set", "steps=-2"], "steps cannot be \"-2\": from -1 to "),
        (&["--set", "tile-size=999999999999"], "tile-size cannot be \"999999999999\""),
        (&["--strength", "2"], "strength cannot be \"2\": from 0 to 1"),
        (&["--strength", "nan"], "strength cannot be \"NaN\""),
        (&["--set", "compare=yes"], "compare cannot be \"yes\""),
    ];
    for (args, word) in cases {
        let output = run(&[&[clip, target_text], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
        assert!(text(&output).contains(word), "{args:?}: {}", text(&output));
    }
    let job = folder.path().join("job");
    let mut plan = crate::rig::bare();
    plan.args(["fleet", "plan", clip, job.to_str().unwrap(), "--set", "steps=5000"]);
    let output = plan.output().expect("i2sb-run runs");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(!target.exists() && !job.exists());
}

#[test]
fn options_and_endings_of_other_kinds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [file, pictures] = ["out.mp4", "pictures"].map(|name| folder.path().join(name));
    let clip = clip();
    let (clip, file, pictures) = (clip.to_str().unwrap(), file.to_str().unwrap(), pictures.to_str().unwrap());
    std::fs::create_dir(pictures).unwrap();
    let cases: [(&str, &[&str], &str); 6] = [
        (
            "compressed-video",
            &[clip, file, "--encoder", "nosuch"],
            "--encoder nosuch: it is for recipes of kind stream",
        ),
        ("compressed-video", &[pictures, file, "--encoder", "h264"], "--encoder h264"),
        ("archive", &[clip, file, "--encoder", "h264"], "--encoder h264"),
        (
            "broadcast",
            &[clip, file, "--framerate", "24"],
            "--framerate 24: it is for recipes of kind archive",
        ),
        ("broadcast", &[clip, file, "--encoder", "nosuch"], "ts, mts, m2ts"),
        ("broadcast", &[clip, file], "ts, mts, m2ts"),
    ];
    for (job, args, word) in cases {
        let output = crate::rig::runner(job).args(args).output().expect("i2sb-run runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
        assert!(text(&output).contains(word), "{args:?}: {}", text(&output));
    }
    assert!(!Path::new(file).exists());
    let help = crate::rig::bare().arg("--help").output().expect("i2sb-run runs");
    assert!(text(&help).contains("bf16 or int8"), "{}", text(&help));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target, log] = ["in.mkv", "out.mkv", "log"].map(|name| folder.path().join(name));
    make_file(&format!(
        "videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48 ! jpegenc ! matroskamux ! filesink location={}",
        source.display()
    ));
    let (source, target_text) = (source.to_str().unwrap(), target.to_str().unwrap());
    std::fs::write(&target, "precious").unwrap();
    let refused = run(&[source, target_text, "--log", log.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    let lines = log_lines(&log);
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((events, &lines[2]["exit"]), (vec!["start", "error", "end"], &3.into()));

    // Another run that holds the place.
    let part = std::fs::File::create(folder.path().join("out.mkv.part")).unwrap();
    part.lock().unwrap();
    let second = run(&[source, target_text, "--force"]);
    assert_eq!(second.status.code(), Some(3), "{}", text(&second));
    assert!(text(&second).contains("another run"), "{}", text(&second));
    drop(part);

    let forced = run(&[source, target_text, "--force", "--log", log.to_str().unwrap()]);
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced));
    assert!(std::fs::metadata(&target).unwrap().len() > 1000);
    let end = log_lines(&log).pop().unwrap();
    assert_eq!((&end["exit"], &end["counted"]["frames-out"]), (&0.into(), &3.into()));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");

    // A folder of pictures, too.
    let [pictures, done] = ["pictures", "done"].map(|name| folder.path().join(name));
    for (place, name) in [(&pictures, "a.jpg"), (&done, "a.png")] {
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join(name), "precious").unwrap();
    }
    let refused = run(&[pictures.to_str().unwrap(), done.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert_eq!(std::fs::read_to_string(done.join("a.png")).unwrap(), "precious");
}

#[test]
fn a_full_disk_is_named_and_leaves_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    let [source, target] = ["in.mkv", "out.mkv"].map(|name| folder.path().join(name));
    make_file(&format!(
        "videotestsrc pattern=snow num-buffers=60 ! video/x-raw,width=320,height=240 ! jpegenc quality=95 ! matroskamux ! filesink location={}",
        source.display()
    ));
    // Files of this shell's children may not grow beyond 64 blocks of 1024 bytes; writing then fails as on a
    // full disk.
    let mut command = std::process::Command::new("bash");
    let runner = crate::rig::runner("compressed-video");
    command.envs(runner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["-c", "ulimit -f 64; trap '' XFSZ; exec \"$@\"", "bash"]);
    command.arg(runner.get_program()).args(runner.get_args()).arg(&source).arg(&target);
    let output = command.args(["--strength", "0"]).output().expect("bash runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("out.mkv: "), "{}", text(&output));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["in.mkv"]);
}
