// SPDX-License-Identifier: MIT OR Apache-2.0
//! Large blocks of memory are kept for the next frame instead of being given back to the system; others begin with
//! a line of the caches.
//!
//! Every tensor of a frame is a block of many megabytes. The system hands such a block out page by page, each
//! filled with zeros when it is first touched: about a millisecond a megabyte, again with every frame. A program
//! that names [`KeepsLarge`] as its allocator pays for the first frame only:
//!
//! ```
//! #[global_allocator]
//! static MEMORY: i2sb::memory::KeepsLarge = i2sb::memory::KeepsLarge;
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    mem::MaybeUninit,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rayon::prelude::*;

/// Bytes from which on a block is kept: the size from which on C libraries ask the system for each block.
const LARGE: usize = 1 << 17;
/// Most bytes that are kept while nobody uses them.
const MOST: usize = 512 << 20;
/// Most blocks that are kept.
const PLACES: usize = 128;
/// Bytes from which on a block begins with a line of the caches: registers as wide as that are stored at half the speed
/// where each of them lies in two.
const LINED: usize = 1 << 10;
/// A line of the caches.
const ALIGN: usize = 64;

/// The system's allocator, but freed blocks of 128 KiB and more, which C libraries give back at once, wait, up to
/// 512 MiB of them, for a request of their size; the one that has waited longest leaves first.
#[derive(Debug, Clone, Copy)]
pub struct KeepsLarge;

#[derive(Clone, Copy)]
struct Block {
    at: *mut u8,
    size: usize,
}

/// Blocks that nobody uses, the oldest first.
struct Kept {
    blocks: [Option<Block>; PLACES],
    bytes: usize,
}

// SAFETY: blocks in here belong to nobody else.
unsafe impl Send for Kept {}

static KEPT: Mutex<Kept> = Mutex::new(Kept { blocks: [None; PLACES], bytes: 0 });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives every block that nobody uses back to the system.
pub fn release() {
    while let Some(block) = { kept().take(0) } {
        give_back(block);
    }
}

/// `len` values that `fill(at, part)` writes, `part` zeros that begin at value `at`: at most `block` at a time, on all
/// threads. Unlike `vec![0.0; len]` it passes through memory once.
pub(crate) fn filled(len: usize, block: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut out = Vec::with_capacity(len);
    out.spare_capacity_mut()[..len].par_chunks_mut(block).enumerate().for_each(|(i, part)| {
        for value in &mut *part {
            value.write(0.0);
        }
        // SAFETY: all of it has just been written; a value that may be unset has the layout of one that is.
        fill(i * block, unsafe { &mut *(std::ptr::from_mut(part) as *mut [f32]) });
    });
    // SAFETY: the parts are `len` values together.
    unsafe { out.set_len(len) };
    out
}

/// `len` values that `write` writes; what was there before is undefined.
///
/// # Safety
/// Where `write` returns no error, it has written every value.
pub(crate) unsafe fn written<E>(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<(), E>,
) -> Result<Vec<f32>, E> {
    let mut out = Vec::with_capacity(len);
    write(&mut out.spare_capacity_mut()[..len])?;
    // SAFETY: the caller's promise.
    unsafe { out.set_len(len) };
    Ok(out)
}

/// A copy, made on all threads: what a frame holds is more than one of them moves in the time of a small network.
pub(crate) fn copied(values: &[f32]) -> Vec<f32> {
    const PART: usize = 1 << 16;
    let copy = |out: &mut [MaybeUninit<f32>]| -> Result<(), Infallible> {
        out.par_chunks_mut(PART).zip(values.par_chunks(PART)).for_each(|(out, values)| {
            out.iter_mut().zip(values).for_each(|(out, v)| _ = out.write(*v));
        });
        Ok(())
    };
    // SAFETY: both have the same length, so each value has been written.
    let Ok(out) = unsafe { written(values.len(), copy) };
    out
}

/// Bytes that wait to be used again.
pub fn waiting() -> usize {
    kept().bytes
}

fn give_back(block: Block) {
    // SAFETY: made by `System` with this layout, and nobody uses it.
    unsafe { System.dealloc(block.at, whole(block.size)) };
}

impl Kept {
    /// Takes a block out; those behind it move up.
    fn take(&mut self, place: usize) -> Option<Block> {
        let block = self.blocks[place].take()?;
        self.blocks[place..].rotate_left(1);
        self.bytes -= block.size;
        Some(block)
    }

    fn of_size(&mut self, size: usize) -> Option<Block> {
        // The youngest: its pages may still be in a cache.
        let place = self.blocks.iter().rposition(|block| block.is_some_and(|block| block.size == size))?;
        self.take(place)
    }

    /// Takes a block in; those that have to leave for it.
    fn put(&mut self, block: Block) -> [Option<Block>; PLACES] {
        let mut leaving = [None; PLACES];
        for place in &mut leaving {
            if self.bytes + block.size <= MOST && self.blocks[PLACES - 1].is_none() {
                break;
            }
            *place = self.take(0);
        }
        let free = self.blocks.iter().position(Option::is_none).unwrap_or(PLACES - 1);
        self.blocks[free] = Some(block);
        self.bytes += block.size;
        leaving
    }
}

/// The size that a large block really has, so that blocks of nearly equal sizes can stand for each other.
fn class(size: usize) -> usize {
    size.next_multiple_of(1 << (size.ilog2() - 3))
}

/// The layout of a large block of this class.
fn whole(class: usize) -> Layout {
    // SAFETY: a power of two, and a class is at most an eighth above a size that a layout had.
    unsafe { Layout::from_size_align_unchecked(class, ALIGN) }
}

/// The layout that a block really has that is not kept.
fn lined(layout: Layout) -> Layout {
    if layout.size() < LINED { layout } else { layout.align_to(ALIGN).unwrap_or(layout) }
}

/// Whether blocks of this layout are kept.
fn is_large(layout: Layout) -> bool {
    (LARGE..=MOST).contains(&layout.size()) && layout.align() <= ALIGN
}

// SAFETY: blocks come from `System`, large ones with the layout of their class, which is as large and as aligned
// as asked for; a block is in use or kept, never both.
unsafe impl GlobalAlloc for KeepsLarge {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_large(layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(lined(layout)) };
        }
        let size = class(layout.size());
        let reused = kept().of_size(size);
        // SAFETY: the size is not zero.
        reused.map_or_else(|| unsafe { System.alloc(whole(size)) }, |block| block.at)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !is_large(layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(lined(layout)) };
        }
        let size = class(layout.size());
        let Some(block) = kept().of_size(size) else {
            // SAFETY: the size is not zero.
            return unsafe { System.alloc_zeroed(whole(size)) };
        };
        // SAFETY: the block is at least this large, and nobody else has it.
        unsafe { block.at.write_bytes(0, layout.size()) };
        block.at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if !is_large(layout) {
            // SAFETY: the caller's promise; such a block came from `System` with this layout.
            return unsafe { System.dealloc(at, lined(layout)) };
        }
        let leaving = kept().put(Block { at, size: class(layout.size()) });
        leaving.into_iter().flatten().for_each(give_back);
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: not zero, and not too large for the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(layout), is_large(new)) {
            (false, false) if lined(layout).align() == lined(new).align() => {
                // SAFETY: the caller's promise; the block came from `System` with this layout.
                return unsafe { System.realloc(at, lined(layout), size) };
            }
            (true, true) if class(layout.size()) == class(size) => return at,
            _ => {}
        }
        // SAFETY: the new layout is not empty.
        let to = unsafe { self.alloc(new) };
        if !to.is_null() {
            // SAFETY: two blocks, each at least as long as what is copied; the old one is the caller's.
            unsafe {
                to.copy_from_nonoverlapping(at, layout.size().min(size));
                self.dealloc(at, layout);
            }
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).unwrap()
    }

    /// One test, as all share the blocks that are kept.
    #[test]
    fn blocks_come_back_zeroed_when_asked_and_never_beyond_the_limit() {
        let size = 5 << 20;
        // SAFETY: layouts as allocated, nothing used after it was freed or beyond its end.
        unsafe {
            let first = KeepsLarge.alloc(layout(size));
            first.write_bytes(7, size);
            KeepsLarge.dealloc(first, layout(size));
            assert_eq!(waiting(), class(size));
            let again = KeepsLarge.alloc_zeroed(layout(size - 100));
            assert_eq!(again, first, "a block of nearly the size is used again");
            assert!(std::slice::from_raw_parts(again, size - 100).iter().all(|v| *v == 0));
            let other = KeepsLarge.alloc(layout(size));
            assert_ne!(other, again, "no block is in two hands");
            again.add(1000).write(9);
            let grown = KeepsLarge.realloc(again, layout(size - 100), 3 * size);
            assert_eq!(grown.add(1000).read(), 9);
            let shrunk = KeepsLarge.realloc(grown, layout(3 * size), 2000);
            assert_eq!(shrunk.add(1000).read(), 9);
            KeepsLarge.dealloc(shrunk, layout(2000));
            KeepsLarge.dealloc(other, layout(size));
            let near = |size: usize| KeepsLarge.alloc(layout(size));
            for (size, grown) in
                [(LINED, 3 * LINED), (LINED - 1, LINED), (LINED, LINED - 1), (LARGE - 1, LARGE)]
            {
                let at = near(size);
                assert!(size < LINED || at as usize % ALIGN == 0, "{size} bytes begin with a line");
                at.add(size / 2).write(5);
                let at = KeepsLarge.realloc(at, layout(size), grown);
                assert!(grown < LINED || at as usize % ALIGN == 0, "{grown} bytes begin with a line");
                assert_eq!(at.add(size / 2).read(), 5);
                KeepsLarge.dealloc(at, layout(grown));
            }
            let many: Vec<_> = (0..40).map(|_| KeepsLarge.alloc(layout(32 << 20))).collect();
            many.into_iter().for_each(|at| KeepsLarge.dealloc(at, layout(32 << 20)));
            assert!(waiting() <= MOST && waiting() >= MOST / 2, "{}", waiting());
        }
        release();
        assert_eq!(waiting(), 0);
    }
}
