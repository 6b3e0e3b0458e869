// SPDX-License-Identifier: MIT OR Apache-2.0
//! The C interface of `libi2sb-cuda.so`: what the library exports and the plugin calls.
//!
//! Both sides are compiled against this crate; a library of another [`VERSION`] is refused before any
//! other function of it is called. Texts are UTF-8 with a length, not ended by zero. No panic crosses.

use std::ffi::{c_char, c_void};

/// Grows with every change below.
pub const VERSION: u32 = 5;

/// Names of the library's file: as installed, and as cargo builds it.
pub const FILES: &[&str] = &["libi2sb-cuda.so", "libi2sb_cuda.so"];

/// Names of the exported functions, in the order of the types below.
pub const SYMBOLS: [&str; 8] = [
    "i2sb_cuda_version",
    "i2sb_cuda_status",
    "i2sb_cuda_open",
    "i2sb_cuda_twin",
    "i2sb_cuda_describe",
    "i2sb_cuda_restore",
    "i2sb_cuda_restore_raw",
    "i2sb_cuda_free",
];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// It did what was asked.
    Done = 0,
    /// It was asked to stop.
    Cancelled = 1,
    /// The device has too little memory.
    OutOfMemory = 2,
    /// The device cannot be used: driver, number, generation.
    Device = 3,
    /// A setting is out of range.
    Setting = 4,
    /// The preset's files cannot be used.
    File = 5,
    /// Everything else.
    Failed = 6,
    /// A defect: the library panicked, and the engine must not be used again.
    Panicked = 7,
    /// A pointer or a length that cannot be.
    Misused = 8,
}

impl Code {
    /// All, for reading a number back.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Cancelled,
        Self::OutOfMemory,
        Self::Device,
        Self::Setting,
        Self::File,
        Self::Failed,
        Self::Panicked,
        Self::Misused,
    ];

    /// What a library said; a number that this version does not know is [`Code::Failed`].
    pub fn from_number(number: i32) -> Self {
        Self::ALL.into_iter().find(|code| *code as i32 == number).unwrap_or(Self::Failed)
    }
}

/// A text that is lent for one call.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Text {
    /// UTF-8.
    pub bytes: *const u8,
    /// How many bytes.
    pub length: usize,
}

impl Text {
    /// Lends `text`.
    pub fn of(text: &str) -> Self {
        Self { bytes: text.as_ptr(), length: text.len() }
    }
}

/// Where a call puts a text: as much of it as there is room for.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Room {
    /// Room for the text.
    pub bytes: *mut c_char,
    /// Bytes of room.
    pub capacity: usize,
    /// Written: the length of the text.
    pub length: *mut usize,
}

/// What is to be opened.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Open {
    /// Folder of the preset, or its name; empty: the one inside the library.
    pub preset: Text,
    /// Share of the preset's perceptual end, 0 to 1.
    pub detail: f32,
    /// `cpu` or `cuda:N`.
    pub device: Text,
    /// `f32`, `f16` or `bf16`.
    pub precision: Text,
}

/// What may change from picture to picture.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Knobs {
    /// Network evaluations; 0: as the preset says.
    pub steps: u32,
    /// Edge of a tile in pixels; 0: chosen by the engine.
    pub tile: u32,
    /// Seed of the noise.
    pub seed: u64,
    /// Name of the sampler; empty: the preset's.
    pub sampler: Text,
}

/// Asked between parts of the work, from any thread while the call lasts; true stops it.
pub type Cancelled = unsafe extern "C" fn(*const c_void) -> bool;

/// A picture and where its restoration goes.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Frame {
    /// Width in pixels.
    pub width: usize,
    /// Height in rows.
    pub height: usize,
    /// `3·width·height` samples: planes R, G, B in [-1, 1].
    pub input: *const f32,
    /// As many.
    pub output: *mut f32,
    /// What may change from picture to picture.
    pub knobs: Knobs,
    /// Whether to stop.
    pub cancelled: Cancelled,
    /// Handed to `cancelled`.
    pub context: *const c_void,
}

/// What the samples of a raw frame mean.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Color {
    /// Weights of red and blue in luma.
    pub luma: [f32; 2],
    /// Sample value of zero, per component.
    pub offset: [f32; 3],
    /// Samples per unit, per component.
    pub scale: [f32; 3],
    /// Where a chroma sample sits, in luma pixels right of and below the first of its group.
    pub site: [f32; 2],
}

/// A frame in its own raw format, plane after plane and row after row without gaps, restored in place.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct RawFrame {
    /// Name of the format, as in caps.
    pub format: Text,
    /// Width in pixels.
    pub width: usize,
    /// Height in rows.
    pub height: usize,
    /// Rows of the second and third component.
    pub chroma_rows: usize,
    /// What its samples mean.
    pub color: Color,
    /// The frame.
    pub bytes: *mut u8,
    /// How many bytes it has.
    pub length: usize,
    /// How much of the restoration is added, 0 to 1.
    pub strength: f32,
    /// Written: 1 if the network gave samples that no picture has, which were left as they were; else 0.
    pub broken: *mut u32,
    /// What may change from picture to picture.
    pub knobs: Knobs,
    /// Whether to stop.
    pub cancelled: Cancelled,
    /// Handed to `cancelled`.
    pub context: *const c_void,
}

/// An opened engine. Used by one thread at a time.
#[repr(C)]
pub struct Engine {
    _opaque: [u8; 0],
}

/// [`VERSION`] of the library.
pub type VersionFn = unsafe extern "C" fn() -> u32;
/// Whether the device (as in [`Open::device`]) can be used; the text says why not, or what it is.
pub type StatusFn = unsafe extern "C" fn(Text, Room) -> i32;
/// Opens an engine; on failure the text says why, and the pointer stays as it was.
pub type OpenFn = unsafe extern "C" fn(*const Open, *mut *mut Engine, Room) -> i32;
/// A second engine on the same network, for a second thread: while one picture is computed, the other's may come
/// or go.
pub type TwinFn = unsafe extern "C" fn(*const Engine, *mut *mut Engine, Room) -> i32;
/// Model, hash, device and precision, one a line.
pub type DescribeFn = unsafe extern "C" fn(*const Engine, Room) -> i32;
/// Restores a picture. When done, the text is the number of pictures so far that went beyond the range of the
/// precision and were computed again in f32.
pub type RestoreFn = unsafe extern "C" fn(*mut Engine, *const Frame, Room) -> i32;
/// Restores a frame in its own format. When done, the text is as that of [`RestoreFn`]; else the frame is as it was.
pub type RestoreRawFn = unsafe extern "C" fn(*mut Engine, *const RawFrame, Room) -> i32;
/// Frees an engine; null is allowed.
pub type FreeFn = unsafe extern "C" fn(*mut Engine);
