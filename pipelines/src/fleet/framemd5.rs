// SPDX-License-Identifier: MIT OR Apache-2.0
//! Digests of frames as `ffmpeg -f framemd5` prints them, version 2.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::digest;

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// The whole file: `caps` are those of the frames, `frames` their times in nanoseconds and digests.
pub fn text<'a>(caps: &gst::CapsRef, frames: impl Iterator<Item = (u64, &'a str)>) -> Result<String> {
    let info = gst_video::VideoInfo::from_caps(caps).context("no caps of raw video")?;
    let (rate, shape) = (info.fps(), info.par());
    // Frames are counted; without a rate, nanoseconds.
    let (numer, denom) = match (u128::try_from(rate.numer()), u128::try_from(rate.denom())) {
        (Ok(numer @ 1..), Ok(denom)) => (numer, denom),
        _ => (SECOND, 1),
    };
    let mut out = format!(
        "#format: frame checksums\n#version: 2\n#hash: MD5\n#software: i2sb-run {}\n#tb 0: {denom}/{numer}\n\
         #media_type 0: video\n#codec_id 0: rawvideo\n#dimensions 0: {}x{}\n#sar 0: {}/{}\n\
         #stream#, dts,        pts, duration,     size, hash\n",
        env!("CARGO_PKG_VERSION"),
        info.width(),
        info.height(),
        shape.numer(),
        shape.denom()
    );
    let size = digest::size(&info);
    let mut first = None;
    for (time, digest) in frames {
        let after = u128::from(time - *first.get_or_insert(time));
        let pts = (after * numer + denom * SECOND / 2) / (denom * SECOND);
        writeln!(out, "0, {pts:>10}, {pts:>10}, {:>8}, {size:>8}, {digest}", 1)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_by_their_time() {
        gst::init().unwrap();
        let caps: gst::Caps =
            "video/x-raw,format=I420,width=6,height=4,framerate=30000/1001,pixel-aspect-ratio=8/9"
                .parse()
                .unwrap();
        // As Matroska rounds them, and the first not at 0.
        let text =
            text(&caps, [1_000_000_000, 1_033_000_000, 1_100_000_000].into_iter().zip(["a", "b", "c"]))
                .unwrap();
        assert!(text.contains("#tb 0: 1001/30000\n") && text.contains("#sar 0: 8/9\n"), "{text}");
        let last: Vec<&str> = text.lines().skip(10).collect();
        assert_eq!(
            last,
            [
                "0,          0,          0,        1,       36, a",
                "0,          1,          1,        1,       36, b",
                "0,          3,          3,        1,       36, c",
            ]
        );
    }
}
