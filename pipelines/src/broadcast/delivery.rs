// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to a peer that may not be there: packets that cannot be delivered are dropped and counted, and the
//! connection is made anew.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;

use super::patience::Backoff;
use super::place::PEER;

/// Buffers of packets that may wait for the network.
const WAITING: usize = 256;
/// How often a silent connection is looked after.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for a peer's answer.
const ANSWER: Duration = Duration::from_secs(4);
/// Most bytes that wait in a connection; older ones go first.
const MOST_BYTES: u64 = 4 << 20;
/// What SRT's statistics hold of a peer that has answered.
const ANSWERED: &str = "negotiated-latency-ms";
/// Longest wait for the last packets at the end.
const LAST_PACKETS: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// What is counted here.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// 1 while the peer is there.
    pub connected: Arc<AtomicU64>,
    /// Connections after the first.
    pub reconnects: Arc<AtomicU64>,
    /// Buffers of packets that nobody took.
    pub undelivered: Arc<AtomicU64>,
}

/// A peer, and the thread that sends to it.
pub struct Delivery {
    sender: Option<SyncSender<gst::Buffer>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    counts: Counts,
}

struct Shared {
    /// Since when nobody takes anything, and why.
    gone: Mutex<Option<(Instant, String)>>,
    stop: AtomicBool,
}

impl Delivery {
    /// Begins to send to what this description ends in.
    pub fn start(description: String, calls: bool, counts: Counts) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let gone = Some((Instant::now(), "it has not answered".to_owned()));
        let shared = Arc::new(Shared { gone: Mutex::new(gone), stop: AtomicBool::default() });
        let (told, counted) = (shared.clone(), counts.clone());
        let thread = std::thread::spawn(move || deliver(&description, calls, &receiver, &told, &counted));
        Self { sender: Some(sender), thread: Some(thread), shared, counts }
    }

    /// A sink for the output's pipeline that sends what it gets when it is due.
    pub fn sink(&self) -> gst_app::AppSink {
        let (sender, counts) = (self.sender.clone(), self.counts.clone());
        let pass = move |sink: &gst_app::AppSink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            for buffer in sample.buffer_owned().into_iter().chain(listed(&sample)) {
                let sent = sender.as_ref().map(|sender| sender.try_send(buffer));
                if !matches!(sent, Some(Ok(()))) {
                    counts.undelivered.fetch_add(1, Ordering::Relaxed);
                }
                if matches!(sent, Some(Err(TrySendError::Disconnected(_)))) {
                    return Err(gst::FlowError::Error);
                }
            }
            Ok(gst::FlowSuccess::Ok)
        };
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(pass).build();
        gst_app::AppSink::builder().sync(true).callbacks(callbacks).build()
    }

    /// Since when the peer is gone, and why.
    pub fn gone(&self) -> Option<(Instant, String)> {
        self.shared.gone.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Muxers send lists.
fn listed(sample: &gst::Sample) -> Vec<gst::Buffer> {
    sample.buffer_list().map(|list| list.iter_owned().collect()).unwrap_or_default()
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn deliver(
    description: &str,
    calls: bool,
    receiver: &Receiver<gst::Buffer>,
    shared: &Shared,
    counts: &Counts,
) {
    let mut backoff = Backoff::default();
    let mut first = true;
    let stopped = || shared.stop.load(Ordering::SeqCst);
    while !stopped() {
        let reason = match Peer::connect(description, calls, receiver, shared, counts) {
            Ok(peer) => {
                *shared.gone.lock().unwrap_or_else(PoisonError::into_inner) = None;
                counts.connected.store(1, Ordering::Relaxed);
                counts.reconnects.fetch_add(u64::from(!first), Ordering::Relaxed);
                (first, backoff) = (false, Backoff::default());
                match peer.send(receiver) {
                    Some(reason) => reason,
                    None => return,
                }
            }
            Err(error) => format!("{error:#}"),
        };
        counts.connected.store(0, Ordering::Relaxed);
        {
            let mut gone = shared.gone.lock().unwrap_or_else(PoisonError::into_inner);
            let since = gone.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            *gone = Some((since, reason));
        }
        // What is due meanwhile goes nowhere.
        let next = Instant::now() + backoff.next();
        while Instant::now() < next && !stopped() {
            match receiver.recv_timeout(LOOK) {
                Ok(_) => drop(counts.undelivered.fetch_add(1, Ordering::Relaxed)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// A connection.
struct Peer {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
}

impl Peer {
    fn connect(
        description: &str,
        calls: bool,
        receiver: &Receiver<gst::Buffer>,
        shared: &Shared,
        counts: &Counts,
    ) -> Result<Self> {
        let text = format!(
            "appsrc name=packets is-live=true format=time max-bytes={MOST_BYTES} leaky-type=downstream \
             caps=video/mpegts,systemstream=true,packetsize=188 \
             ! {description}"
        );
        let pipeline = gst::parse::launch(&text).context(text)?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
        let source = pipeline.by_name("packets").and_then(|source| source.downcast::<gst_app::AppSrc>().ok());
        let peer = Self { source: source.context("appsrc")?, pipeline };
        if peer.pipeline.set_state(gst::State::Playing).is_err() {
            anyhow::bail!(peer.failure().unwrap_or_else(|| "it does not start".into()));
        }
        let since = Instant::now();
        loop {
            if let Some(reason) = peer.failure() {
                anyhow::bail!(reason);
            }
            if !calls || peer.has_answered() {
                return Ok(peer);
            }
            if since.elapsed() > ANSWER || shared.stop.load(Ordering::SeqCst) {
                anyhow::bail!("nobody answers");
            }
            if receiver.recv_timeout(LOOK).is_ok() {
                counts.undelivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn has_answered(&self) -> bool {
        let sink = self.pipeline.by_name(PEER);
        sink.is_some_and(|sink| sink.property::<gst::Structure>("stats").has_field(ANSWERED))
    }

    fn failure(&self) -> Option<String> {
        let message =
            self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning])?;
        match message.view() {
            gst::MessageView::Error(_) => Some(crate::progress::told(&message).to_string()),
            _ => None,
        }
    }

    /// Sends until the connection fails; nothing if the packets end.
    fn send(&self, receiver: &Receiver<gst::Buffer>) -> Option<String> {
        loop {
            if let Some(reason) = self.failure() {
                return Some(reason);
            }
            match receiver.recv_timeout(LOOK) {
                Ok(buffer) => {
                    if self.source.push_buffer(buffer).is_err() {
                        return Some(self.failure().unwrap_or_else(|| "the connection is closed".into()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // Whoever has failed takes no end.
                    let _ = self.source.end_of_stream();
                    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
                    let bus = self.pipeline.bus()?;
                    bus.timed_pop_filtered(LAST_PACKETS, &ends);
                    return None;
                }
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Nothing is left to be done about one that does not stop.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
