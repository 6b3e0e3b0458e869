// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams over UDP, RTP and SRT; a run that is changed while it plays; a model that fails and comes back.

use std::path::Path;

use crate::air::{Kind, TOP_FIRST, make};
use crate::onair::{Job, Playing, assert_all, assert_steady, frames_of, port, send};
use crate::rig::{HERE, bare, text, until};

const FRAMES: usize = 75;

/// Sends a file through the job and compares what comes out with it, frame by frame.
fn through(input: &str, output: &str, sink: &str, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let [file, record] = ["in.ts", "record.ts"].map(|name| folder.path().join(name));
    let kind = Kind::h264(TOP_FIRST, 25);
    make(kind, FRAMES, (64, 48), &file);
    let recorder = format!("{source} ! filesink location={}", record.display());
    // A peer that calls needs somebody who listens.
    let early = (!output.contains("listener")).then(|| Playing::new(&recorder));
    let job = Job::start(folder.path(), input, output, &["--wait", "20"]);
    let sender = send(&file, sink);
    until(&mut || job.most("taken") > 0);
    let recorder = early.unwrap_or_else(|| Playing::new(&recorder));
    until(&mut || sender.has_ended());
    until(&mut || job.most("frames") as usize > FRAMES);
    assert!(job.told("news", "latency_ms"));
    let counted = job.end();
    recorder.end();
    let (frames, seen) = frames_of(kind, FRAMES, &record);
    assert_all(&frames, FRAMES);
    assert!(frames.len() > FRAMES / 3, "{frames:?}");
    assert_steady(&seen, 25);
    assert!(counted["frames-filled"].as_u64() > Some(0) && counted["failed"] == 0, "{counted}");
}

#[test]
fn udp_to_rtp() {
    let (a, b) = (port(), port());
    through(
        &format!("udp://127.0.0.1:{a}"),
        &format!("rtp://127.0.0.1:{b}"),
        &format!("udpsink host=127.0.0.1 port={a}"),
        &format!(
            "udpsrc port={b} caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T ! rtpmp2tdepay"
        ),
    );
}

#[test]
fn rtp_to_udp() {
    let (a, b) = (port(), port());
    through(
        &format!("rtp://127.0.0.1:{a}"),
        &format!("udp://127.0.0.1:{b}"),
        &format!("rtpmp2tpay ! udpsink host=127.0.0.1 port={a}"),
        &format!("udpsrc port={b}"),
    );
}

#[test]
fn srt_to_srt() {
    let (a, b) = (port(), port());
    through(
        &format!("srt://127.0.0.1:{a}?mode=listener"),
        &format!("srt://127.0.0.1:{b}?mode=listener"),
        &format!("srtsink uri=srt://127.0.0.1:{a}?mode=caller"),
        &format!("srtsrc uri=srt://127.0.0.1:{b}?mode=caller"),
    );
}

/// A preset whose weights are no numbers, and how to make it whole.
fn broken_model(folder: &Path) -> impl Fn() {
    let whole = Path::new(HERE).join("../weights/jpeg-nano-v6");
    let broken = folder.join("model");
    std::fs::create_dir(&broken).unwrap();
    std::fs::copy(whole.join("config.toml"), broken.join("config.toml")).unwrap();
    let weights = std::fs::read(whole.join("model.safetensors")).unwrap();
    let mut wrong = weights.clone();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    wrong[header..].fill(0x7e);
    std::fs::write(broken.join("model.safetensors"), &wrong).unwrap();
    move || std::fs::write(broken.join("model.safetensors"), &weights).unwrap()
}

#[test]
fn the_picture_stays_on_air_while_the_model_fails_and_changes() {
    let folder = tempfile::tempdir().unwrap();
    let [file, record, socket] = ["in.ts", "record.ts", "socket"].map(|name| folder.path().join(name));
    let (kind, frames) = (Kind::h264("", 25), 250);
    make(kind, frames, (64, 48), &file);
    let mend = broken_model(folder.path());
    let (a, b) = (port(), port());
    let recorder = Playing::new(&format!("udpsrc port={b} ! filesink location={}", record.display()));
    let model = format!("model={}", folder.path().join("model").display());
    let (input, output) = (format!("udp://127.0.0.1:{a}"), format!("udp://127.0.0.1:{b}"));
    let mut command = crate::rig::runner("broadcast");
    command.args(["--device", "cpu", "--set", &model, "--control"]).arg(&socket);
    let job = Job::with(command, folder.path(), &input, &output, &[]);
    let sender = send(&file, &format!("udpsink host=127.0.0.1 port={a}"));
    let ask = |requests: &[&str]| bare().arg("control").arg(&socket).args(requests).output().unwrap();
    let count = |name: &str| {
        let done = ask(&["stats"]);
        assert!(done.status.success(), "{}", text(&done));
        serde_json::from_str::<serde_json::Value>(text(&done).trim()).unwrap()[name].as_u64().unwrap()
    };
    // Nothing can be restored, and the picture is on air.
    until(&mut || count("frames-out") > 10);
    assert_eq!((count("restored"), count("recoveries")), (0, 0));
    assert!(count("outages") >= 1);
    mend();
    until(&mut || count("recoveries") == 1);
    let before = count("restored");
    until(&mut || count("restored") > before + 3);
    // Everything that may change, changes.
    let small = format!("model={}", Path::new(HERE).join("../weights/jpeg-small-v6").display());
    for request in ["strength=0.5", "compare=split", "steps=1", "compare=off", small.as_str()] {
        let done = ask(&[request]);
        let (name, value) = request.split_once('=').unwrap();
        assert!(done.status.success() && text(&done).starts_with(name), "{request}: {}", text(&done));
        assert!(text(&done).contains(value), "{request}: {}", text(&done));
    }
    until(&mut || text(&ask(&["stats"])).contains("\"model\":\"jpeg-small-v6\""));
    for (request, words) in [
        ("model=no-such", "no-such"),
        ("strength=7", "strength"),
        ("device=cpu", "while playing"),
        ("colour=red", "no property"),
    ] {
        let refused = ask(&[request]);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(text(&refused).contains(words), "{}", text(&refused));
    }
    until(&mut || sender.has_ended());
    until(&mut || job.most("frames") as usize > frames);
    let counted = job.end();
    recorder.end();
    assert!(!socket.exists());
    let (shown, seen) = frames_of(kind, frames, &record);
    assert_all(&shown, frames);
    assert_steady(&seen, 25);
    assert_eq!(counted["dropped"], 0, "{counted}");
}

#[test]
fn the_latency_that_is_told_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.ts");
    make(Kind::h264("", 25), FRAMES, (64, 48), &file);
    let (a, b) = (port(), port());
    let mut command = crate::air::command();
    command.env("GST_TRACERS", "latency(flags=element+reported)").env("GST_DEBUG", "GST_TRACER:7");
    command.env("GST_DEBUG_NO_COLOR", "1").env("GST_DEBUG_FILE", folder.path().join("trace"));
    let (input, output) = (format!("udp://127.0.0.1:{a}"), format!("udp://127.0.0.1:{b}"));
    // Work for which there is not time enough, and half of a second for it.
    let socket = folder.path().join("socket");
    command.arg("--control").arg(&socket);
    let more = ["--set", "latency=500000000", "--set", "max-in-flight=16", "--steps", "150"];
    let job = Job::with(command, folder.path(), &input, &output, &more);
    let sender = send(&file, &format!("udpsink host=127.0.0.1 port={a}"));
    until(&mut || sender.has_ended());
    until(&mut || job.most("frames") as usize > FRAMES);
    let told = bare().arg("control").arg(&socket).arg("stats").output().unwrap();
    let counted: serde_json::Value = serde_json::from_str(text(&told).trim()).expect("JSON");
    // The tracer holds on to pads that go; nothing is asked of the ending here.
    job.end_at_once();
    assert!(counted["late"].as_u64() > Some(0) && counted["dropped"] == 0, "{counted}");
    let trace = std::fs::read_to_string(folder.path().join("trace")).unwrap();
    let of = |kind: &str, field: &str| -> Vec<u64> {
        let lines = trace.lines().filter(|line| line.contains(kind) && line.contains("(string)restore,"));
        let value = |line: &str| {
            let (_, rest) = line.split_once(&format!("{field}=(guint64)"))?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        lines.filter_map(value).collect()
    };
    let (told, measured) = (of(" element-reported-latency,", "min"), of(" element-latency,", "time"));
    assert!(!told.is_empty() && told.iter().all(|min| *min == told[0] && *min >= 500_000_000), "{told:?}");
    println!(
        "told {} ns; measured at most {:?} ns of {} frames",
        told[0],
        measured.iter().max(),
        measured.len()
    );
    // What a busy machine may add before a thread that is due runs.
    assert!(
        measured.len() > FRAMES / 2 && measured.iter().all(|time| *time < told[0] + 200_000_000),
        "{measured:?}"
    );
}
