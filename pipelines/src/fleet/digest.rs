// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a frame's samples are, in 128 bits: SHA-256 of the rows of all planes, padding left out, cut in half.

use anyhow::{Context, Result};
use gst_video::prelude::*;
use sha2::{Digest, Sha256};

/// Half of a SHA-256, in hexadecimal digits.
const DIGITS: usize = 32;

/// The digest of the samples of a frame.
pub fn frame(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> Result<String> {
    let info = gst_video::VideoInfo::from_caps(caps).context("no caps of raw video")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
        .context("a frame of another size")?;
    let mut hash = Sha256::new();
    for plane in 0..frame.n_planes() {
        let (stride, data) = (frame.plane_stride()[plane as usize] as usize, frame.plane_data(plane)?);
        let (width, height) = extent(&frame, plane);
        for row in 0..height {
            hash.update(data.get(row * stride..row * stride + width).context("a plane that ends early")?);
        }
    }
    Ok(digits(hash))
}

/// The digest of bytes.
pub fn bytes(data: &[u8]) -> String {
    digits(Sha256::new_with_prefix(data))
}

/// The digest of a whole file, and its length.
pub fn file(path: &std::path::Path) -> Result<(String, u64)> {
    let mut source = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read = std::io::Read::read(&mut source, &mut part).with_context(|| path.display().to_string())?;
        if read == 0 {
            return Ok((digits(hash), length));
        }
        hash.update(&part[..read]);
        length += read as u64;
    }
}

fn digits(hash: Sha256) -> String {
    let text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    text[..DIGITS].to_owned()
}

/// Bytes in a row, and rows, of a plane that hold samples.
fn extent<T>(frame: &gst_video::VideoFrameRef<T>, plane: u32) -> (usize, usize)
where
    gst_video::VideoFrameRef<T>: VideoFrameExt,
{
    let format = frame.format_info();
    let parts = (0..frame.n_components()).filter(|&c| format.plane()[c as usize] == plane);
    parts.fold((0, 0), |(width, height), c| {
        let bytes = frame.comp_width(c) as usize * format.pixel_stride()[c as usize] as usize;
        (width.max(bytes), height.max(frame.comp_height(c) as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_does_not_count_and_every_sample_does() {
        gst::init().unwrap();
        // 6 by 2 pixels of I420: rows of 6 and 3 bytes in strides of 8 and 4.
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 6, 2).build().unwrap();
        let caps = info.to_caps().unwrap();
        let of = |data: Vec<u8>| frame(gst::Buffer::from_slice(data).as_ref(), &caps).unwrap();
        let plain = of(vec![7; info.size()]);
        for at in 0..info.size() {
            let mut data = vec![7; info.size()];
            data[at] = 8;
            let padding = matches!(at, 6 | 7 | 14 | 15 | 19 | 23);
            assert_eq!(of(data) == plain, padding, "byte {at}");
        }
        assert_eq!(plain.len(), DIGITS);
    }
}
