// SPDX-License-Identifier: MIT OR Apache-2.0
//! A control room on one machine: somebody who sends, the job, and somebody who records what it sends.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use gst::prelude::*;
use serde_json::Value;

use crate::air::{self, Kind, Seen, captions, format, look, timecode};
use crate::ending::{code, signal};
use crate::rig::{gst_pipeline, log_lines, until};

/// A port that nobody uses now.
pub fn port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A pipeline that plays until it is dropped.
pub struct Playing(pub gst::Pipeline);

impl Playing {
    pub fn new(description: &str) -> Self {
        let pipeline = gst_pipeline(description);
        pipeline.set_state(gst::State::Playing).unwrap();
        Self(pipeline)
    }

    /// Whether it has come to its end.
    pub fn has_ended(&self) -> bool {
        let bus = self.0.bus().unwrap();
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Eos(_) => return true,
                gst::MessageView::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        false
    }

    /// Ends it in order.
    pub fn end(self) {
        self.0.send_event(gst::event::Eos::new());
        until(&mut || self.has_ended());
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.0.set_state(gst::State::Null).unwrap();
    }
}

/// Sends a file in its time.
pub fn send(file: &Path, sink: &str) -> Playing {
    let file = file.display();
    Playing::new(&format!("filesrc location={file} ! tsparse set-timestamps=true alignment=7 ! {sink}"))
}

/// The job on air.
pub struct Job {
    pub child: Child,
    pub log: PathBuf,
}

impl Job {
    pub fn start(folder: &Path, input: &str, output: &str, more: &[&str]) -> Self {
        Self::with(air::command(), folder, input, output, more)
    }

    pub fn with(
        mut command: std::process::Command,
        folder: &Path,
        input: &str,
        output: &str,
        more: &[&str],
    ) -> Self {
        let log = folder.join("log");
        command.args([input, output, "--log", log.to_str().unwrap()]).args(more);
        let told = std::fs::File::create(folder.join("told")).unwrap();
        let child = command.stderr(told).stdout(Stdio::null()).spawn().expect("i2sb-run runs");
        until(&mut || !log_lines(&log).is_empty());
        Self { child, log }
    }

    /// The largest that a progress line has told.
    pub fn most(&self, field: &str) -> u64 {
        log_lines(&self.log).iter().filter_map(|line| line[field].as_u64()).max().unwrap_or_default()
    }

    /// Whether a line of this event has this in its text.
    pub fn told(&self, event: &str, words: &str) -> bool {
        log_lines(&self.log).iter().any(|line| line["event"] == event && line.to_string().contains(words))
    }

    /// Ends it by two signals.
    pub fn end_at_once(mut self) {
        for _ in 0..2 {
            signal(&self.child, "-INT");
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        assert_eq!(code(&mut self.child), Some(130));
    }

    /// Ends it by a signal; what it counted.
    pub fn end(mut self) -> Value {
        signal(&self.child, "-INT");
        let ended = code(&mut self.child);
        let last = log_lines(&self.log).pop().unwrap();
        assert_eq!(ended, Some(130), "{last} {:?}", log_lines(&self.log));
        let counted = last["counted"].clone();
        assert_eq!(counted["frames-in"], counted["frames-out"], "{counted}");
        counted
    }
}

/// Numbers of the source's frames that are in a recording, whatever they carry being theirs alone; a frame that was
/// shown again carries nothing.
pub fn frames_of(kind: Kind, most: usize, record: &Path) -> (Vec<usize>, Vec<Seen>) {
    let (seen, _, _) = look(kind.parser, record);
    let codes: Vec<_> = (0..most).map(|frame| timecode(kind, frame).to_string()).collect();
    let frames = seen.iter().filter_map(|seen| {
        let Some(code) = &seen.code else {
            assert!(seen.captions.is_empty() && seen.format.is_none(), "{seen:?}");
            return None;
        };
        let frame =
            codes.iter().position(|known| known == code).unwrap_or_else(|| panic!("{code} is nobody's"));
        assert_eq!((&seen.captions, seen.format), (&captions(frame), Some(format(frame))), "{frame}");
        Some(frame)
    });
    (frames.collect(), seen)
}

/// All but the last that were sent are there, one after the other: what is not followed by anything stays in a
/// demuxer.
pub fn assert_all(shown: &[usize], frames: usize) {
    assert!(shown.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is lost: {shown:?}");
    assert!(shown.last().is_some_and(|&last| last + 3 >= frames), "{shown:?}");
}

/// No hole and no overlap between frames that are shown; a live source's clock is followed, which moves them a
/// little.
pub fn assert_steady(seen: &[Seen], fps: u64) {
    for pair in seen.windows(2) {
        let step = (pair[1].pts - pair[0].pts).mseconds();
        assert!(step.abs_diff(1000 / fps) <= 500 / fps, "{:?} {:?}", pair[0].pts, pair[1].pts);
    }
}
