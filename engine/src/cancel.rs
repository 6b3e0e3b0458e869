// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flag that stops long work from another thread.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{Error, Result};

/// Shared stop flag: cloned into long work, set from anywhere, checked between network blocks.
#[derive(Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    ask: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Cancel {
    /// One that also stops once `ask` says so; it is asked at every check.
    pub fn when(ask: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { flag: Arc::default(), ask: Some(Arc::new(ask)) }
    }

    /// Asks the work to stop at its next check.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }

    /// True once [`Cancel::cancel`] was called, or what [`Cancel::when`] was given says so.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire) || self.ask.as_ref().is_some_and(|ask| ask())
    }

    /// Stops here if asked to.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once [`Cancel::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
