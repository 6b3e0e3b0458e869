// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Prometheus scrapes while a run goes on: what the element counts, read at the moment it is asked for.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info};
use prometheus_client::registry::Registry;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::exit::usage;

/// The one path that is answered.
const PATH: &str = "/metrics";
/// What [`prometheus_client`] writes.
const KIND: &str = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Longest wait before the server sees that it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// Counters: field of `stats`, name (the format adds `_total`), help.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("frames-in", "i2sb_frames_in", "Frames that the element took"),
    ("frames-out", "i2sb_frames_out", "Frames that the element gave"),
    ("restored", "i2sb_frames_restored", "Frames that went out restored"),
    ("bypassed", "i2sb_frames_bypassed", "Frames that went out as they came, as was asked for"),
    ("late", "i2sb_frames_late", "Frames that were too late to be restored"),
    ("dropped", "i2sb_frames_dropped", "Frames that were not sent out"),
    ("failed", "i2sb_frames_failed", "Frames that could not be restored"),
    ("repeated", "i2sb_frames_repeated", "Frames equal to the one before, whose result was used again"),
    ("step-downs", "i2sb_step_downs", "Steps down under load"),
    ("step-ups", "i2sb_step_ups", "Steps up when load had gone"),
    ("outages", "i2sb_outages", "Times that a model failed"),
    ("recoveries", "i2sb_recoveries", "Times that a model came back"),
];
/// Texts of `stats` that name the model in use.
const MODEL: &[&str] = &["model", "hash", "device", "precision"];

/// A number that something beside the element counts.
#[derive(Debug)]
pub struct Extra {
    /// Name in the format, without `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub counter: bool,
    /// The value now.
    pub value: Arc<AtomicU64>,
}

/// Answers scrapes from one address until it is dropped; or does nothing.
#[derive(Debug, Default)]
pub struct Exporter {
    shared: Arc<Shared>,
    server: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

#[derive(Debug, Default)]
struct Shared {
    started: Mutex<Option<Instant>>,
    element: gst::glib::WeakRef<gst::Element>,
    extras: Mutex<Vec<Extra>>,
}

/// An address as `--metrics` takes it.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it is written HOST:PORT, as in 127.0.0.1:9890; HOST is a number".into())
}

impl Exporter {
    /// Listens; without an address, on nothing. Others than this machine are answered only if `public`.
    pub fn start(address: Option<SocketAddr>, public: bool) -> Result<Self> {
        let Some(address) = address else { return Ok(Self::default()) };
        if !address.ip().is_loopback() && !public {
            return Err(usage(format!(
                "--metrics {address}: other machines could read it; --metrics-public says that they may"
            )));
        }
        let listener = TcpListener::bind(address).with_context(|| format!("--metrics {address}"))?;
        let server = Server::from_listener(listener, None)
            .map_err(|error| anyhow::anyhow!("--metrics {address}: {error}"))?;
        eprintln!("metrics: http://{}{PATH}", server.server_addr());
        let mut exporter = Self::default();
        *lock(&exporter.shared.started) = Some(Instant::now());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Reader(exporter.shared.clone())));
        let end = Arc::new(AtomicBool::default());
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if let Ok(Some(request)) = server.recv_timeout(PATIENCE) {
                    answer(request, &registry);
                }
            }
        });
        exporter.server = Some((end, thread));
        Ok(exporter)
    }

    /// From now on the numbers are those of this element.
    pub fn watch(&self, element: &gst::Element) {
        self.shared.element.set(Some(element));
    }

    /// Numbers of somebody else.
    pub fn add(&self, extras: impl IntoIterator<Item = Extra>) {
        lock(&self.shared.extras).extend(extras);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.server.take() {
            end.store(true, Ordering::Relaxed);
            // A server that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(request: Request, registry: &Registry) {
    let refuse = |code: u16, text: &str| Response::from_string(text).with_status_code(code);
    let response = if request.url().split('?').next() != Some(PATH) {
        refuse(404, "metrics are at /metrics\n")
    } else if ![Method::Get, Method::Head].contains(request.method()) {
        refuse(405, "only GET and HEAD\n")
    } else {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, registry) {
            Ok(()) => match KIND.parse::<Header>() {
                Ok(kind) => Response::from_string(text).with_header(kind),
                Err(()) => Response::from_string(text),
            },
            Err(error) => refuse(500, &format!("{error}\n")),
        }
    };
    // Who asked may be gone.
    let _ = request.respond(response);
}

/// Reads everything when it is asked for.
#[derive(Debug)]
struct Reader(Arc<Shared>);

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let element = self.0.element.upgrade();
        let stats = element.as_ref().map(|element| element.property::<gst::Structure>("stats"));
        for (field, name, help) in COUNTERS.iter().filter(|_| stats.is_some()) {
            let value = stats.as_ref().and_then(|stats| stats.get::<u64>(*field).ok());
            counter(name, help, value.unwrap_or_default())?;
        }
        for extra in lock(&self.0.extras).iter().filter(|extra| extra.counter) {
            counter(extra.name, extra.help, extra.value.load(Ordering::Relaxed))?;
        }
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        for extra in lock(&self.0.extras).iter().filter(|extra| !extra.counter) {
            gauge(extra.name, extra.help, extra.value.load(Ordering::Relaxed) as f64)?;
        }
        let up = lock(&self.0.started).map(|at| at.elapsed().as_secs_f64()).unwrap_or_default();
        gauge("i2sb_uptime_seconds", "Time since the run began", up)?;
        let (Some(element), Some(stats)) = (element, stats) else { return Ok(()) };
        let number = |field: &str| stats.get::<f64>(field).unwrap_or_default();
        let whole = |field: &str| stats.get::<u64>(field).unwrap_or_default() as f64;
        let p = "Time that the engine takes for a frame, of the last ones, ";
        gauge("i2sb_frame_ms_p50", &format!("{p}half"), number("ms-per-frame-p50"))?;
        gauge("i2sb_frame_ms_p95", &format!("{p}95 of 100"), number("ms-per-frame-p95"))?;
        gauge("i2sb_frames_queued", "Frames inside the element", whole("queued"))?;
        gauge("i2sb_steps", "Network evaluations per frame", whole("steps"))?;
        if let Some(latency) = latency(&element) {
            gauge("i2sb_latency_seconds", "Latency that the element declares", latency)?;
        }
        let labels: Vec<_> =
            MODEL.iter().map(|name| (*name, stats.get::<String>(*name).unwrap_or_default())).collect();
        let info = Info::new(labels);
        info.encode(encoder.encode_descriptor("i2sb_model", "The model in use", None, info.metric_type())?)
    }
}

/// What the element adds to the latency from before it, in seconds.
fn latency(element: &gst::Element) -> Option<f64> {
    let ask = |pad: gst::Pad, peer: bool| {
        let mut query = gst::query::Latency::new();
        let answered = if peer { pad.peer_query(&mut query) } else { pad.query(&mut query) };
        answered.then(|| query.result().1)
    };
    let after = ask(element.static_pad("src")?, false)?;
    let before = ask(element.static_pad("sink")?, true)?;
    Some(after.saturating_sub(before).nseconds() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_answered_unless_told_and_a_taken_port_is_an_error() {
        assert!(address("localhost:1").is_err() && address("127.0.0.1").is_err());
        let open = address("0.0.0.0:0").unwrap();
        let refused = Exporter::start(Some(open), false).unwrap_err();
        assert!(crate::exit::of(&refused) == 2 && refused.to_string().contains("--metrics-public"));
        drop(Exporter::start(Some(open), true).unwrap());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Exporter::start(Some(address), false).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error:#}");
    }
}
