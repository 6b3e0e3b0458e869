// SPDX-License-Identifier: MIT OR Apache-2.0
//! A long time on air over a bad line: packets are lost, late and out of order, the sender goes and comes back.
//! `I2SB_SOAK_SECONDS` says how long; `pipelines/broadcast/soak.sh` asks for two hours.

use std::collections::BinaryHeap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::air::{Kind, make};
use crate::onair::{Job, port, send};
use crate::rig::{soak_seconds, until};

/// Of a thousand packets.
const LOST: u64 = 2;
/// Longest delay of a packet in milliseconds.
const JITTER: u64 = 20;
/// Memory that a run may take more at its end than after its first third: 24 MiB, in KiB.
const GROWTH: u64 = 24 << 10;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % most
    }
}

/// What the line has done to packets.
#[derive(Default)]
struct Line {
    passed: AtomicU64,
    lost: AtomicU64,
    end: AtomicBool,
}

/// Passes packets from one port on to another, badly.
fn relay(from: u16, to: u16, line: &Line) {
    let socket = UdpSocket::bind(("127.0.0.1", from)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let (mut dice, mut packet, mut number) = (Dice(0x5eed), [0; 2048], 0u64);
    let mut waiting = BinaryHeap::new();
    while !line.end.load(Ordering::SeqCst) {
        if let Ok(size) = socket.recv(&mut packet) {
            number += 1;
            if dice.below(1000) < LOST {
                line.lost.fetch_add(1, Ordering::SeqCst);
            } else {
                let due = Instant::now() + Duration::from_millis(dice.below(JITTER));
                waiting.push(std::cmp::Reverse((due, number, packet[..size].to_vec())));
            }
        }
        while waiting.peek().is_some_and(|first| first.0.0 <= Instant::now()) {
            let std::cmp::Reverse((_, _, packet)) = waiting.pop().expect("it was there");
            // Nobody may listen now.
            let _ = socket.send_to(&packet, ("127.0.0.1", to));
            line.passed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Memory in use, in KiB, of the program that `timeout` runs.
fn memory(job: &Job) -> u64 {
    let parent = job.child.id();
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let child = children.split_whitespace().next().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_bad_line_costs_the_element_no_frame_and_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.ts");
    make(Kind::h264("", 25), 125, (64, 48), &file);
    let (near, far, out) = (port(), port(), UdpSocket::bind("127.0.0.1:0").unwrap());
    out.set_nonblocking(true).unwrap();
    let output = format!("rtp://{}", out.local_addr().unwrap());
    let job = Job::start(folder.path(), &format!("rtp://127.0.0.1:{far}"), &output, &["--wait", "30"]);
    let line = Arc::new(Line::default());
    let passing = line.clone();
    let relay = std::thread::spawn(move || relay(near, far, &passing));

    let (start, seconds) = (Instant::now(), Duration::from_secs(soak_seconds()));
    let (mut dice, mut sent, mut early, mut received) = (Dice(7), 0, None, 0u64);
    let mut packet = [0; 2048];
    let mut listen = |received: &mut u64| {
        while let Ok(size) = out.recv(&mut packet) {
            // A header of RTP and seven packets, each of which begins with 0x47.
            assert!(size > 12 && packet[..size][12..].chunks(188).all(|ts| ts[0] == 0x47), "{size}");
            *received += 1;
        }
    };
    while start.elapsed() < seconds {
        let sender = send(&file, &format!("rtpmp2tpay ! udpsink host=127.0.0.1 port={near}"));
        until(&mut || {
            listen(&mut received);
            sender.has_ended()
        });
        drop(sender);
        sent += 1;
        if start.elapsed() > seconds / 3 && early.is_none() {
            early = Some(memory(&job));
        }
        // Now and then it stays away for so long that the source is opened anew.
        let away = if sent % 3 == 1 { 3000 } else { dice.below(300) };
        let back = Instant::now() + Duration::from_millis(away);
        until(&mut || {
            listen(&mut received);
            Instant::now() > back
        });
    }
    let (early, late) = (early.expect("a third is over"), memory(&job));
    line.end.store(true, Ordering::SeqCst);
    relay.join().unwrap();
    let counted = job.end();
    let count = |name: &str| counted[name].as_u64().unwrap();
    println!(
        "{:.0} s; {sent} senders; {} packets passed, {} lost; {received} received; memory {early} to {late} KiB; {counted}",
        start.elapsed().as_secs_f64(),
        line.passed.load(Ordering::SeqCst),
        line.lost.load(Ordering::SeqCst),
    );
    // Whatever was decoded or shown again went through the element, and nothing else.
    assert_eq!(
        count("frames-decoded") + count("frames-filled") - count("frames-discarded"),
        count("frames-in")
    );
    assert_eq!((count("frames-in"), count("dropped")), (count("frames-out"), 0), "{counted}");
    assert!(count("frames-decoded") > 60 * sent && count("input-reconnects") >= 1, "{counted}");
    assert_eq!((count("outages"), count("failed"), count("output-undelivered")), (0, 0, 0), "{counted}");
    // One frame each 40 ms, all the time that it was on air.
    assert!(received > 0 && line.lost.load(Ordering::SeqCst) > 0);
    assert!(late < early + GROWTH, "{early} KiB became {late}");
}
