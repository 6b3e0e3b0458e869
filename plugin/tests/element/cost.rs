// SPDX-License-Identifier: MIT OR Apache-2.0
//! What slow networks must not cost: frames, and the user's time.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::clips::shipped_clip;
use crate::play::Pipeline;
use crate::rig::{count, flat, harness, i420, pull};

/// What this element would be if it were a `GstVideoFilter`.
mod filter {
    use std::time::Duration;

    use gst::glib;
    use gst_video::subclass::prelude::*;

    #[derive(Default)]
    pub struct Slow;

    #[glib::object_subclass]
    impl ObjectSubclass for Slow {
        const NAME: &'static str = "I2sbTestSlowFilter";
        type Type = SlowFilter;
        type ParentType = gst_video::VideoFilter;
    }

    glib::wrapper! {
        pub struct SlowFilter(ObjectSubclass<Slow>)
            @extends gst_video::VideoFilter, gst_video::gst_base::BaseTransform, gst::Element, gst::Object;
    }

    impl ObjectImpl for Slow {}
    impl GstObjectImpl for Slow {}

    impl ElementImpl for Slow {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static DATA: std::sync::LazyLock<gst::subclass::ElementMetadata> =
                std::sync::LazyLock::new(|| {
                    gst::subclass::ElementMetadata::new(
                        "Slow",
                        "Filter/Effect/Video",
                        "Takes its time",
                        "i2sb",
                    )
                });
            Some(&DATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static PADS: std::sync::LazyLock<Vec<gst::PadTemplate>> = std::sync::LazyLock::new(|| {
                let caps = gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::I420).build();
                [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                    .map(|(name, way)| {
                        gst::PadTemplate::new(name, way, gst::PadPresence::Always, &caps).unwrap()
                    })
                    .into()
            });
            &PADS
        }
    }

    impl BaseTransformImpl for Slow {
        const MODE: gst_video::gst_base::subclass::BaseTransformMode =
            gst_video::gst_base::subclass::BaseTransformMode::AlwaysInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;
    }

    impl VideoFilterImpl for Slow {
        fn transform_frame_ip(
            &self,
            _: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            std::thread::sleep(Duration::from_millis(super::COST));
            Ok(gst::FlowSuccess::Ok)
        }
    }
}

/// Milliseconds that a frame takes where there are seventeen for it.
const COST: u64 = 100;
/// Frames of half a second.
const FRAMES: usize = 30;

#[test]
fn a_clocked_sink_gets_every_frame_where_a_video_filter_loses_most() {
    crate::null::init();
    let _ = gst::Element::register(None, "i2sbtestslow", gst::Rank::NONE, filter::SlowFilter::static_type());
    let arrived = |filter: &str| {
        let pipeline = Pipeline::new(&format!(
            "videotestsrc num-buffers={FRAMES} ! video/x-raw,format=I420,width=64,height=48,framerate=60/1 \
             ! jpegenc ! jpegdec ! {filter} ! fakesink name=out sync=true qos=true"
        ));
        let times = pipeline.times("out", "sink");
        pipeline.run();
        times.lock().unwrap().len()
    };
    let (ours, theirs) = (arrived(&format!("i2sbrestore model=null:slow:{COST}")), arrived("i2sbtestslow"));
    println!("{ours} and {theirs} of {FRAMES} frames");
    assert_eq!(ours, FRAMES);
    assert!(theirs < FRAMES / 2, "{theirs}: the contrast that makes this test worth something");
}

/// The embedded network, at a size and with a number of steps that take minutes per frame.
const ENDLESS: &str = "device=cpu steps=999";

/// Waits for the engine to be in the middle of a frame.
fn in_the_middle(stats: impl Fn(&str) -> u64) {
    let end = Instant::now() + Duration::from_secs(60);
    while stats("frames-in") == 0 {
        assert!(Instant::now() < end, "no frame came in");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!((stats("frames-out"), stats("failed")), (0, 0));
}

#[test]
fn a_flush_ends_the_networks_work_and_not_only_the_wait() {
    let mut h = harness(ENDLESS);
    let (large, small) = (i420(1920, 1080), i420(64, 48));
    h.play();
    h.set_src_caps(large.to_caps().unwrap());
    h.push(flat(&large, 100, 0)).unwrap();
    in_the_middle(|name| count(&h, name));
    let start = Instant::now();
    assert!(h.push_event(gst::event::FlushStart::new()));
    assert!(h.push_event(gst::event::FlushStop::new(true)));
    let flush = start.elapsed();
    h.element().unwrap().set_property("steps", 1i32);
    h.push_event(gst::event::Caps::new(&small.to_caps().unwrap()));
    h.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    h.push(flat(&small, 100, 1)).unwrap();
    // The engine has one thread: this frame comes only because the other was given up.
    assert_eq!(pull(&mut h).size(), small.size());
    println!("flush {flush:?}, next frame after {:?}", start.elapsed());
    assert!(flush < QUICK, "{flush:?}");
}

/// What is quick for somebody who waits.
const QUICK: Duration = Duration::from_millis(500);

#[test]
fn a_flushing_seek_and_a_stop_wait_for_no_frame() {
    for network in ["model=null:slow:60000", "model=null:deaf:5000", ENDLESS] {
        let pipeline = Pipeline::new(&format!(
            "filesrc location={} ! decodebin ! videoconvert ! videoscale ! video/x-raw,width=1920,height=1080 \
             ! i2sbrestore name=r {network} ! fakesink",
            shipped_clip().display()
        ));
        let stats = |name: &str| pipeline.element("r").property::<gst::Structure>("stats").get(name).unwrap();
        pipeline.0.set_state(gst::State::Playing).unwrap();
        in_the_middle(stats);
        let start = Instant::now();
        pipeline.0.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
        let seek = start.elapsed();
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!((stats("frames-out"), stats("failed")), (0, 0));
        let start = Instant::now();
        pipeline.0.set_state(gst::State::Null).unwrap();
        let stop = start.elapsed();
        println!("{network}: flushing seek {seek:?}, stop {stop:?}");
        assert!(seek < QUICK && stop < QUICK, "{network}: flushing seek {seek:?}, stop {stop:?}");
    }
}
