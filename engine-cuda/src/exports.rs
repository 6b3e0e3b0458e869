// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exported functions: pointers to references and back, and no panic out of here.

use std::{
    any::Any,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
};

use i2sb::{
    Cancel,
    pixel::{Color, PixelFormat, Raw, View},
};
use i2sb_cuda_abi::{Cancelled, Code, Engine, Frame, Knobs, Open, RawFrame, Room, Text, VERSION};

use crate::state::{State, Wish, code, status};

/// What went wrong: its kind, and words.
type Failure = (Code, String);

fn failed(error: i2sb::Error) -> Failure {
    (code(&error), error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// Runs `work`, writes its words and returns its code.
///
/// # Safety
/// `room` is as [`Room`] says.
unsafe fn answer(room: Room, work: impl FnOnce() -> Result<String, Failure>) -> i32 {
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)));
    let (code, text) = match done {
        Ok(text) => (Code::Done, text),
        Err(failure) => failure,
    };
    let length = text.len().min(room.capacity);
    if !room.bytes.is_null() {
        // SAFETY: the caller has `capacity` bytes there, and `length` is at most that.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), room.bytes.cast(), length) };
    }
    if !room.length.is_null() {
        // SAFETY: not null, so it is the caller's number.
        unsafe { *room.length = length };
    }
    code as i32
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    (Code::Panicked, text.unwrap_or_else(|| "no message".into()))
}

/// # Safety
/// As [`Text`] says, for as long as the call lasts.
unsafe fn text<'a>(text: Text) -> Result<&'a str, Failure> {
    if text.length == 0 {
        return Ok("");
    }
    if text.bytes.is_null() {
        return Err((Code::Misused, "a text without bytes".into()));
    }
    // SAFETY: the caller lends `length` bytes for this call.
    let bytes = unsafe { std::slice::from_raw_parts(text.bytes, text.length) };
    std::str::from_utf8(bytes).map_err(|error| (Code::Misused, format!("a text that is not UTF-8: {error}")))
}

/// # Safety
/// As [`Knobs`] says, for as long as the call lasts.
unsafe fn wish<'a>(knobs: Knobs) -> Result<Wish<'a>, Failure> {
    // SAFETY: the caller's promise.
    let sampler = unsafe { text(knobs.sampler)? };
    Ok(Wish { steps: knobs.steps, tile: knobs.tile, seed: knobs.seed, sampler })
}

fn null(what: &str) -> Failure {
    (Code::Misused, format!("{what} is null"))
}

/// See [`i2sb_cuda_abi::VersionFn`].
#[unsafe(no_mangle)]
pub extern "C" fn i2sb_cuda_version() -> u32 {
    VERSION
}

/// See [`i2sb_cuda_abi::StatusFn`].
///
/// # Safety
/// The arguments are as their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_status(device: Text, room: Room) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { answer(room, || status(text(device)?).map_err(failed)) }
}

/// See [`i2sb_cuda_abi::OpenFn`].
///
/// # Safety
/// The arguments are as their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_open(open: *const Open, engine: *mut *mut Engine, room: Room) -> i32 {
    let work = || {
        if engine.is_null() {
            return Err(null("where the engine goes"));
        }
        // SAFETY: null or the caller's.
        let open = unsafe { open.as_ref() }.ok_or_else(|| null("what is to be opened"))?;
        // SAFETY: the caller's promise.
        let (preset, device, precision) =
            unsafe { (text(open.preset)?, text(open.device)?, text(open.precision)?) };
        let state = State::open(preset, open.detail, device, precision).map_err(failed)?;
        // SAFETY: not null, so it is the caller's place for a pointer.
        unsafe { *engine = Box::into_raw(Box::new(state)).cast() };
        Ok(String::new())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(room, work) }
}

/// See [`i2sb_cuda_abi::TwinFn`].
///
/// # Safety
/// The engine is one of [`i2sb_cuda_open`]'s, not freed; the other arguments are as their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_twin(engine: *const Engine, twin: *mut *mut Engine, room: Room) -> i32 {
    // SAFETY: null, or made by `i2sb_cuda_open` from this type.
    let state = unsafe { engine.cast::<State>().as_ref() };
    let work = || {
        let state = state.ok_or_else(|| null("the engine"))?;
        if twin.is_null() {
            return Err(null("where the twin goes"));
        }
        // SAFETY: not null, so it is the caller's place for a pointer.
        unsafe { *twin = Box::into_raw(Box::new(state.twin())).cast() };
        Ok(String::new())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(room, work) }
}

/// See [`i2sb_cuda_abi::DescribeFn`].
///
/// # Safety
/// The engine is one of [`i2sb_cuda_open`]'s, not freed; `room` as its type says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_describe(engine: *const Engine, room: Room) -> i32 {
    // SAFETY: null, or made by `i2sb_cuda_open` from this type.
    let state = unsafe { engine.cast::<State>().as_ref() };
    // SAFETY: the caller's promise.
    unsafe { answer(room, || Ok(state.ok_or_else(|| null("the engine"))?.description.clone())) }
}

/// See [`i2sb_cuda_abi::RestoreFn`].
///
/// # Safety
/// The engine is one of [`i2sb_cuda_open`]'s or its twin, not freed, used by this thread alone; the others as their
/// types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_restore(engine: *mut Engine, frame: *const Frame, room: Room) -> i32 {
    let work = || {
        // SAFETY: null, or made by `i2sb_cuda_open` from this type and used by one thread.
        let state = unsafe { engine.cast::<State>().as_mut() }.ok_or_else(|| null("the engine"))?;
        // SAFETY: null or the caller's.
        let frame = unsafe { frame.as_ref() }.ok_or_else(|| null("the picture"))?;
        let samples = frame.width.checked_mul(frame.height).and_then(|pixels| pixels.checked_mul(3));
        let samples = samples.filter(|&n| n > 0 && n <= isize::MAX as usize / size_of::<f32>());
        let Some(samples) = samples else {
            return Err((Code::Misused, format!("a picture of {}×{} pixels", frame.width, frame.height)));
        };
        if frame.input.is_null() || frame.output.is_null() {
            return Err(null("input or output"));
        }
        // SAFETY: not null, and the caller has `3·width·height` samples there.
        let rgb = unsafe { std::slice::from_raw_parts(frame.input, samples) };
        // SAFETY: the caller's promise.
        let wish = unsafe { wish(frame.knobs)? };
        let cancel = asking(frame.cancelled, frame.context);
        let restored = state.restore(rgb, (frame.width, frame.height), &wish, &cancel).map_err(failed)?;
        // SAFETY: not null, the caller has as many samples there; `restored` is memory of its own.
        unsafe { std::ptr::copy_nonoverlapping(restored.as_ptr(), frame.output, samples) };
        Ok(state.recomputed().to_string())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(room, work) }
}

/// See [`i2sb_cuda_abi::RestoreRawFn`].
///
/// # Safety
/// As [`i2sb_cuda_restore`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_restore_raw(
    engine: *mut Engine,
    frame: *const RawFrame,
    room: Room,
) -> i32 {
    let work = || {
        // SAFETY: null, or made by `i2sb_cuda_open` from this type and used by one thread.
        let state = unsafe { engine.cast::<State>().as_mut() }.ok_or_else(|| null("the engine"))?;
        // SAFETY: null or the caller's.
        let frame = unsafe { frame.as_ref() }.ok_or_else(|| null("the frame"))?;
        if frame.bytes.is_null() || frame.broken.is_null() {
            return Err(null("the frame's bytes, or where the answer goes"));
        }
        // SAFETY: the caller's promise.
        let (name, wish) = unsafe { (text(frame.format)?, wish(frame.knobs)?) };
        let format =
            PixelFormat::named(name).ok_or((Code::Misused, format!("no format is called {name:?}")))?;
        let view = View::packed(format, (frame.width, frame.height), frame.chroma_rows);
        let view = view.map_err(|error| (Code::Misused, error.to_string()))?;
        if frame.length != view.bytes() {
            return Err((Code::Misused, format!("{} bytes instead of {}", frame.length, view.bytes())));
        }
        let c = frame.color;
        let [(kr, kb), site] = [c.luma, c.site].map(|[a, b]| (a, b));
        let color = Color { kr, kb, offset: c.offset, scale: c.scale, site };
        // SAFETY: not null, and the caller has `length` bytes there.
        let bytes = unsafe { std::slice::from_raw_parts_mut(frame.bytes, frame.length) };
        let mut raw = Raw { view, color, bytes: bytes.to_vec() };
        let cancel = asking(frame.cancelled, frame.context);
        let broken = state.restore_raw(&mut raw, frame.strength, &wish, &cancel).map_err(failed)?;
        bytes.copy_from_slice(&raw.bytes);
        // SAFETY: not null, so it is the caller's number.
        unsafe { *frame.broken = u32::from(broken) };
        Ok(state.recomputed().to_string())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(room, work) }
}

/// See [`i2sb_cuda_abi::FreeFn`].
///
/// # Safety
/// Null, or an engine of [`i2sb_cuda_open`]'s that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn i2sb_cuda_free(engine: *mut Engine) {
    if !engine.is_null() {
        // SAFETY: made by `Box::into_raw` in `i2sb_cuda_open` from this type, and given back once.
        let state = unsafe { Box::from_raw(engine.cast::<State>()) };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(state)));
    }
}

/// A token that asks the caller.
fn asking(cancelled: Cancelled, context: *const c_void) -> Cancel {
    let ask = Ask { cancelled, context };
    Cancel::when(move || ask.cancelled())
}

/// The caller's question, as something that may be asked from any thread while the call lasts.
struct Ask {
    cancelled: Cancelled,
    context: *const c_void,
}

// SAFETY: the interface says that `cancelled` may be called with `context` while the call lasts; the
// token that holds this ends with the call, and the plugin's function reads an atomic flag.
unsafe impl Send for Ask {}
// SAFETY: as above.
unsafe impl Sync for Ask {}

impl Ask {
    fn cancelled(&self) -> bool {
        // SAFETY: the caller's function and what it wants to be given.
        unsafe { (self.cancelled)(self.context) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn never(_: *const c_void) -> bool {
        false
    }

    /// Calls with room for `capacity` bytes; the code and the text.
    fn told(capacity: usize, call: impl FnOnce(Room) -> i32) -> (Code, String) {
        let (mut bytes, mut length) = (vec![0u8; capacity], 0);
        let room = Room { bytes: bytes.as_mut_ptr().cast(), capacity, length: &raw mut length };
        let code = Code::from_number(call(room));
        bytes.truncate(length);
        (code, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn null_and_impossible_sizes_are_misuse() {
        let misused = |call: &dyn Fn(Room) -> i32| {
            let (code, text) = told(200, call);
            assert_eq!(code, Code::Misused, "{text}");
            assert!(!text.is_empty());
        };
        let nothing = Text { bytes: std::ptr::null(), length: 3 };
        let open = Open { preset: Text::of(""), detail: 0.0, device: nothing, precision: Text::of("f32") };
        let mut engine = std::ptr::null_mut();
        let place = &raw mut engine;
        // SAFETY: null pointers and wrong lengths are what these functions must refuse unread.
        unsafe {
            misused(&|room| i2sb_cuda_status(nothing, room));
            misused(&|room| i2sb_cuda_open(std::ptr::null(), place, room));
            misused(&|room| i2sb_cuda_open(&raw const open, place, room));
            misused(&|room| i2sb_cuda_open(&raw const open, std::ptr::null_mut(), room));
            misused(&|room| i2sb_cuda_describe(std::ptr::null(), room));
            misused(&|room| i2sb_cuda_twin(std::ptr::null(), place, room));
            misused(&|room| i2sb_cuda_restore(std::ptr::null_mut(), std::ptr::null(), room));
            misused(&|room| i2sb_cuda_restore_raw(std::ptr::null_mut(), std::ptr::null(), room));
            i2sb_cuda_free(std::ptr::null_mut());
        }
        assert!(engine.is_null());
    }

    #[test]
    fn pictures_of_impossible_sizes_are_misuse_and_texts_are_cut_to_their_room() {
        let open =
            Open { preset: Text::of(""), detail: 0.0, device: Text::of("cpu"), precision: Text::of("f32") };
        let mut engine = std::ptr::null_mut();
        // SAFETY: all texts live as long as the test.
        let (code, text) = told(99, |room| unsafe { i2sb_cuda_open(&raw const open, &raw mut engine, room) });
        assert_eq!(code, Code::Done, "{text}");
        let knobs = i2sb_cuda_abi::Knobs { steps: 0, tile: 0, seed: 0, sampler: Text::of("") };
        let sample = [0f32; 3];
        let mut out = [0f32; 3];
        for (width, height, input) in
            [(0, 1, sample.as_ptr()), (usize::MAX, 2, sample.as_ptr()), (1, 1, std::ptr::null())]
        {
            let (output, cancelled, context) = (out.as_mut_ptr(), never as Cancelled, std::ptr::null());
            let frame = Frame { width, height, input, output, knobs, cancelled, context };
            // SAFETY: the engine is alive; the sizes are such that nothing may be read.
            let (code, text) = told(99, |room| unsafe { i2sb_cuda_restore(engine, &raw const frame, room) });
            assert_eq!(code, Code::Misused, "{text}");
        }
        let (mut broken, mut bytes) = (0, [0u8; 6]);
        let color =
            i2sb_cuda_abi::Color { luma: [0.3, 0.1], offset: [0.0; 3], scale: [255.0; 3], site: [0.0; 2] };
        let sound = RawFrame {
            format: Text::of("I420"),
            width: 2,
            height: 2,
            chroma_rows: 1,
            color,
            bytes: bytes.as_mut_ptr(),
            length: 6,
            strength: 1.0,
            broken: &raw mut broken,
            knobs,
            cancelled: never,
            context: std::ptr::null(),
        };
        for (wrong, word) in [
            (RawFrame { format: Text::of("I421"), ..sound }, "I421"),
            (RawFrame { format: Text::of("v210"), ..sound }, "v210"),
            (RawFrame { width: usize::MAX, ..sound }, "cannot be addressed"),
            (RawFrame { chroma_rows: 3, ..sound }, "cannot be addressed"),
            (RawFrame { length: 7, ..sound }, "7 bytes instead of 6"),
            (RawFrame { bytes: std::ptr::null_mut(), ..sound }, "null"),
            (RawFrame { broken: std::ptr::null_mut(), ..sound }, "null"),
        ] {
            // SAFETY: the engine is alive; what is wrong must be refused unread.
            let (code, text) =
                told(99, |room| unsafe { i2sb_cuda_restore_raw(engine, &raw const wrong, room) });
            assert!(code == Code::Misused && text.contains(word), "{text}");
        }
        // SAFETY: the engine is alive, and the frame as its type says.
        let (code, text) = told(99, |room| unsafe { i2sb_cuda_restore_raw(engine, &raw const sound, room) });
        assert_eq!(code, Code::Done, "{text}");
        // SAFETY: the engine is alive.
        let (_, text) = told(4, |room| unsafe { i2sb_cuda_describe(engine, room) });
        assert_eq!(text.len(), 4);
        // SAFETY: the engine is not used again.
        unsafe { i2sb_cuda_free(engine) };
    }

    #[test]
    fn a_panic_becomes_a_code() {
        // SAFETY: the room is the test's.
        let (code, text) = told(99, |room| unsafe { answer(room, || panic!("seven")) });
        assert_eq!((code, text.as_str()), (Code::Panicked, "seven"));
    }
}
