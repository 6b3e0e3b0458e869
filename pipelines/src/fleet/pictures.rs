// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restored pictures of all chunks, proved one by one, in one folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::chunk::{self, Record};
use super::digest;
use super::plan::{Output, Plan};
use super::source::Frames;
use super::stills::Stills;
use crate::exit::refused;
use crate::output::beside;
use crate::{interrupt, sequence};

/// A folder that is ready to be put in place; else it is removed.
pub struct Staged {
    folder: PathBuf,
    files: Vec<PathBuf>,
    rate: gst::Fraction,
    colorimetry: Option<String>,
    /// Bits of the frames, which the files may widen.
    bits: u32,
}

/// Puts every picture into a folder beside `output`, under the name that its source has, and proves it there.
///
/// # Errors
/// If a picture is not as it was restored, naming its frame.
pub fn stage(plan: &Plan, records: &[Record], output: &Path) -> Result<Staged> {
    let Output::Pictures(kind) = plan.settings.wish.output else { bail!("the job's frames are no pictures") };
    let folder = beside(output, ".pictures");
    if folder.exists() {
        // A run that was killed left it; this one holds the lock.
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let caps: gst::Caps = records.first().context("no chunks")?.packets.parse().context("caps of frames")?;
    let stream = caps.structure(0).context("caps of frames")?;
    let rate = stream.get("framerate").context("caps without a frame rate")?;
    let colorimetry = stream.get("colorimetry").ok();
    let bits = gst_video::VideoInfo::from_caps(&caps)?.comp_depth(0);
    let mut staged = Staged { folder, files: Vec::new(), rate, colorimetry, bits };
    let sources = plan.settings.wish.source.files()?;
    for (chunk, record) in records.iter().enumerate() {
        let from = chunk::place(plan, chunk as u64);
        for (index, expected) in (record.first as usize..).zip(&record.digests) {
            ensure!(!interrupt::asked(), "interrupted");
            let name = match sources.get(index).filter(|_| plan.settings.wish.source.stills()) {
                Some(source) => PathBuf::from(source.file_stem().unwrap_or_default()),
                None => PathBuf::from(format!("{index:06}")),
            };
            let source = from.join(format!("{index:06}.{}", kind.ending()));
            let mut target = staged.folder.join(name).into_os_string();
            target.push(format!(".{}", kind.ending()));
            let target = PathBuf::from(target);
            // One file under two names, where the file system can.
            fs::hard_link(&source, &target)
                .or_else(|_| fs::copy(&source, &target).map(drop))
                .with_context(|| format!("frame {index}: {}", source.display()))?;
            let found = digest(&target, &caps).with_context(|| format!("frame {index}"));
            let found = found.with_context(|| advice(plan, chunk as u64))?;
            ensure!(
                found == *expected,
                "frame {index} of {} has samples {found}, restored were {expected}; {}",
                source.display(),
                advice(plan, chunk as u64)
            );
            staged.files.push(target);
        }
    }
    Ok(staged)
}

fn advice(plan: &Plan, chunk: u64) -> String {
    format!("remove {} and work again", plan.file(chunk, "json").display())
}

/// The digest of a picture's samples with as many bits as the frames had.
fn digest(path: &Path, caps: &gst::Caps) -> Result<String> {
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let (picture, _) = sequence::read(path)?;
    ensure!(
        (picture.width, picture.height) == (info.width() as usize, info.height() as usize),
        "{}: {} by {} pixels",
        path.display(),
        picture.width,
        picture.height
    );
    digest::frame(picture.at(info.comp_depth(0)).buffer()?.as_ref(), caps)
}

impl Staged {
    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Their frames.
    pub fn open(&self) -> Result<Frames> {
        let stills = Stills::new(self.files.clone(), self.rate, self.colorimetry.clone());
        Ok(Frames::Stills(stills.at(self.bits)))
    }

    /// Puts the folder in its place; into a folder that is there, with `force`, picture by picture.
    pub fn publish(&self, output: &Path, force: bool) -> Result<()> {
        let context = || output.display().to_string();
        if !output.exists() {
            return fs::rename(&self.folder, output).with_context(context);
        }
        if !force {
            return Err(refused(format!("{} appeared meanwhile; --force writes into it", output.display())));
        }
        for file in &self.files {
            fs::rename(file, output.join(file.file_name().unwrap_or_default())).with_context(context)?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it is in place, it is not here.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
