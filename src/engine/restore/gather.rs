//! New files whose content is at hand, made by several threads at once.
//!
//! A small file costs the kernel some calls and little else, and one thread alone leaves processors idle. So the cursor goes
//! on through the directories, and the files that it passes are gathered here, with the attributes of the directories that it
//! leaves: these come when all is in them. Files with several names, and those over something that is there, are not for
//! here: their order matters.

use std::collections::HashMap;

use super::fill::{failed, write_blob};
use super::plan::{NewFile, Step};
use super::tree::TreeReport;
use crate::engine::{Id, Progress, Result, parallel};
use crate::sys::tree::{Metadata, Place, Target};

/// A descriptor is open for each directory that waits; a process may have 1024 by default.
const MOST_PLACES: usize = 128;

/// Files that a thread takes at once, all of one directory.
const STRETCH: usize = 64;

/// What waits to be made.
#[derive(Default)]
pub(super) struct Gathered {
    /// For each directory on the way from the root, where its files wait.
    way: Vec<Option<usize>>,
    places: Vec<Waiting>,
}

struct Waiting {
    place: Place,
    files: Vec<WholeFile>,
    /// Once the directory is left.
    attributes: Option<Box<Metadata>>,
}

struct WholeFile {
    new: NewFile,
    content: Vec<Step>,
}

/// How many of the steps after a file's first are its content, where its end is among them.
pub(super) fn content_steps(steps: &[Step]) -> Option<usize> {
    let end = steps
        .iter()
        .position(|step| !matches!(step, Step::Data(_) | Step::Zeros(_)))?;
    matches!(steps[end], Step::EndFile).then_some(end)
}

impl Gathered {
    /// At the root.
    pub fn new() -> Self {
        Self {
            way: vec![None],
            places: Vec::new(),
        }
    }

    /// The cursor has gone into a directory.
    pub fn enter(&mut self) {
        self.way.push(None);
    }

    /// The cursor is about to leave a directory, and not the root. Gives the attributes back where nothing waits.
    pub fn leave(&mut self, attributes: Option<Box<Metadata>>) -> Option<Box<Metadata>> {
        match self.way.pop().expect("the root is never left") {
            Some(waiting) => {
                self.places[waiting].attributes = attributes;
                None
            }
            None => attributes,
        }
    }

    /// Takes a file of the cursor's directory.
    pub fn add(&mut self, target: &Target, new: NewFile, content: Vec<Step>) -> Result<()> {
        let here = self.way.last_mut().expect("the root is never left");
        let waiting = match here {
            Some(waiting) => *waiting,
            None => {
                self.places.push(Waiting {
                    place: target.place()?,
                    files: Vec::new(),
                    attributes: None,
                });
                *here.insert(self.places.len() - 1)
            }
        };
        self.places[waiting].files.push(WholeFile { new, content });
        Ok(())
    }

    /// Whether no more directories may wait.
    pub fn is_full(&self) -> bool {
        self.places.len() >= MOST_PLACES
    }

    /// Makes all that waits.
    pub fn make(&mut self, blobs: &HashMap<Id, Vec<u8>>, progress: &Progress) -> Result<TreeReport> {
        self.way.iter_mut().for_each(|waiting| *waiting = None);
        let places = std::mem::take(&mut self.places);
        let mut stretches: Vec<(usize, &Place, &[WholeFile])> = places
            .iter()
            .flat_map(|waiting| {
                let stretches = waiting.files.chunks(STRETCH).enumerate();
                stretches.map(|(number, files)| (number, &waiting.place, files))
            })
            .collect();
        // Two threads in one directory would wait for its lock, spinning: each goes to another.
        stretches.sort_by_key(|(number, ..)| *number);
        let made = parallel::map(&stretches, parallel::processors(), |(_, place, files)| {
            let mut report = TreeReport::default();
            for file in *files {
                progress.check()?;
                file.make(place, blobs, &mut report)?;
                progress.done(file.new.size, 1);
            }
            Ok(report)
        })?;
        let mut report = TreeReport::default();
        made.iter().for_each(|one| report.add(one));
        for Waiting {
            place, attributes, ..
        } in &places
        {
            if let Some(attributes) = attributes {
                report.attributes_refused += place.apply(attributes)?;
            }
        }
        Ok(report)
    }
}

impl WholeFile {
    fn make(&self, place: &Place, blobs: &HashMap<Id, Vec<u8>>, report: &mut TreeReport) -> Result<()> {
        let NewFile {
            name,
            size,
            attributes,
            ..
        } = &self.new;
        let file = place.create_file(name)?;
        let path = || place.path_of(name);
        let (mut at, mut is_hole) = (0, false);
        for step in &self.content {
            match step {
                Step::Data(id) => {
                    let blob = blobs.get(id).expect("a batch brings what it wants");
                    let written =
                        write_blob(&file, blob, at, true).map_err(|error| failed("write", &path())(error))?;
                    report.written_bytes += written.bytes;
                    (at, is_hole) = (at + blob.len() as u64, !written.to_the_end);
                }
                Step::Zeros(length) => (at, is_hole) = (at + length, true),
                _ => unreachable!("nothing else is gathered"),
            }
        }
        if is_hole || at != *size {
            file.set_len(*size)
                .map_err(|error| failed("write", &path())(error))?;
        }
        report.attributes_refused += place.complete(name, &file, attributes)?;
        report.files += 1;
        report.bytes += size;
        Ok(())
    }
}
