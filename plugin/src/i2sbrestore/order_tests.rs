// SPDX-License-Identifier: MIT OR Apache-2.0
//! When an order takes its pictures.

use super::*;
use crate::engine::Picture;
use crate::flow::queue::{Limits, Out};
use crate::i2sbrestore::settings::Compare;
use crate::i2sbrestore::stream::Held;

/// A frame's picture, its order, and the stream that holds it.
fn ordered() -> (Arc<Picture>, Order, Arc<Stream>) {
    let picture = Arc::new(Picture::new(2, 2, vec![0.0; 12]));
    let work = Work {
        parts: vec![],
        inputs: vec![Image::Decoded(picture.clone())],
        keep: vec![],
        passes: vec![],
        frame_time: None,
        strength: 1.0,
        compare: Compare::default(),
        running_time: None,
    };
    let limits = Limits { max_in_flight: 4, batch_size: 1, batch_timeout: Duration::ZERO };
    let stream = Arc::new(Stream::new(limits));
    let order = {
        let mut state = stream.lock();
        let held = Held { buffer: gst::Buffer::new(), work: Some(work), due: None };
        let ticket = state.queue.push(Duration::ZERO, None, held);
        let _ = state.queue.take_batch(Duration::ZERO);
        stream.order(&mut state, ticket).unwrap()
    };
    (picture, order, stream)
}

#[test]
fn pictures_of_frames_that_went_out_in_time_wait_for_no_engine() {
    gst::init().unwrap();
    let (picture, mut order, stream) = ordered();
    assert_eq!(Arc::strong_count(&picture), 2, "the queue's and this test's");
    {
        let mut state = stream.lock();
        let _ = state.queue.finish(order.ticket, Outcome::Late { drop: false });
        assert!(matches!(state.queue.pop(), Some(Out::Frame(..))));
    }
    assert_eq!(Arc::strong_count(&picture), 1);
    assert!(!order.begin());
}

#[test]
fn an_order_takes_its_pictures_when_its_turn_comes() {
    gst::init().unwrap();
    let (picture, mut order, _stream) = ordered();
    assert!(order.begin());
    assert_eq!((order.inputs.len(), Arc::strong_count(&picture)), (1, 3));
}
