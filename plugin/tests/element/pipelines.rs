// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real pipelines: clocks, tees, muxers, what is used again.

use gst::prelude::*;

use crate::play::Pipeline;

#[test]
fn recording_and_watching_loses_no_frame_of_the_recording() {
    let pipeline = Pipeline::new(
        "videotestsrc num-buffers=40 ! video/x-raw,width=64,height=48,framerate=60/1 ! jpegenc ! jpegdec \
         ! i2sbrestore model=null:slow:40 ! tee name=t \
         t. ! queue ! fakesink name=monitor sync=true qos=true \
         t. ! queue ! fakesink name=record sync=false",
    );
    let (monitor, record) = (pipeline.times("monitor", "sink"), pipeline.times("record", "sink"));
    pipeline.run();
    assert_eq!((monitor.lock().unwrap().len(), record.lock().unwrap().len()), (40, 40));
}

#[test]
fn a_live_source_is_told_a_latency_with_a_lower_and_an_upper_end() {
    let pipeline = Pipeline::new(
        "videotestsrc is-live=true num-buffers=20 ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 \
         ! i2sbrestore name=r model=null:slow:60 max-in-flight=4 ! fakesink name=out sync=true qos=true",
    );
    let element = pipeline.element("r");
    // This source knows no upper end of its own.
    let (source, most) =
        (element.static_pad("sink").unwrap().peer().unwrap(), gst::ClockTime::from_mseconds(70));
    source.add_probe(gst::PadProbeType::QUERY_UPSTREAM | gst::PadProbeType::PULL, move |_, info| {
        if let Some(gst::PadProbeData::Query(query)) = &mut info.data
            && let gst::QueryViewMut::Latency(answer) = query.view_mut()
        {
            let (live, min, _) = answer.result();
            answer.set(live, min, most);
        }
        gst::PadProbeReturn::Ok
    });
    let times = pipeline.times("out", "sink");
    pipeline.run();
    assert_eq!(times.lock().unwrap().len(), 20);
    let latency = |pad: gst::Pad| {
        let mut query = gst::query::Latency::new();
        assert!(pad.query(&mut query));
        query.result()
    };
    let (live, min, max) = latency(element.static_pad("src").unwrap());
    let (_, before, _) = latency(source);
    let (own, own_max) = (min - before, max.expect("bounded") - most);
    assert!(live && own >= 60 * gst::ClockTime::MSECOND, "{own}");
    // Four frames of 40 ms, or the minimum where that is more.
    assert_eq!(own_max, own.max(160 * gst::ClockTime::MSECOND));
}

#[test]
fn audio_stays_where_it_was() {
    // Two streams into one muxer: the restored one keeps its times, so nothing shifts.
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.mkv");
    let pipeline = Pipeline::new(&format!(
        "videotestsrc num-buffers=25 ! video/x-raw,width=64,height=48,framerate=25/1 ! i2sbrestore name=r \
         model=null:slow:5 ! jpegenc ! matroskamux name=m ! filesink location={} \
         audiotestsrc num-buffers=40 ! audio/x-raw,rate=44100 ! queue max-size-time=0 max-size-bytes=0 \
         max-size-buffers=0 ! m.",
        target.display()
    ));
    let (input, output) = (pipeline.times("r", "sink"), pipeline.times("r", "src"));
    pipeline.run();
    assert_eq!(*input.lock().unwrap(), *output.lock().unwrap());
    assert!(std::fs::metadata(target).unwrap().len() > 1000);
}

#[test]
fn tiles_that_did_not_change_are_reused_bit_by_bit() {
    crate::null::init();
    let folder = tempfile::tempdir().unwrap();
    let preset = crate::preset::write(folder.path());
    // Large enough that a part with all it depends on costs less than the whole.
    let (width, height) = (1024, 512);
    let info = crate::rig::i420(width as u32, height as u32);
    let mut second = crate::rig::noise(info.size(), 3);
    let first = second.clone();
    // One small part of the luma changes.
    for y in 20..30 {
        second[width * y + 20..width * y + 30].fill(200);
    }
    let run = |frames: &[&Vec<u8>]| {
        let mut h = crate::rig::harness(&format!("model={}", preset.display()));
        h.play();
        h.set_src_caps(info.to_caps().unwrap());
        let mut outputs = Vec::new();
        for frame in frames {
            h.push(gst::Buffer::from_mut_slice((*frame).clone())).unwrap();
            outputs.push(crate::rig::bytes(&crate::rig::pull(&mut h)));
        }
        (outputs.pop().unwrap(), crate::rig::count(&h, "tiles-reused"))
    };
    let (fresh, none) = run(&[&second]);
    let (reused, some) = run(&[&first, &second]);
    assert_eq!(none, 0);
    assert!(some > 40, "{some} of 128 tiles");
    assert!(fresh == reused, "reused tiles differ from restored ones");
}

/// Frames of an engine with a twin are under way two at a time, and leave in the order in which they came.
#[test]
fn an_engine_and_its_twin_keep_the_order() {
    let pipeline = Pipeline::new(
        "videotestsrc num-buffers=24 ! video/x-raw,width=64,height=48,framerate=25/1 ! i2sbrestore name=r \
         model=null:two max-in-flight=4 ! fakesink",
    );
    let (input, output) = (pipeline.times("r", "sink"), pipeline.times("r", "src"));
    pipeline.run();
    assert_eq!(output.lock().unwrap().len(), 24);
    assert_eq!(*input.lock().unwrap(), *output.lock().unwrap());
}
