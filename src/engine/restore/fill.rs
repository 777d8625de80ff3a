//! The steps of a restore, done: entries made, files filled, attributes set.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::gather::{self, Gathered};
use super::plan::{Batch, Found, Inode, NewFile, Step, attributes};
use super::tree::TreeReport;
use crate::engine::image::is_zero;
use crate::engine::tree::{Node, NodeKind};
use crate::engine::{EngineError, Id, Progress, Result};
use crate::sys::sparse;
use crate::sys::tree::{Kept, Metadata, Target};

/// Zeros of this size, at multiples of it, are left out of new files.
const BLOCK_BYTES: u64 = 4096;

/// Does the steps, in their order.
pub(super) struct Filler<'a> {
    target: Target,
    progress: &'a Progress,
    /// Something may be there.
    over_existing: bool,
    /// Directories may go to make room.
    may_remove: bool,
    depth: usize,
    gathered: Gathered,
    /// The file being filled.
    file: Option<OpenFile>,
    kept: HashMap<Inode, Kept>,
    root_attributes: Option<Box<Metadata>>,
    report: TreeReport,
}

struct OpenFile {
    new: NewFile,
    path: PathBuf,
    /// None where nothing is to be written.
    file: Option<File>,
    at: u64,
}

impl<'a> Filler<'a> {
    pub(super) fn new(target: Target, progress: &'a Progress, over_existing: bool, may_remove: bool) -> Self {
        Self {
            target,
            progress,
            over_existing,
            may_remove,
            depth: 0,
            gathered: Gathered::new(),
            file: None,
            kept: HashMap::new(),
            root_attributes: None,
            report: TreeReport::default(),
        }
    }

    /// Does a batch; `blobs` has all that it wants.
    pub(super) fn run(&mut self, batch: Batch, blobs: &HashMap<Id, Vec<u8>>) -> Result<()> {
        let mut steps = batch.steps.into_iter();
        while let Some(step) = steps.next() {
            self.progress.check()?;
            match step {
                Step::Only(names) => {
                    for name in self.target.names()? {
                        if !names.contains(&name) {
                            self.target.remove(&name)?;
                            self.report.removed += 1;
                        }
                    }
                }
                Step::Enter(name) => self.enter(&name)?,
                Step::Leave(attributes) => self.leave(attributes)?,
                Step::File(file) => match gather::content_steps(steps.as_slice()) {
                    Some(count) if self.is_for_gathering(&file) => {
                        let content = steps.by_ref().take(count).collect();
                        self.gathered.add(&self.target, *file, content)?;
                        // Its end.
                        steps.next();
                        if self.gathered.is_full() {
                            self.make_gathered(blobs)?;
                        }
                    }
                    _ => self.begin(*file)?,
                },
                Step::Data(id) => self.data(blobs.get(&id).expect("a batch brings what it wants"))?,
                Step::Zeros(length) => self.zeros(length)?,
                Step::Keep(length) => self.advance(length),
                Step::EndFile => self.end()?,
                Step::Special(node, there) => self.special(&node, there)?,
                Step::Link(name, inode) => self.link(&name, inode)?,
            }
        }
        self.make_gathered(blobs)
    }

    /// Nothing is in its way, and it has one name.
    fn is_for_gathering(&self, file: &NewFile) -> bool {
        !self.over_existing && file.found == Found::Nothing && file.inode.is_none()
    }

    fn make_gathered(&mut self, blobs: &HashMap<Id, Vec<u8>>) -> Result<()> {
        self.report.add(&self.gathered.make(blobs, self.progress)?);
        Ok(())
    }

    /// The last things, the root's own attributes among them.
    pub(super) fn finish(mut self) -> Result<TreeReport> {
        self.target.finish()?;
        if let Some(attributes) = self.root_attributes.take() {
            self.report.attributes_refused += self.target.apply_here(&attributes)?;
        }
        Ok(self.report)
    }

    fn enter(&mut self, name: &OsStr) -> Result<()> {
        let there = if self.over_existing {
            self.target.look(name)?
        } else {
            None
        };
        if !there.is_some_and(|stat| stat.is_dir()) {
            if there.is_some() {
                self.target.remove(name)?;
            }
            self.target.create_dir(name)?;
        }
        self.target.enter(name)?;
        self.gathered.enter();
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self, attributes: Option<Box<Metadata>>) -> Result<()> {
        self.report.directories += 1;
        self.progress.done(0, 1);
        if self.depth == 0 {
            self.root_attributes = attributes;
            return Ok(());
        }
        if let Some(attributes) = self.gathered.leave(attributes) {
            self.report.attributes_refused += self.target.apply_here(&attributes)?;
        }
        self.depth -= 1;
        Ok(self.target.leave()?)
    }

    /// Makes the name free.
    fn make_room(&self, name: &OsStr) -> Result<()> {
        if !self.over_existing {
            return Ok(());
        }
        let there = self.target.look(name)?;
        if there.is_some_and(|stat| stat.is_dir()) && !self.may_remove {
            return Err(EngineError::Invalid(format!(
                "{} is a directory, and the backup has something else there; allow the restore to remove what the \
                 backup does not have, or move it away",
                self.target.path_of(name).display()
            )));
        }
        Ok(self.target.remove(name)?)
    }

    fn begin(&mut self, new: NewFile) -> Result<()> {
        let path = self.target.path_of(&new.name);
        let file = match new.found {
            Found::All => None,
            Found::Some => Some(self.target.open_file(&new.name)?),
            Found::Nothing => {
                self.make_room(&new.name)?;
                Some(self.target.create_file(&new.name)?)
            }
        };
        if let Some(file) = &file {
            file.set_len(new.size).map_err(failed("write", &path))?;
        }
        self.file = Some(OpenFile {
            new,
            path,
            file,
            at: 0,
        });
        Ok(())
    }

    fn open(&mut self) -> &mut OpenFile {
        self.file.as_mut().expect("content belongs to a file")
    }

    fn data(&mut self, blob: &[u8]) -> Result<()> {
        let open = self.open();
        if let Some(file) = &open.file {
            let sparse = open.new.found == Found::Nothing;
            let written = write_blob(file, blob, open.at, sparse).map_err(failed("write", &open.path))?;
            self.report.written_bytes += written.bytes;
        }
        self.advance(blob.len() as u64);
        Ok(())
    }

    fn zeros(&mut self, length: u64) -> Result<()> {
        let open = self.open();
        if let Some(file) = &open.file
            && open.new.found == Found::Some
        {
            sparse::zero(file, open.at..open.at + length).map_err(failed("write", &open.path))?;
        }
        self.advance(length);
        Ok(())
    }

    fn advance(&mut self, length: u64) {
        self.open().at += length;
        self.progress.done(length, 0);
    }

    fn end(&mut self) -> Result<()> {
        let OpenFile { new, file, .. } = self.file.take().expect("an end has a beginning");
        drop(file);
        self.report.files += 1;
        self.report.bytes += new.size;
        self.report.files_unchanged += u64::from(new.found == Found::All);
        self.complete(&new.name, &new.attributes, new.inode)
    }

    /// The attributes, and what further names need.
    fn complete(&mut self, name: &OsStr, attributes: &Metadata, inode: Option<Inode>) -> Result<()> {
        self.report.attributes_refused += self.target.apply(name, attributes)?;
        if let Some(inode) = inode {
            let kept = self.target.keep(name)?;
            self.kept.insert(inode, kept);
        }
        self.progress.done(0, 1);
        Ok(())
    }

    fn special(&mut self, node: &Node, there: bool) -> Result<()> {
        let name = &node.name;
        if matches!(node.kind, NodeKind::Irregular) {
            log::warn!(
                "{}: of a type that cannot be restored",
                self.target.path_of(name).display()
            );
            self.report.left_out += 1;
            return Ok(());
        }
        if !there {
            self.make_room(name)?;
            let numbers = |device: u64| (major(device) as u32, minor(device) as u32);
            match &node.kind {
                NodeKind::Symlink { target } => self.target.create_symlink(name, target)?,
                NodeKind::BlockDevice { device } => {
                    self.target
                        .create_special(name, libc::S_IFBLK, numbers(*device))?;
                }
                NodeKind::CharDevice { device } => {
                    self.target
                        .create_special(name, libc::S_IFCHR, numbers(*device))?;
                }
                NodeKind::Fifo => self.target.create_special(name, libc::S_IFIFO, (0, 0))?,
                NodeKind::Socket => self.target.create_special(name, libc::S_IFSOCK, (0, 0))?,
                NodeKind::File { .. } | NodeKind::Dir { .. } | NodeKind::Irregular => {
                    unreachable!("the planner has other steps for these")
                }
            }
        }
        self.report.others += 1;
        let inode = (node.links > 1 && node.inode != 0).then_some((node.device_id, node.inode));
        self.complete(name, &attributes(node), inode)
    }

    fn link(&mut self, name: &OsStr, inode: Inode) -> Result<()> {
        let kept = *self.kept.get(&inode).expect("the first name comes first");
        let there = if self.over_existing {
            self.target.look(name)?
        } else {
            None
        };
        if !there.is_some_and(|stat| kept.is(&stat)) {
            self.make_room(name)?;
            self.target.link(kept, name)?;
        }
        self.report.hard_links += 1;
        self.progress.done(0, 1);
        Ok(())
    }
}

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Target { doing, path, source }
}

/// What was written of a blob.
pub(super) struct WrittenBlob {
    pub(super) bytes: u64,
    /// The file reaches to the blob's end: that is no hole.
    pub(super) to_the_end: bool,
}

/// Writes a blob. A sparse file has zeros already: blocks of them are left out.
pub(super) fn write_blob(file: &File, blob: &[u8], at: u64, sparse: bool) -> io::Result<WrittenBlob> {
    let ranges = match sparse {
        true => data_ranges(blob, at),
        false => vec![(0, blob.len())],
    };
    for (start, end) in &ranges {
        file.write_all_at(&blob[*start..*end], at + *start as u64)?;
    }
    Ok(WrittenBlob {
        bytes: ranges.iter().map(|(start, end)| (end - start) as u64).sum(),
        to_the_end: ranges.last().is_some_and(|(_, end)| *end == blob.len()),
    })
}

/// The stretches of a blob that are not blocks of zeros, blocks being counted from the beginning of the file.
fn data_ranges(blob: &[u8], at: u64) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < blob.len() {
        let rest_of_block = BLOCK_BYTES - (at + start as u64) % BLOCK_BYTES;
        let end = blob.len().min(start + rest_of_block as usize);
        if !is_zero(&blob[start..end]) {
            match ranges.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => ranges.push((start, end)),
            }
        }
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_zeros_are_left_out_wherever_a_blob_begins() {
        let mut blob = vec![0; 20_000];
        blob[0] = 1;
        blob[9_000] = 1;
        blob[19_999] = 1;
        assert_eq!(data_ranges(&blob, 0), [(0, 4096), (8192, 12288), (16384, 20000)]);
        assert_eq!(data_ranges(&blob, 4095), [(0, 1), (8193, 12289), (16385, 20000)]);
        assert_eq!(data_ranges(&[0; 10_000], 77), []);
        assert_eq!(data_ranges(&[1; 10_000], 77), [(0, 10_000)]);
    }
}
