// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number of a frame, drawn into it as blocks of black and white that survive any codec. It tells which
//! frame a decoder has put out, whatever it says of its times.

/// Side of a block and height of the strip, in pixels.
pub const BLOCK: usize = 16;
/// Blocks for the number; as many more hold its complement.
const BITS: usize = 5;
/// Frames that can be told apart.
pub const MOST: usize = 1 << BITS;
/// Width that the strip needs.
pub const WIDTH: usize = 2 * BITS * BLOCK;
/// Between black and white, mean of a block, range [-1, 1]; what is nearer to the middle is read as neither.
const SURE: f32 = 0.25;

/// The bits of a number and its complement.
fn bits(number: usize) -> impl Iterator<Item = bool> {
    (0..2 * BITS).map(move |i| (number >> (i % BITS)) & 1 == usize::from(i < BITS))
}

/// Draws the strip into the last rows of planes `(3, height, width)`.
pub fn write(planes: &mut [f32], (width, height): (usize, usize), number: usize) {
    let bits: Vec<bool> = bits(number).collect();
    for plane in planes.chunks_exact_mut(width * height) {
        for row in plane[(height - BLOCK) * width..].chunks_exact_mut(width) {
            for (x, value) in row.iter_mut().enumerate() {
                *value = if bits[(x / BLOCK) % bits.len()] { 1.0 } else { -1.0 };
            }
        }
    }
}

/// Reads the strip; nothing if it is not plain.
pub fn read(planes: &[f32], (width, height): (usize, usize)) -> Option<usize> {
    let green = &planes[width * height..];
    let mut number = 0;
    for i in 0..2 * BITS {
        let rows = (height - BLOCK..height).map(|y| &green[y * width + i * BLOCK..][..BLOCK]);
        let mean = rows.flatten().sum::<f32>() / (BLOCK * BLOCK) as f32;
        if mean.abs() < SURE {
            return None;
        }
        number |= usize::from(mean > 0.0) << i;
    }
    let (low, complement) = (number & (MOST - 1), number >> BITS);
    (low == complement ^ (MOST - 1)).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_read_and_a_spoiled_one_is_not() {
        let size = (192, 48);
        for number in 0..MOST {
            let mut planes = vec![0.3; 3 * size.0 * size.1];
            write(&mut planes, size, number);
            assert_eq!(planes[0], 0.3);
            assert_eq!(read(&planes, size), Some(number));
            // One block from another frame.
            let mut other = vec![0.0; planes.len()];
            write(&mut other, size, number ^ 4);
            let row = size.0 * size.1 + (size.1 - BLOCK) * size.0;
            for y in 0..BLOCK {
                let at = row + y * size.0 + 2 * BLOCK;
                planes[at..at + BLOCK].copy_from_slice(&other[at..at + BLOCK]);
            }
            assert_eq!(read(&planes, size), None);
        }
        assert_eq!(read(&vec![0.0; 3 * size.0 * size.1], size), None);
    }
}
