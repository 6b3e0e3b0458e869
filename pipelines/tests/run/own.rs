// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--pipeline`: what gst-launch-1.0 would take, with everything that a recipe has around it; and metrics.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::ending::{code, signal};
use crate::rig::{bare, log_lines, streams, text, until};

#[test]
fn a_pipeline_of_ones_own_runs_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let [target, log] = ["out.mkv", "log"].map(|name| folder.path().join(name));
    let description = format!(
        "videotestsrc num-buffers=6 ! video/x-raw,width=64,height=48 ! i2sbrestore ! videoconvert ! x264enc \
         ! matroskamux ! filesink location={}",
        target.display()
    );
    let run = |more: &[&str]| {
        let mut command = bare();
        command.args(["--pipeline", &description]).args(more).output().expect("i2sb-run runs")
    };
    let done = run(&["--strength", "0", "--log", log.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(
        text(&done).contains("of 6 frames") && text(&done).contains("6 passed through"),
        "{}",
        text(&done)
    );
    assert_eq!(streams(&target).0.len(), 6);
    let lines = log_lines(&log);
    assert_eq!((&lines[0]["event"], &lines[0]["pipeline"]), (&"start".into(), &description.clone().into()));
    let end = lines.last().unwrap();
    assert_eq!((&end["exit"], &end["counted"]["frames-out"]), (&0.into(), &6.into()));
    // The file is there now.
    let again = run(&[]);
    assert_eq!(again.status.code(), Some(3), "{}", text(&again));
    assert!(text(&again).contains("--force"), "{}", text(&again));
    assert_eq!(run(&["--force"]).status.code(), Some(0));
}

#[test]
fn what_is_no_pipeline_of_ours_is_said() {
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--pipeline", "videotestsrc ! fakesink"], 2, "no i2sbrestore"),
        (&["--pipeline", "videotestsrc ! i2sbrestore ! absent ! fakesink"], 2, "absent"),
        (&["--pipeline", "videotestsrc ! ! i2sbrestore"], 2, "syntax"),
        (
            &["--pipeline", "filesrc location=/no/such/file ! decodebin ! i2sbrestore ! fakesink"],
            1,
            "/no/such",
        ),
        (
            &[
                "--pipeline",
                "audiotestsrc num-buffers=1 ! fakesink videotestsrc num-buffers=0 ! i2sbrestore ! fakesink",
            ],
            1,
            "no frame",
        ),
        (&["--pipeline", "videotestsrc ! i2sbrestore ! fakesink", "in", "out"], 2, "cannot be used with"),
    ];
    for (args, exit, word) in cases {
        let done = bare().args(args).output().expect("i2sb-run runs");
        assert_eq!(done.status.code(), Some(exit), "{args:?}: {}", text(&done));
        assert!(text(&done).contains(word), "{args:?}: {}", text(&done));
    }
}

#[test]
fn a_signal_ends_a_live_pipeline_with_a_playable_file() {
    let folder = tempfile::tempdir().unwrap();
    let [target, log] = ["out.mp4", "log"].map(|name| folder.path().join(name));
    let description = format!(
        "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=25/1 ! i2sbrestore ! videoconvert \
         ! x264enc tune=zerolatency ! mp4mux name=m ! filesink location={} audiotestsrc is-live=true ! avenc_aac ! m.",
        target.display()
    );
    let mut command = bare();
    command.args(["--pipeline", &description, "--log"]).arg(&log);
    let mut child = command.spawn().expect("i2sb-run runs");
    let most = |log: &Path| log_lines(log).iter().filter_map(|line| line["frames"].as_u64()).max();
    until(&mut || most(&log) > Some(0));
    signal(&child, "-TERM");
    assert_eq!(code(&mut child), Some(130));
    let (times, sound) = streams(&target);
    let end = log_lines(&log).pop().unwrap();
    assert_eq!(end["counted"]["frames-out"].as_u64(), Some(times.len() as u64));
    assert!(!times.is_empty() && !sound.is_empty());
}

/// One request; status line, headers and body as they came.
fn get(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads the text format by its grammar: samples by name with labels; every family has TYPE and HELP, counters
/// end in `_total`, the end is marked.
fn parse(body: &str) -> std::collections::BTreeMap<String, f64> {
    let (mut kinds, mut samples) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    assert!(body.ends_with("# EOF\n"), "{body}");
    for line in body.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => drop(kinds.insert(name.to_string(), kind.to_string())),
            ["#", "HELP", name, ..] => assert!(words.len() > 3 && name.starts_with("i2sb_"), "{line}"),
            ["#", "EOF"] => {}
            _ => {
                let (name, value) = line.rsplit_once(' ').expect("a sample");
                let family = name.split('{').next().unwrap();
                let value: f64 = value.parse().expect("a number");
                let kind = |ending: &str| family.strip_suffix(ending).and_then(|name| kinds.get(name));
                let known = kind("_total").is_some_and(|kind| kind == "counter")
                    || kind("_info").is_some_and(|kind| kind == "info")
                    || kinds.get(family).is_some_and(|kind| kind == "gauge");
                assert!(known, "{line}");
                assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
            }
        }
    }
    samples
}

#[test]
fn prometheus_reads_what_the_element_counts() {
    let mut command = bare();
    let description = "videotestsrc is-live=true ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 \
                       ! i2sbrestore latency=120000000 strength=0 ! fakesink sync=true";
    command.args(["--pipeline", description, "--metrics", "127.0.0.1:0"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("i2sb-run runs");
    let mut told = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("http://") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it ended");
    }
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let scrape = || {
        let answer = get(&address, "GET /metrics");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("openmetrics-text; version=1.0.0"),
            "{head}"
        );
        parse(body)
    };
    until(&mut || scrape().get("i2sb_frames_out_total").is_some_and(|&frames| frames >= 3.0));
    let (first, second) = (scrape(), scrape());
    for name in ["in", "out", "restored", "bypassed", "late", "failed"] {
        let name = format!("i2sb_frames_{name}_total");
        assert!(first[&name] <= second[&name], "{name}");
    }
    assert_eq!(second["i2sb_frames_restored_total"], 0.0);
    assert!(second["i2sb_frames_bypassed_total"] >= 3.0);
    assert!(second["i2sb_latency_seconds"] >= 0.12 && second["i2sb_uptime_seconds"] > 0.0);
    assert!(second.contains_key("i2sb_frame_ms_p50") && second.contains_key("i2sb_frame_ms_p95"));
    let model = second.keys().find(|name| name.starts_with("i2sb_model_info{")).expect("a model");
    assert!(model.contains("model=\"video-small-v4\"") && model.contains("device=\"cpu\""), "{model}");
    assert!(get(&address, "GET /").starts_with("HTTP/1.1 404"));
    assert!(get(&address, "POST /metrics").starts_with("HTTP/1.1 405"));
    signal(&child, "-INT");
    std::io::Read::read_to_end(&mut told, &mut Vec::new()).unwrap();
    assert_eq!(code(&mut child), Some(130));
}

#[test]
fn metrics_that_cannot_be_are_said_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, exit, word) in
        [(taken.as_str(), 1, "in use"), ("0.0.0.0:0", 2, "--metrics-public"), ("localhost", 2, "HOST:PORT")]
    {
        let pipeline = "videotestsrc num-buffers=1 ! i2sbrestore ! fakesink";
        let done = bare().args(["--pipeline", pipeline, "--metrics", address]).output().unwrap();
        assert_eq!(done.status.code(), Some(exit), "{}", text(&done));
        assert!(text(&done).contains(word), "{}", text(&done));
    }
}
