// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loaded library and its functions.

use std::{
    ffi::c_void,
    path::{Path, PathBuf},
    ptr::NonNull,
};

use i2sb::{Cancel, pixel::Raw};
use i2sb_cuda_abi as abi;
use i2sb_cuda_abi::{Code, FILES, SYMBOLS, Text, VERSION};

use super::{CudaError, search::LIBRARY_VARIABLE};

/// Most bytes of a text from the library.
const TEXT_LIMIT: usize = 4096;

/// A library of the right version.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    status: abi::StatusFn,
    open: abi::OpenFn,
    twin: abi::TwinFn,
    describe: abi::DescribeFn,
    restore: abi::RestoreFn,
    restore_raw: abi::RestoreRawFn,
    free: abi::FreeFn,
    // Keeps the functions above where they are.
    _library: libloading::Library,
}

/// An engine inside a library. Not cloned, so used by one thread at a time.
#[derive(Debug)]
pub struct Handle(NonNull<abi::Engine>);

// SAFETY: the interface lets an engine move between threads; it is used by one at a time.
unsafe impl Send for Handle {}

impl Library {
    /// The first of `places` where a library is.
    ///
    /// # Errors
    /// [`CudaError::NotFound`] with all places, or why the one found cannot be used.
    pub fn find(places: &[PathBuf]) -> Result<Self, CudaError> {
        let mut reason = None;
        for place in places {
            let bare = place.parent().is_none_or(|folder| folder.as_os_str().is_empty());
            if !bare && !place.exists() {
                continue;
            }
            match Self::load(place) {
                // The system's loader found no such file: as good as not there.
                Err(CudaError::Unloadable { reason, .. })
                    if bare && reason.starts_with(&*place.to_string_lossy()) => {}
                Err(error) if bare => reason = Some(error),
                done => return done,
            }
        }
        Err(reason.unwrap_or_else(|| CudaError::NotFound {
            names: FILES.iter().map(|name| (*name).to_owned()).collect(),
            searched: places.to_vec(),
            variable: LIBRARY_VARIABLE,
        }))
    }

    /// Loads one file.
    ///
    /// # Errors
    /// [`CudaError`]: what it needs and is not there, or its version.
    pub fn load(path: &Path) -> Result<Self, CudaError> {
        // SAFETY: the file is the one that the user installed under this name, and its initialisers are
        // those of Rust's and NVIDIA's libraries.
        let library = unsafe { libloading::Library::new(path) }.map_err(|error| refused(path, &error))?;
        let symbol = |i: usize| SYMBOLS[i].as_bytes();
        let missing = |error: libloading::Error| refused(path, &error);
        // SAFETY: the names and types are those of the interface; the version is asked for first, and
        // the others are used only if it is the one that the types belong to.
        unsafe {
            let version = *library.get::<abi::VersionFn>(symbol(0)).map_err(missing)?;
            let found = version();
            if found != VERSION {
                return Err(CudaError::Version { path: path.to_owned(), found, needed: VERSION });
            }
            Ok(Self {
                path: path.to_owned(),
                status: *library.get(symbol(1)).map_err(missing)?,
                open: *library.get(symbol(2)).map_err(missing)?,
                twin: *library.get(symbol(3)).map_err(missing)?,
                describe: *library.get(symbol(4)).map_err(missing)?,
                restore: *library.get(symbol(5)).map_err(missing)?,
                restore_raw: *library.get(symbol(6)).map_err(missing)?,
                free: *library.get(symbol(7)).map_err(missing)?,
                _library: library,
            })
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a device can be used, in words.
    ///
    /// # Errors
    /// [`CudaError::Refused`]: driver missing or too old, no such device, too little memory.
    pub fn status(&self, device: &str) -> Result<String, CudaError> {
        // SAFETY: the text and the room live until the call returns.
        answer(|room| unsafe { (self.status)(Text::of(device), room) })
    }

    /// Opens an engine; `preset` is a folder, a name, or empty.
    ///
    /// # Errors
    /// [`CudaError::Refused`] with the library's words.
    pub fn open(
        &self,
        preset: &str,
        detail: f32,
        device: &str,
        precision: &str,
    ) -> Result<Handle, CudaError> {
        let (preset, device, precision) = (Text::of(preset), Text::of(device), Text::of(precision));
        let open = abi::Open { preset, detail, device, precision };
        let mut engine = std::ptr::null_mut();
        // SAFETY: all that is pointed to lives until the call returns.
        answer(|room| unsafe { (self.open)(&raw const open, &raw mut engine, room) })?;
        handle(engine)
    }

    /// A second engine on the network of `engine`.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn twin(&self, engine: &Handle) -> Result<Handle, CudaError> {
        let mut twin = std::ptr::null_mut();
        // SAFETY: the engine is this library's, and not freed; the others live until the call returns.
        answer(|room| unsafe { (self.twin)(engine.0.as_ptr(), &raw mut twin, room) })?;
        handle(twin)
    }

    /// Model, hash, device and precision.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn describe(&self, engine: &Handle) -> Result<String, CudaError> {
        // SAFETY: the engine is this library's, and not freed.
        answer(|room| unsafe { (self.describe)(engine.0.as_ptr(), room) })
    }

    /// Restores `input`, planes of `width·height`, into `output`. Returns how many pictures of this engine had to
    /// be computed again in f32 so far.
    ///
    /// # Errors
    /// [`CudaError::Refused`]; its code says if it was cancelled, or memory was short.
    #[allow(clippy::too_many_arguments)]
    pub fn restore(
        &self,
        engine: &mut Handle,
        (width, height): (usize, usize),
        input: &[f32],
        output: &mut [f32],
        knobs: abi::Knobs,
        cancel: &Cancel,
    ) -> Result<u64, CudaError> {
        let samples = width.saturating_mul(height).saturating_mul(3);
        if input.len() != samples || output.len() != samples {
            let reason = format!("{} samples in, {} out, {samples} needed", input.len(), output.len());
            return Err(CudaError::Refused { code: Code::Misused, reason });
        }
        let frame = abi::Frame {
            width,
            height,
            input: input.as_ptr(),
            output: output.as_mut_ptr(),
            knobs,
            cancelled,
            context: std::ptr::from_ref(cancel).cast(),
        };
        // SAFETY: the engine is this library's, not freed, and borrowed for writing; all that the frame
        // points to lives until the call returns and has the sizes it says.
        number(answer(|room| unsafe { (self.restore)(engine.0.as_ptr(), &raw const frame, room) })?)
    }

    /// Adds `strength` of the restoration to a frame in its own format. Returns the number of [`Library::restore`], and
    /// whether the network gave samples that no picture has.
    ///
    /// # Errors
    /// As [`Library::restore`]; the frame is then as it was.
    pub fn restore_raw(
        &self,
        engine: &mut Handle,
        raw: &mut Raw,
        strength: f32,
        knobs: abi::Knobs,
        cancel: &Cancel,
    ) -> Result<(u64, bool), CudaError> {
        let (view, color, mut broken) = (raw.view, raw.color, 0);
        let frame = abi::RawFrame {
            format: Text::of(view.format.name),
            width: view.width,
            height: view.height,
            chroma_rows: view.rows(1),
            color: abi::Color {
                luma: [color.kr, color.kb],
                offset: color.offset,
                scale: color.scale,
                site: [color.site.0, color.site.1],
            },
            bytes: raw.bytes.as_mut_ptr(),
            length: raw.bytes.len(),
            strength,
            broken: &raw mut broken,
            knobs,
            cancelled,
            context: std::ptr::from_ref(cancel).cast(),
        };
        // SAFETY: as in `restore`; the library refuses a length that is not the format's.
        let told = answer(|room| unsafe { (self.restore_raw)(engine.0.as_ptr(), &raw const frame, room) })?;
        Ok((number(told)?, broken != 0))
    }

    /// Frees an engine.
    pub fn free(&self, engine: Handle) {
        // SAFETY: the engine is this library's and gone with this call.
        unsafe { (self.free)(engine.0.as_ptr()) };
    }
}

fn number(told: String) -> Result<u64, CudaError> {
    let reason = || format!("the library told {told:?} instead of a number of pictures");
    told.parse().map_err(|_| CudaError::Refused { code: Code::Failed, reason: reason() })
}

fn handle(engine: *mut abi::Engine) -> Result<Handle, CudaError> {
    let nothing = || CudaError::Refused { code: Code::Failed, reason: "the library gave no engine".into() };
    NonNull::new(engine).map(Handle).ok_or_else(nothing)
}

/// What the library asks between parts of its work.
unsafe extern "C" fn cancelled(context: *const c_void) -> bool {
    // SAFETY: `Library::restore` hands out the token, which outlives its call.
    unsafe { context.cast::<Cancel>().as_ref() }.is_some_and(Cancel::is_cancelled)
}

fn answer(call: impl FnOnce(abi::Room) -> i32) -> Result<String, CudaError> {
    let mut bytes = vec![0u8; TEXT_LIMIT];
    let mut length = 0;
    let room = abi::Room { bytes: bytes.as_mut_ptr().cast(), capacity: bytes.len(), length: &raw mut length };
    let code = Code::from_number(call(room));
    bytes.truncate(length.min(TEXT_LIMIT));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if code == Code::Done { Ok(text) } else { Err(CudaError::Refused { code, reason: text }) }
}

/// What the system's loader said, told apart by what it misses.
fn refused(path: &Path, error: &libloading::Error) -> CudaError {
    use std::error::Error;
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let path = path.to_owned();
    if reason.contains("libcuda.so") {
        return CudaError::NoDriver { path, reason };
    }
    CudaError::Unloadable { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nowhere_is_told_with_every_place() {
        let places = ["/nowhere/libi2sb-cuda.so", "/elsewhere/libi2sb-cuda.so", "libi2sb-cuda-none.so"];
        let error = Library::find(&places.map(PathBuf::from)).unwrap_err();
        assert!(matches!(error, CudaError::NotFound { .. }), "{error:?}");
        let text = error.to_string();
        assert!(places.iter().all(|place| text.contains(place)) && text.contains(LIBRARY_VARIABLE), "{text}");
    }

    #[test]
    fn a_file_that_is_no_library_is_told_with_the_loaders_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libi2sb-cuda.so");
        std::fs::write(&path, "no library").unwrap();
        let error = Library::find(std::slice::from_ref(&path)).unwrap_err();
        assert!(matches!(error, CudaError::Unloadable { .. }), "{error:?}");
        assert!(error.to_string().contains("LD_LIBRARY_PATH"), "{error}");
    }
}
