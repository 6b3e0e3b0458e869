// SPDX-License-Identifier: MIT OR Apache-2.0
//! The declared latency beside the one that GStreamer's latency tracer measures, in a process of its own.

use std::sync::atomic::Ordering::SeqCst;

use crate::actor::control;
use crate::play::Pipeline;
use crate::soak::{again, pass};

/// The latency that is declared, in nanoseconds.
const DECLARED: u64 = 200_000_000;
/// What a busy machine may add before a thread that is due runs.
const SLACK: u64 = 100_000_000;

#[test]
fn the_declared_latency_is_held_under_load() {
    let mut command = again("traced::live_under_load");
    command.env("GST_TRACERS", "latency(flags=element+reported)");
    command.env("GST_DEBUG", "GST_TRACER:7").env("GST_DEBUG_NO_COLOR", "1");
    let text = pass(command, "latency tracer");
    let of = |kind: &str, field: &str| -> Vec<u64> {
        let lines = text.lines().filter(|line| line.contains(kind) && line.contains("(string)restore,"));
        let value = |line: &str| {
            let (_, rest) = line.split_once(&format!("{field}=(guint64)"))?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        lines.filter_map(value).collect()
    };
    let (told, measured) = (of(" element-reported-latency,", "min"), of(" element-latency,", "time"));
    println!("told {told:?}; measured at most {:?} of {}", measured.iter().max(), measured.len());
    assert!(!told.is_empty() && told.iter().all(|&min| min == told[0] && min >= DECLARED), "{told:?}");
    assert!(measured.len() >= 70, "{}", measured.len());
    let most = *measured.iter().max().unwrap();
    // It was under load, and yet in time.
    assert!((DECLARED - 50_000_000..DECLARED + SLACK).contains(&most), "{most}");
}

#[test]
#[ignore = "run by the_declared_latency_is_held_under_load"]
fn live_under_load() {
    let actor = control("traced", 10);
    let pipeline = Pipeline::new(&format!(
        "videotestsrc is-live=true num-buffers=75 ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 \
         ! i2sbrestore name=restore model=act:traced late-frames=pass-through latency={DECLARED} \
         ! fakesink name=out sync=true"
    ));
    let times = pipeline.times("out", "sink");
    // Every third second of the work takes ten times as long as there is time for.
    let seen = times.clone();
    let load = std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let frames = seen.lock().unwrap().len();
            actor.cost.store(if (25..50).contains(&frames) { 100 } else { 0 }, SeqCst);
            if frames >= 70 {
                return;
            }
        }
    });
    pipeline.run();
    load.join().unwrap();
    assert_eq!(times.lock().unwrap().len(), 75, "no frame is lost");
}
