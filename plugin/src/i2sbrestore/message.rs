// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the bus is told: the one place where engine errors get a GStreamer domain.

use gst::prelude::*;

use i2sb_cuda_abi::Code;

use super::I2sbRestore;
use super::engines::News;
use crate::engine::EngineError;
use crate::engine::cuda::CudaError;
use crate::engine::worker::chain;
use crate::flow::ladder::Move;

/// Code of the PROGRESS messages of loading and warm-up.
pub const LOAD: &str = "model-load";

/// Posts an ERROR for what the engine could not do.
pub fn error(element: &I2sbRestore, what: &str, error: &EngineError) {
    let (text, debug) = (format!("{what}: {error}"), chain(error));
    match domain(error) {
        Domain::Resource(kind) => gst::element_error!(element, kind, ("{text}"), ["{debug}"]),
        Domain::Library(kind) => gst::element_error!(element, kind, ("{text}"), ["{debug}"]),
        Domain::Stream(kind) => gst::element_error!(element, kind, ("{text}"), ["{debug}"]),
    }
}

/// Posts a WARNING for what the engine could not do.
pub fn warning(element: &I2sbRestore, what: &str, error: &EngineError) {
    let (text, debug) = (format!("{what}: {error}"), chain(error));
    match domain(error) {
        Domain::Resource(kind) => gst::element_warning!(element, kind, ("{text}"), ["{debug}"]),
        Domain::Library(kind) => gst::element_warning!(element, kind, ("{text}"), ["{debug}"]),
        Domain::Stream(kind) => gst::element_warning!(element, kind, ("{text}"), ["{debug}"]),
    }
}

/// Posts PROGRESS.
pub fn progress(element: &I2sbRestore, kind: gst::ProgressType, text: &str) {
    let message = gst::message::Progress::builder(kind, LOAD, text).src(element).build();
    // Without a bus there is nobody to tell.
    let _ = element.post_message(message);
}

/// Name of the element messages about engines.
pub const ENGINE: &str = "i2sb-engine";

/// Posts an element message: an engine has failed, for this reason.
pub fn outage(element: &I2sbRestore, reason: &str) {
    post(element, gst::Structure::builder(ENGINE).field("event", "failed").field("reason", reason).build());
}

/// Posts an element message about a change of engine or steps.
pub fn news(element: &I2sbRestore, news: &News) {
    let about = |event: &str, model: &str| {
        gst::Structure::builder(ENGINE).field("event", event).field("model", model)
    };
    let structure = match news {
        News::Recovered(model) => about("recovered", model),
        News::Changed(model) => about("changed", model),
        News::Moved(moved, to) => {
            let event = if *moved == Move::Down { "stepped-down" } else { "stepped-up" };
            let (model, steps) = to.as_ref().map_or(("", 0), |(model, steps)| (model.as_str(), *steps));
            about(event, model).field("steps", steps)
        }
    };
    post(element, structure.build());
}

fn post(element: &I2sbRestore, structure: gst::Structure) {
    let message = gst::message::Element::builder(structure).src(element).build();
    // Without a bus there is nobody to tell.
    let _ = element.post_message(message);
}

enum Domain {
    Resource(gst::ResourceError),
    Library(gst::LibraryError),
    Stream(gst::StreamError),
}

fn domain(error: &EngineError) -> Domain {
    use i2sb::Error;
    match error {
        EngineError::OutOfMemory { .. } => Domain::Resource(gst::ResourceError::NoSpaceLeft),
        EngineError::Panicked(_) | EngineError::Stopped | EngineError::Cancelled => {
            Domain::Library(gst::LibraryError::Failed)
        }
        EngineError::Cuda(error) => Domain::Resource(match error {
            CudaError::NotFound { .. }
            | CudaError::NoDriver { .. }
            | CudaError::Refused { code: Code::Device, .. } => gst::ResourceError::NotFound,
            CudaError::Unloadable { .. } | CudaError::Version { .. } => gst::ResourceError::OpenRead,
            _ => gst::ResourceError::Failed,
        }),
        EngineError::Failed(error) => match error {
            Error::Io { source, .. } => Domain::Resource(match source.kind() {
                std::io::ErrorKind::NotFound => gst::ResourceError::NotFound,
                std::io::ErrorKind::PermissionDenied => gst::ResourceError::NotAuthorized,
                _ => gst::ResourceError::Read,
            }),
            Error::File { .. } => Domain::Resource(gst::ResourceError::Read),
            Error::Device { .. } => Domain::Resource(gst::ResourceError::NotFound),
            Error::Setting { name, .. } if *name == "model" => Domain::Resource(gst::ResourceError::NotFound),
            Error::Setting { .. } => Domain::Library(gst::LibraryError::Settings),
            Error::Shape { .. } | Error::NotFinite { .. } => Domain::Stream(gst::StreamError::Failed),
            _ => Domain::Library(gst::LibraryError::Failed),
        },
    }
}
