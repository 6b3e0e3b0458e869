// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a frame's samples are, in 128 bits: MD5 of the rows of all planes, padding left out, as ffmpeg's `framemd5`
//! has it; and SHA-256 of files.

use anyhow::{Context, Result};
use gst::glib::{Checksum, ChecksumType};
use gst_video::{VideoFormat, prelude::*};
use sha2::{Digest, Sha256};

/// Digits of a file's digest: half of a SHA-256.
const DIGITS: usize = 32;

/// Formats whose fourth component holds nothing, the bytes of a sample, and which format of ffmpeg is hashed in
/// their place: red, green, blue.
const OPAQUE: &[(VideoFormat, usize, &str)] = &[
    (VideoFormat::Bgrx, 1, "rgb24"),
    (VideoFormat::Rgbx, 1, "rgb24"),
    (VideoFormat::Xrgb, 1, "rgb24"),
    (VideoFormat::Xbgr, 1, "rgb24"),
    // Made of opaque pictures only.
    (VideoFormat::Rgba64Le, 2, "rgb48le"),
];

/// ffmpeg's names of formats; where one is missing, GStreamer's is no worse.
const NAMES: &[(VideoFormat, &str)] = &[
    (VideoFormat::I420, "yuv420p"),
    (VideoFormat::Y42b, "yuv422p"),
    (VideoFormat::Y444, "yuv444p"),
    (VideoFormat::Y41b, "yuv411p"),
    (VideoFormat::A420, "yuva420p"),
    (VideoFormat::I42010le, "yuv420p10le"),
    (VideoFormat::I42210le, "yuv422p10le"),
    (VideoFormat::Y44410le, "yuv444p10le"),
    (VideoFormat::I42012le, "yuv420p12le"),
    (VideoFormat::I42212le, "yuv422p12le"),
    (VideoFormat::Y44412le, "yuv444p12le"),
    (VideoFormat::A44410le, "yuva444p10le"),
    (VideoFormat::Gbr10le, "gbrp10le"),
    (VideoFormat::Gbr12le, "gbrp12le"),
    (VideoFormat::Gbra10le, "gbrap10le"),
    (VideoFormat::Gbra12le, "gbrap12le"),
    (VideoFormat::Gray8, "gray"),
    (VideoFormat::Gray16Le, "gray16le"),
    (VideoFormat::Bgra, "bgra"),
];

/// The name that ffmpeg has for what is hashed.
pub fn pixels(format: VideoFormat) -> String {
    let opaque = OPAQUE.iter().find(|(f, ..)| *f == format).map(|(.., name)| *name);
    let name = opaque.or_else(|| NAMES.iter().find(|(f, _)| *f == format).map(|(_, name)| *name));
    name.map_or_else(|| format.to_string(), str::to_owned)
}

/// How many bytes of a frame are hashed.
pub fn size(info: &gst_video::VideoInfo) -> usize {
    if let Some((_, bytes, _)) = OPAQUE.iter().find(|(format, ..)| *format == info.format()) {
        return 3 * bytes * info.width() as usize * info.height() as usize;
    }
    let planes = 0..info.n_planes();
    planes.map(|plane| extent(info, plane)).map(|(width, height)| width * height).sum()
}

/// The digest of the samples of a frame.
pub fn frame(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> Result<String> {
    let info = gst_video::VideoInfo::from_caps(caps).context("no caps of raw video")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
        .context("a frame of another size")?;
    let mut hash = Checksum::new(ChecksumType::Md5).context("glib has MD5")?;
    let opaque = OPAQUE.iter().find(|(format, ..)| *format == info.format());
    for plane in 0..frame.n_planes() {
        let (stride, data) = (frame.plane_stride()[plane as usize] as usize, frame.plane_data(plane)?);
        let (width, height) = extent(&info, plane);
        for row in 0..height {
            let row = data.get(row * stride..row * stride + width).context("a plane that ends early")?;
            match opaque {
                Some((_, bytes, _)) => hash.update(&colours(row, *bytes, &info)),
                None => hash.update(row),
            }
        }
    }
    hash.string().context("MD5 has digits")
}

/// Red, green and blue of a row of pixels, without what is between them.
fn colours(row: &[u8], bytes: usize, info: &gst_video::VideoInfo) -> Vec<u8> {
    let places = [0u8, 1, 2].map(|c| info.format_info().poffset()[usize::from(c)] as usize);
    let pixels = row.chunks_exact(4 * bytes);
    pixels.flat_map(|pixel| places.into_iter().flat_map(|at| &pixel[at..at + bytes])).copied().collect()
}

/// The digest of bytes.
pub fn bytes(data: &[u8]) -> String {
    digits(Sha256::new_with_prefix(data))
}

/// The digest of a whole file, and its length.
pub fn file(path: &std::path::Path) -> Result<(String, u64)> {
    let (hash, length) = hashed(path)?;
    Ok((digits(hash), length))
}

/// The digest of all files of a folder, by name, and their length together.
pub fn folder(path: &std::path::Path) -> Result<(String, u64)> {
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let (mut text, mut length) = (String::new(), 0);
    for file in &files {
        let (digest, bytes) = self::file(file)?;
        text += &format!("{digest} {}\n", file.file_name().unwrap_or_default().to_string_lossy());
        length += bytes;
    }
    Ok((bytes(text.as_bytes()), length))
}

/// The SHA-256 of a whole file.
pub fn sha256(path: &std::path::Path) -> Result<String> {
    Ok(all_digits(hashed(path)?.0))
}

/// The SHA-256 of bytes.
pub fn sha256_of(data: &[u8]) -> String {
    all_digits(Sha256::new_with_prefix(data))
}

fn hashed(path: &std::path::Path) -> Result<(Sha256, u64)> {
    let mut source = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read = std::io::Read::read(&mut source, &mut part).with_context(|| path.display().to_string())?;
        if read == 0 {
            return Ok((hash, length));
        }
        hash.update(&part[..read]);
        length += read as u64;
    }
}

fn digits(hash: Sha256) -> String {
    all_digits(hash)[..DIGITS].to_owned()
}

fn all_digits(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes in a row, and rows, of a plane that hold samples.
fn extent(info: &gst_video::VideoInfo, plane: u32) -> (usize, usize) {
    let format = info.format_info();
    let parts = (0..info.n_components()).filter(|&c| format.plane()[c as usize] == plane);
    parts.fold((0, 0), |(width, height), c| {
        let bytes = info.comp_width(c as u8) as usize * format.pixel_stride()[c as usize] as usize;
        (width.max(bytes), height.max(info.comp_height(c as u8) as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_colour_is_does_not_count() {
        gst::init().unwrap();
        for (format, bytes, _) in OPAQUE {
            let info = gst_video::VideoInfo::builder(*format, 1, 1).build().unwrap();
            let caps = info.to_caps().unwrap();
            let of = |data: Vec<u8>| frame(gst::Buffer::from_slice(data).as_ref(), &caps).unwrap();
            let fourth = 6 - (0..3).map(|c| info.format_info().poffset()[c] as usize / bytes).sum::<usize>();
            let plain = of(vec![7; 4 * bytes]);
            for at in 0..4 * bytes {
                let mut data = vec![7; 4 * bytes];
                data[at] = 8;
                assert_eq!(of(data) == plain, at / bytes == fourth, "{format} byte {at}");
            }
            assert_eq!(size(&info), 3 * bytes);
        }
    }

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
        assert_eq!((plain.len(), size(&info)), (DIGITS, 18));
    }
}
