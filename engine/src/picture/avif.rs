// SPDX-License-Identifier: MIT OR Apache-2.0
//! AVIF: one AV1 picture, made RGB as its matrix, range and sampling ask.

use image::{DynamicImage, ImageBuffer};
use re_rav1d::dav1d::{
    Decoder, PixelLayout, PlanarImageComponent, Settings,
    pixel::{MatrixCoefficients, YUVRange},
};

use super::{
    Limits,
    heif::{self, Item, Nclx},
    load::{Decoded, check_size},
};

type Read<T> = Result<T, String>;

/// A decoded frame: planes of samples without padding.
struct Frame {
    width: usize,
    height: usize,
    bits: u32,
    nclx: Nclx,
    /// Halvings of the chroma planes, across and down.
    halved: (bool, bool),
    /// True if chroma stands on the left luma sample of its pair, else between both.
    left: bool,
    /// True if chroma stands on the upper luma row of its pair, else between both.
    top: bool,
    planes: Vec<Vec<u16>>,
}

/// Decodes a file. A panic of the decoder, which a hostile file might cause, is an error like any other.
pub(super) fn decode(file: &[u8], limits: Limits) -> Read<Decoded> {
    std::panic::catch_unwind(|| decode_still(file, limits))
        .unwrap_or_else(|_| Err("AV1 data that its decoder cannot bear".into()))
}

fn decode_still(file: &[u8], limits: Limits) -> Read<Decoded> {
    let still = heif::read(file)?;
    let colour = frame(&still.colour, limits)?;
    let alpha = still.alpha.as_ref().map(|item| frame(item, limits)).transpose()?;
    let (width, height) = (colour.width, colour.height);
    if let Some(alpha) = &alpha
        && (alpha.width, alpha.height) != (width, height)
    {
        return Err(format!("opacity of {}×{} pixels for {width}×{height}", alpha.width, alpha.height));
    }
    let convert = Matrix::new(&colour)?;
    let premultiplied = still.colour.premultiplied;
    let channels = if alpha.is_some() { 4 } else { 3 };
    let mut pixels = Vec::with_capacity(channels * width * height);
    for y in 0..height {
        for x in 0..width {
            let mut rgb = convert.rgb(&colour, x, y);
            if let Some(alpha) = &alpha {
                let a = alpha.luma(x, y);
                if premultiplied && a > 0.0 {
                    rgb = rgb.map(|v| v / a);
                }
                pixels.extend(rgb);
                pixels.push(a);
            } else {
                pixels.extend(rgb);
            }
        }
    }
    let deep = colour.bits > 8 || alpha.is_some_and(|alpha| alpha.bits > 8);
    let image = if deep {
        let whole = pixels.iter().map(|v| (v * 65535.0 + 0.5) as u16).collect();
        image(width, height, channels, whole, DynamicImage::ImageRgb16, DynamicImage::ImageRgba16)
    } else {
        let whole = pixels.iter().map(|v| (v * 255.0 + 0.5) as u8).collect();
        image(width, height, channels, whole, DynamicImage::ImageRgb8, DynamicImage::ImageRgba8)
    };
    let mut image = image.ok_or("pixels are missing")?;
    // First turned, then mirrored (MIAF 7.3.6.7).
    image = match still.colour.turns {
        1 => image.rotate270(),
        2 => image.rotate180(),
        3 => image.rotate90(),
        _ => image,
    };
    image = match still.colour.mirror {
        Some(0) => image.flipv(),
        Some(_) => image.fliph(),
        None => image,
    };
    Ok(Decoded { image, icc: still.colour.icc })
}

fn image<T: image::Primitive>(
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<T>,
    rgb: fn(ImageBuffer<image::Rgb<T>, Vec<T>>) -> DynamicImage,
    rgba: fn(ImageBuffer<image::Rgba<T>, Vec<T>>) -> DynamicImage,
) -> Option<DynamicImage>
where
    image::Rgb<T>: image::Pixel<Subpixel = T>,
    image::Rgba<T>: image::Pixel<Subpixel = T>,
{
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    match channels {
        3 => ImageBuffer::from_raw(width, height, pixels).map(rgb),
        _ => ImageBuffer::from_raw(width, height, pixels).map(rgba),
    }
}

/// Decodes the AV1 data of an item.
fn frame(item: &Item, limits: Limits) -> Read<Frame> {
    let (width, height) = item.size.ok_or("does not say its size (ispe)")?;
    check_size(width as usize, height as usize, limits.max_pixels)?;
    if item.data.is_empty() {
        return Err("the file ends too early".into());
    }
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    // The data may disagree with the container: the decoder keeps to the same limit.
    settings.set_frame_size_limit(u32::try_from(limits.max_pixels).unwrap_or(u32::MAX));
    let damaged = |err| format!("AV1 data that cannot be decoded: {err}");
    let mut decoder = Decoder::with_settings(&settings).map_err(damaged)?;
    match decoder.send_data(item.data.clone(), None, None, None) {
        Err(err) if !err.is_again() => return Err(damaged(err)),
        _ => {}
    }
    let picture = decoder.get_picture().map_err(|err| {
        if err.is_again() { "AV1 data without a whole picture".into() } else { damaged(err) }
    })?;
    if (picture.width(), picture.height()) != (width, height) {
        let (w, h) = (picture.width(), picture.height());
        return Err(format!("AV1 data of {w}×{h} pixels for {width}×{height}"));
    }
    let (width, height) = (width as usize, height as usize);
    let bits = picture.bits_per_component().ok_or("AV1 data of an unknown depth")?.0 as u32;
    let (halved, count) = match picture.pixel_layout() {
        PixelLayout::I400 => ((false, false), 1),
        PixelLayout::I420 => ((true, true), 3),
        PixelLayout::I422 => ((true, false), 3),
        PixelLayout::I444 => ((false, false), 3),
    };
    use PlanarImageComponent::{U, V, Y};
    let planes = [Y, U, V].into_iter().take(count).enumerate().map(|(at, component)| {
        let (wide, high) = match at {
            0 => (width, height),
            _ => (width.div_ceil(1 + usize::from(halved.0)), height.div_ceil(1 + usize::from(halved.1))),
        };
        let (plane, stride) = (picture.plane(component), picture.stride(component) as usize);
        let mut samples = Vec::with_capacity(wide * high);
        for row in plane.chunks(stride.max(1)).take(high) {
            if bits == 8 {
                samples.extend(row.iter().take(wide).map(|&v| u16::from(v)));
            } else {
                samples.extend(row.chunks_exact(2).take(wide).map(|v| u16::from_ne_bytes([v[0], v[1]])));
            }
        }
        (samples.len() == wide * high).then_some(samples)
    });
    let planes = planes.collect::<Option<_>>().ok_or("pixels are missing")?;
    // The container's word stands above the data's (MIAF 7.3.6.4).
    let nclx = item.nclx.unwrap_or(Nclx {
        matrix: matrix_number(picture.matrix_coefficients()),
        full: picture.color_range() == YUVRange::Full,
    });
    let (left, top) = (matches!(item.siting, 1 | 2), item.siting == 2);
    Ok(Frame { width, height, bits, nclx, halved, left, top, planes })
}

/// The number that H.273 gives a matrix; `Unspecified` for those that no picture should use.
fn matrix_number(matrix: MatrixCoefficients) -> u16 {
    match matrix {
        MatrixCoefficients::Identity => 0,
        MatrixCoefficients::BT709 => 1,
        MatrixCoefficients::BT470M => 4,
        MatrixCoefficients::BT470BG => 5,
        MatrixCoefficients::ST170M => 6,
        MatrixCoefficients::ST240M => 7,
        MatrixCoefficients::BT2020NonConstantLuminance => 9,
        MatrixCoefficients::Unspecified => 2,
        _ => u16::MAX,
    }
}

impl Frame {
    /// A sample of the first plane, [0, 1] after its range.
    fn luma(&self, x: usize, y: usize) -> f32 {
        let code = f32::from(self.planes[0][y * self.width + x]);
        let step = (1u32 << (self.bits - 8)) as f32;
        let value = if self.nclx.full {
            code / ((1u32 << self.bits) - 1) as f32
        } else {
            (code - 16.0 * step) / (219.0 * step)
        };
        value.clamp(0.0, 1.0)
    }

    /// Two samples of a halved axis and the share of the second, for position `at`.
    fn between(at: usize, halved: bool, sited: bool, length: usize) -> (usize, usize, f32) {
        if !halved {
            return (at, at, 0.0);
        }
        let place = if sited { at as f32 / 2.0 } else { (at as f32 - 0.5) / 2.0 };
        let (low, last) = (place.floor(), length.div_ceil(2) - 1);
        let (a, b) = (low.max(0.0) as usize, (low + 1.0).max(0.0) as usize);
        (a.min(last), b.min(last), place - low)
    }

    /// Chroma of a plane at a luma position, [-0.5, 0.5], linear between samples.
    fn chroma(&self, plane: usize, x: usize, y: usize) -> f32 {
        let wide = if self.halved.0 { self.width.div_ceil(2) } else { self.width };
        let (left, right, across) = Self::between(x, self.halved.0, self.left, self.width);
        let (upper, lower, down) = Self::between(y, self.halved.1, self.top, self.height);
        let at = |x: usize, y: usize| f32::from(self.planes[plane][y * wide + x]);
        let row = |y| at(left, y) + (at(right, y) - at(left, y)) * across;
        let code = row(upper) + (row(lower) - row(upper)) * down;
        let middle = (1u32 << (self.bits - 1)) as f32;
        let span = if self.nclx.full {
            ((1u32 << self.bits) - 1) as f32
        } else {
            224.0 * (1u32 << (self.bits - 8)) as f32
        };
        (code - middle) / span
    }
}

/// Shares of red and blue in luma; `None` for the identity and for grey.
struct Matrix(Option<(f32, f32)>);

impl Matrix {
    fn new(frame: &Frame) -> Read<Self> {
        let shares = match frame.nclx.matrix {
            0 if frame.halved == (false, false) => None,
            0 => return Err("RGB planes of different sizes".into()),
            1 => Some((0.2126, 0.0722)),
            4 => Some((0.30, 0.11)),
            // Unspecified: as libavif reads it.
            2 | 5 | 6 => Some((0.299, 0.114)),
            7 => Some((0.212, 0.087)),
            9 => Some((0.2627, 0.0593)),
            other => return Err(format!("has colours of matrix {other}, which is not read here")),
        };
        Ok(Self(shares))
    }

    /// Red, green, blue of a pixel, [0, 1].
    fn rgb(&self, frame: &Frame, x: usize, y: usize) -> [f32; 3] {
        let luma = frame.luma(x, y);
        if frame.planes.len() == 1 {
            return [luma; 3];
        }
        let (cb, cr) = (frame.chroma(1, x, y), frame.chroma(2, x, y));
        let Some((kr, kb)) = self.0 else {
            // Planes of green, blue, red: all three with the first one's range.
            let middle = |c: f32| {
                let (half, top) = ((1u32 << (frame.bits - 1)) as f32, ((1u32 << frame.bits) - 1) as f32);
                if frame.nclx.full { c + half / top } else { (c * 224.0 + 112.0) / 219.0 }
            };
            return [middle(cr), luma, middle(cb)].map(|v| v.clamp(0.0, 1.0));
        };
        let (red, blue) = (luma + 2.0 * (1.0 - kr) * cr, luma + 2.0 * (1.0 - kb) * cb);
        let green = (luma - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|v| v.clamp(0.0, 1.0))
    }
}
