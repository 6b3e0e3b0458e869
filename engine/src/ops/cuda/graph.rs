// SPDX-License-Identifier: MIT OR Apache-2.0
//! Launches that are recorded once and afterwards handed to the device in one call.

use candle_core::cuda_backend::{
    WrapErr,
    cudarc::driver::{CudaGraph, sys},
};

use super::Gpu;

/// Recorded launches, ready to run again at the same addresses.
pub(crate) struct Graph(CudaGraph);

// SAFETY: a graph may move between threads as long as one uses it at a time, which `&mut` in `replay` asks for.
unsafe impl Send for Graph {}

impl Gpu {
    /// Records what `launches` hands to this device's stream; nothing runs yet. All must have run once before: kernels
    /// loaded, algorithms chosen, memory there.
    ///
    /// # Errors
    /// Those of `launches`, and the driver's if something among them cannot be recorded.
    pub fn record(&self, launches: impl FnOnce() -> candle_core::Result<()>) -> candle_core::Result<Graph> {
        self.stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
        let launched = launches();
        // In any case: a stream that goes on recording is of no use.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        launched?;
        let refused = |reason: String| {
            candle_core::Error::msg(format!(
                "CUDA records no graph: {reason}; I2SB_CUDA_GRAPHS=0 does without"
            ))
        };
        let graph = graph.map_err(|error| refused(error.to_string()))?;
        graph.map(Graph).ok_or_else(|| refused("it is empty".into()))
    }

    /// Runs recorded launches again, on the stream that they were recorded on.
    ///
    /// # Errors
    /// The driver's.
    pub fn replay(&self, graph: &mut Graph) -> candle_core::Result<()> {
        graph.0.launch().w()
    }
}
