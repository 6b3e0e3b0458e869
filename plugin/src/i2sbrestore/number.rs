// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame's absolute number, which does not depend on where playing began.

/// What a buffer without an offset has.
const NONE: u64 = gst::ffi::GST_BUFFER_OFFSET_NONE;

/// From the time in the stream and the frame rate, rounded; without a rate, the time in nanoseconds;
/// without a time, the buffer's offset; 0 if it has none.
pub fn number(time: Option<gst::ClockTime>, offset: u64, rate: gst::Fraction) -> u64 {
    let Some(time) = time else {
        return if offset == NONE { 0 } else { offset };
    };
    let (Ok(num @ 1..), Ok(den)) = (u128::try_from(rate.numer()), u128::try_from(rate.denom())) else {
        return time.nseconds();
    };
    let per_frame = u128::from(gst::ClockTime::SECOND.nseconds()) * den;
    let frames = (u128::from(time.nseconds()) * num + per_frame / 2) / per_frame;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// The number of a buffer in a segment.
pub fn of(
    buffer: &gst::BufferRef,
    segment: Option<&gst::FormattedSegment<gst::ClockTime>>,
    rate: gst::Fraction,
) -> u64 {
    let stream = segment.and_then(|segment| segment.to_stream_time(buffer.pts()));
    number(stream.or(buffer.pts()), buffer.offset(), rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rounded_by_containers_give_the_frames_number() {
        for rate in [gst::Fraction::new(25, 1), gst::Fraction::new(30000, 1001), gst::Fraction::new(60, 1)] {
            for frame in [0u64, 1, 2, 999, 1_000_003] {
                let exact = frame as f64 * f64::from(rate.denom()) / f64::from(rate.numer());
                let whole_ms = gst::ClockTime::from_mseconds((exact * 1e3).round() as u64);
                assert_eq!(number(Some(whole_ms), 7, rate), frame);
            }
        }
    }

    #[test]
    fn without_a_rate_or_a_time_there_is_still_a_number() {
        let variable = gst::Fraction::new(0, 1);
        assert_eq!(number(Some(gst::ClockTime::from_nseconds(5)), 7, variable), 5);
        assert_eq!(number(None, 7, variable), 7);
        assert_eq!(number(None, NONE, variable), 0);
    }
}
