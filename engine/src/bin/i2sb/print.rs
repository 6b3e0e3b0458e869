// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output and standard error: `print!` and `println!` of the commands return an error, a full disk for
//! instance, and `eprintln!` is silent, where those of the standard library panic.

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Context;

/// Returns from the function if standard output does not take it.
macro_rules! print {
    ($($text:tt)*) => {
        $crate::print::out(format_args!($($text)*))?
    };
}

/// [`print!`] with the end of the line.
macro_rules! println {
    ($($text:tt)*) => {
        $crate::print::out(format_args!("{}\n", format_args!($($text)*)))?
    };
}

/// Standard error; where it takes nothing, there is nobody left to tell, and the work goes on.
macro_rules! eprintln {
    ($($text:tt)*) => {
        $crate::print::err(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Writes to standard error.
pub fn err(text: fmt::Arguments) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Writes to standard output, past its buffer.
pub fn out(text: fmt::Arguments) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).context("cannot print")
}
