// SPDX-License-Identifier: MIT OR Apache-2.0
//! Working memory that tasks borrow and give back, so that it is allocated once.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// As many pieces of working memory as were ever in use at the same time.
#[derive(Debug, Default)]
pub(crate) struct Shelf<S>(Mutex<Vec<S>>);

impl<S> Shelf<S> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<S: Default> Shelf<S> {
    /// A piece that nobody else has until it is dropped.
    pub fn take(&self) -> Lease<'_, S> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lease { piece: kept.unwrap_or_default(), shelf: self }
    }
}

/// A piece on loan.
pub(crate) struct Lease<'a, S: Default> {
    piece: S,
    shelf: &'a Shelf<S>,
}

impl<S: Default> Deref for Lease<'_, S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.piece
    }
}

impl<S: Default> DerefMut for Lease<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.piece
    }
}

impl<S: Default> Drop for Lease<'_, S> {
    fn drop(&mut self) {
        let piece = std::mem::take(&mut self.piece);
        self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
    }
}
