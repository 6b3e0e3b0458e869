// SPDX-License-Identifier: MIT OR Apache-2.0
//! What libav's decoders complain of: they conceal damage, and say so in their log only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// The category of GStreamer's log that libav writes to.
const CATEGORY: &str = "libav";

/// The first complaint that nobody has taken.
static COMPLAINT: Mutex<Option<Complaint>> = Mutex::new(None);
/// Frames that left the decoder since listening began.
static DECODED: AtomicU64 = AtomicU64::new(0);

/// What a decoder said.
#[derive(Debug, Clone)]
pub struct Complaint {
    /// Frames that it had given out before.
    pub frame: u64,
    /// Its words.
    pub text: String,
}

/// Begins to listen; what was said before is forgotten.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Unless the user wants a log, errors of this category are for us alone.
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
        }
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            if level == gst::DebugLevel::Error && category.name() == CATEGORY {
                let text = message.get().map(|text| text.trim().to_owned()).unwrap_or_default();
                let frame = DECODED.load(Ordering::SeqCst);
                let mut complaint = COMPLAINT.lock().unwrap_or_else(PoisonError::into_inner);
                complaint.get_or_insert(Complaint { frame, text });
            }
        });
        gst::log::set_active(true);
        gst::log::set_threshold_for_name(CATEGORY, gst::DebugLevel::Error);
    });
    DECODED.store(0, Ordering::SeqCst);
    take();
}

/// A frame left the decoder.
pub fn decoded() {
    DECODED.fetch_add(1, Ordering::SeqCst);
}

/// What was said since.
pub fn take() -> Option<Complaint> {
    COMPLAINT.lock().unwrap_or_else(PoisonError::into_inner).take()
}
