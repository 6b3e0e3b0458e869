// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run that is told what to do while it goes on, through a socket in the file system: one line a request, one a
//! reply.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use crate::exit::{refused, usage};
use crate::restore;

/// What a reply begins with that says that nothing has changed.
const ERROR: &str = "error: ";
/// Longest request in bytes.
const MOST_BYTES: u64 = 4096;
/// Longest time that a silent client is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Only the user who runs it may say anything.
const OWNER_ONLY: u32 = 0o600;

/// Ask a run that listens at a socket: `stats`, or what to change.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The socket that the run was given with --control
    socket: PathBuf,
    /// `stats`, or NAME=VALUE of a property that may change while playing: model, steps, strength, compare, …
    #[arg(required = true)]
    requests: Vec<String>,
}

/// Listens until it is dropped; or does nothing.
#[derive(Debug, Default)]
pub struct Control {
    element: Arc<gst::glib::WeakRef<gst::Element>>,
    socket: Option<PathBuf>,
}

impl Control {
    /// Listens at this path. A socket that a killed run left is replaced; anything else is not.
    pub fn start(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let here = || path.display().to_string();
        if let Ok(there) = path.symlink_metadata() {
            if !there.file_type().is_socket() || UnixStream::connect(path).is_ok() {
                return Err(refused(format!(
                    "--control {}: it exists, or another run listens there",
                    here()
                )));
            }
            fs::remove_file(path).with_context(here)?;
        }
        let listener = UnixListener::bind(path).with_context(|| format!("--control {}", here()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY)).with_context(here)?;
        let element: Arc<gst::glib::WeakRef<_>> = Arc::default();
        let control = Self { element: element.clone(), socket: Some(path.to_owned()) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let element = element.clone();
                // A client that goes away in the middle has had its say.
                std::thread::spawn(move || serve(&client, &element));
            }
        });
        Ok(control)
    }

    /// From now on requests are about this element.
    pub fn watch(&self, element: &gst::Element) {
        self.element.set(Some(element));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // Somebody may have removed it.
            let _ = fs::remove_file(socket);
        }
    }
}

fn serve(client: &UnixStream, element: &gst::glib::WeakRef<gst::Element>) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(client.take(MOST_BYTES));
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let reply = match element.upgrade() {
            None => format!("{ERROR}there is no element yet"),
            Some(element) => {
                answer(&element, line.trim()).unwrap_or_else(|error| format!("{ERROR}{error:#}"))
            }
        };
        writeln!(&mut &*client, "{reply}")?;
        line.clear();
        lines.get_mut().set_limit(MOST_BYTES);
    }
    Ok(())
}

fn answer(element: &gst::Element, request: &str) -> Result<String> {
    if request == "stats" {
        return Ok(restore::counted(element).to_string());
    }
    let Some((name, value)) = request.split_once('=') else {
        return Err(usage(format!("{request:?} is neither stats nor NAME=VALUE")));
    };
    let spec = element.find_property(name).with_context(|| format!("i2sbrestore has no property {name}"))?;
    if !spec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        bail!("{name} cannot change while playing");
    }
    restore::set(element, name, value)?;
    let now = element.property_value(name).serialize().map(String::from).unwrap_or_default();
    // A model that cannot be found is refused by the element, which keeps the one it has.
    if name == "model" && element.property::<Option<String>>(name).unwrap_or_default() != value {
        bail!("{value} cannot be found; {name} stays {now}");
    }
    Ok(format!("{name}={now}"))
}

/// Sends requests to a run and prints its replies; the first error ends it.
pub fn ask(args: &Args) -> Result<()> {
    let nobody = || format!("{}: nobody listens", args.socket.display());
    let stream = UnixStream::connect(&args.socket).with_context(nobody)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut replies = BufReader::new(&stream);
    for request in &args.requests {
        if request.contains('\n') || request.len() as u64 >= MOST_BYTES {
            return Err(usage("a request is one line of less than 4096 bytes"));
        }
        writeln!(&mut &stream, "{request}")?;
        let mut reply = String::new();
        if replies.read_line(&mut reply).with_context(nobody)? == 0 {
            bail!("the run has ended");
        }
        if let Some(error) = reply.strip_prefix(ERROR) {
            bail!("{}", error.trim_end());
        }
        print!("{reply}");
    }
    Ok(stream.shutdown(Shutdown::Both)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_replaced_unless_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        fs::write(&path, "precious").unwrap();
        assert_eq!(crate::exit::of(&Control::start(Some(&path)).unwrap_err()), 3);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let control = Control::start(Some(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(crate::exit::of(&Control::start(Some(&path)).unwrap_err()), 3);
        let asked = Args { socket: path.clone(), requests: vec!["stats".into()] };
        assert!(ask(&asked).unwrap_err().to_string().contains("no element yet"));
        drop(control);
        assert!(!path.exists());
        assert!(format!("{:#}", ask(&asked).unwrap_err()).contains("nobody listens"));
    }

    #[test]
    fn requests_that_make_no_sense_change_nothing() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("identity").build().unwrap();
        for (request, word) in
            [("dance", "neither"), ("dance=1", "no property"), ("name=x", "while playing"), ("", "neither")]
        {
            let error = answer(&element, request).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{request}: {error:#}");
        }
    }
}
