// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which caps are taken, and what the bus is told of those that are not.

use std::sync::Arc;

use gst::subclass::prelude::*;

use super::caps::Format;
use super::imp::{CAT, I2sbRestore, lock};
use super::strict::{self, Refusal};

impl I2sbRestore {
    /// Says what `strict` does not guess.
    pub fn refuse(&self, refusal: &Refusal) -> gst::FlowError {
        let details = gst::Structure::builder(strict::DETAILS)
            .field("field", refusal.field)
            .field("value", refusal.value.as_str())
            .build();
        gst::element_imp_error!(
            self,
            gst::StreamError::Format,
            ("{refusal}"),
            ["{refusal:?}"],
            details: details
        );
        gst::FlowError::Error
    }

    /// Whether the bus has not been told of this event yet: the core sends one that was refused again with each frame.
    pub fn is_news(&self, event: &gst::EventRef) -> bool {
        let event = Some((event.type_(), event.seqnum()));
        std::mem::replace(&mut lock(&self.told).refused, event) != event
    }

    /// Takes the caps that come in.
    ///
    /// # Errors
    /// [`gst::FlowError::NotNegotiated`], after an error on the bus, if they cannot be worked on.
    pub fn set_caps(&self, event: &gst::event::Caps) -> Result<(), gst::FlowError> {
        let caps = event.caps();
        match Format::parse(caps) {
            Ok(format) => {
                gst::info!(CAT, imp = self, "caps {caps:?}");
                let before = lock(&self.input).format.clone();
                if lock(&self.settings).archival.strict
                    && let Err(refusal) = strict::caps(caps, &format, before.as_deref())
                {
                    // What was before stays known: the core sends these caps again with each frame, and
                    // drops the frame when they are refused again.
                    if self.is_news(event) {
                        let _ = self.refuse(&refusal);
                    }
                    return Err(gst::FlowError::NotNegotiated);
                }
                let size = (format.info.width() as usize, format.info.height() as usize);
                if let Err(reason) = lock(&self.masks).fit(size.0, size.1) {
                    if self.is_news(event) {
                        gst::element_imp_error!(
                            self,
                            gst::StreamError::Format,
                            ("{reason}; make it as large as the video"),
                            ["{caps:?}"]
                        );
                    }
                    lock(&self.input).format = None;
                    return Err(gst::FlowError::NotNegotiated);
                }
                lock(&self.input).format = Some(Arc::new(format));
                Ok(())
            }
            Err(reason) => {
                if self.is_news(event) {
                    gst::element_imp_error!(
                        self,
                        gst::CoreError::Negotiation,
                        ("These caps cannot be restored: {reason}"),
                        ["{caps:?}"]
                    );
                }
                lock(&self.input).format = None;
                Err(gst::FlowError::NotNegotiated)
            }
        }
    }
}
