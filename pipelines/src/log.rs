// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens during a run, for programs: one JSON object per line.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

/// The kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first line: program, version, recipe, input, output.
    Start,
    /// At most once a second: frames taken and finished, frames per second, position and length in seconds.
    Progress,
    /// Something that changed as it should: an engine, a source that is there again, the latency that is held.
    News,
    /// Something that the run goes on after.
    Warning,
    /// What ends the run.
    Error,
    /// The last line: exit code, frames, seconds, and what the element counted.
    End,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Progress => "progress",
            Self::News => "news",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::End => "end",
        }
    }
}

/// A log file, or none. Clones write to the same file.
#[derive(Clone, Default)]
pub struct Log(Option<Arc<Lines>>);

struct Lines {
    file: Mutex<File>,
    broken: AtomicBool,
}

impl Log {
    /// Opens a file to append to; nothing that it holds is lost.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = File::options().create(true).append(true).open(path);
        let file = Mutex::new(file.with_context(|| path.display().to_string())?);
        Ok(Self(Some(Arc::new(Lines { file, broken: AtomicBool::default() }))))
    }

    /// Writes one line: `time` (seconds since 1970), `event`, and the fields of the object `more`.
    pub fn write(&self, event: Event, more: Value) {
        let Some(lines) = &self.0 else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = serde_json::json!({"time": now.as_millis() as f64 / 1e3, "event": event.name()});
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        // In one piece, so that the lines of two runs that share a log stay whole.
        let written = lines
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(format!("{line}\n").as_bytes());
        if let Err(error) = written
            && !lines.broken.swap(true, Ordering::Relaxed)
        {
            eprintln!("warning: the log cannot be written any more: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_parse() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for number in 0..2 {
            Log::open(Some(&path)).unwrap().write(Event::Progress, serde_json::json!({"frames": number}));
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["event"], &lines[1]["frames"]), (&"progress".into(), &1.into()));
        assert!(lines[0]["time"].as_f64().unwrap() > 1.5e9);
        assert!(Log::open(Some(&folder.path().join("none/log"))).is_err());
    }
}
