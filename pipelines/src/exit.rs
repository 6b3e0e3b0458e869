// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a run can end, as scripts see it.

use crate::interrupt;

/// A row of [`CODES`].
type Code = (u8, &'static str);

/// All is done.
pub const DONE: Code = (0, "done");
/// Something went wrong while working.
pub const FAILED: Code = (1, "failed: what went wrong is said, and no half file is left");
/// The command line or the recipe makes no sense.
pub const USAGE: Code = (2, "wrong usage: an option, a recipe or the ending of OUT");
/// Going on would have lost or guessed something.
pub const REFUSED: Code = (
    3,
    "refused: OUT exists and --force is not given, another run writes it, or the input is not what strict \
     work asks for",
);
/// A signal came.
pub const INTERRUPTED: Code =
    (interrupt::EXIT_CODE, "interrupted: OUT is playable and ends early, or is not there");

/// Every way to end.
pub const CODES: &[Code] = &[DONE, FAILED, USAGE, REFUSED, INTERRUPTED];

/// An error that ends with a code of its own.
#[derive(Debug)]
pub struct Coded {
    code: u8,
    text: String,
}

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Coded {}

/// An error that ends with [`REFUSED`].
pub fn refused(text: impl Into<String>) -> anyhow::Error {
    Coded { code: REFUSED.0, text: text.into() }.into()
}

/// An error that ends with [`USAGE`].
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Coded { code: USAGE.0, text: text.into() }.into()
}

/// The code that a run ends with after this error.
pub fn of(error: &anyhow::Error) -> u8 {
    let coded = error.chain().find_map(|cause| cause.downcast_ref::<Coded>());
    match coded {
        Some(coded) => coded.code,
        None if interrupt::asked() => INTERRUPTED.0,
        None => FAILED.0,
    }
}

/// The codes as `--help` shows them.
pub fn help() -> String {
    let rows: Vec<_> = CODES.iter().map(|(code, about)| format!("  {code:>3}  {about}")).collect();
    format!("Exit codes:\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_code_survives_context() {
        let error = Err::<(), _>(refused("it exists")).context("OUT").context("the job").unwrap_err();
        assert_eq!((of(&error), of(&usage("x")), of(&anyhow::anyhow!("y"))), (3, 2, 1));
        assert_eq!(format!("{error:#}"), "the job: OUT: it exists");
        assert!(CODES.iter().all(|(code, _)| help().contains(&format!(" {code}  "))));
    }
}
