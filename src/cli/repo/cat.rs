//! `windlass repo cat`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;

use super::access::Session;
use super::{Error, Screen, failure, reference};
use crate::engine::browse::Browser;
use crate::engine::image::reader::Image;
use crate::engine::{Backup, Kind, Repository};
use crate::model::Bytes;

/// Bytes of an image that are read at once.
const PIECE: u64 = 4 << 20;

/// Write a file out of a backup, or a part of an image, to stdout
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  windlass repo cat 'vfs:///srv/backups?volume=www&backup=latest' etc/nginx.conf
  windlass repo cat 'vfs:///srv/backups?volume=disk&backup=latest' --offset 1M --length 512 | xxd")]
pub(super) struct Cat {
    /// The backup's URL
    #[arg(value_parser = reference())]
    url: String,
    /// The file, from the root of the volume on; none where the backup is of an image
    path: Option<PathBuf>,
    /// Where to begin, in bytes, or with K, M, G, T
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// How much at most [default: up to the end]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    length: Option<u64>,
}

impl Cat {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.place(&self.url, None)?;
        if place.is_convoy() {
            return Err(failure::not_with_convoy("cat"));
        }
        let (repository, backup) = session.open_backup(&place)?;
        let end = self
            .length
            .map_or(u64::MAX, |length| self.offset.saturating_add(length));
        let is_image = backup
            .manifest()
            .is_some_and(|manifest| manifest.kind == Kind::Block);
        match (self.path, is_image) {
            (None, true) => image(&repository, &backup, self.offset..end, screen),
            (Some(path), false) => file(&repository, &backup, &path, self.offset..end, screen),
            (Some(_), true) => Err(Error::Usage {
                message: format!(
                    "backup {} is of an image, which has no paths; give none",
                    backup.name()
                ),
            }),
            (None, false) => Err(Error::Usage {
                message: format!(
                    "backup {} is of a directory tree; say which file of it",
                    backup.name()
                ),
            }),
        }
    }
}

fn image(
    repository: &Repository,
    backup: &Backup,
    range: Range<u64>,
    screen: &mut Screen,
) -> Result<(), Error> {
    let image = Image::open(repository, backup)?;
    let size = image.layout().size;
    if range.start > size {
        return Err(failure::invalid(
            format!(
                "the image of backup {} ends at byte {size}, before {}",
                backup.name(),
                range.start
            ),
            "",
        ));
    }
    let end = range.end.min(size);
    let mut at = range.start;
    let mut buffer = vec![0; PIECE as usize];
    while at < end {
        let piece = &mut buffer[..(end - at).min(PIECE) as usize];
        image.read_at(piece, at)?;
        screen.bytes(piece)?;
        at += piece.len() as u64;
    }
    screen.text("")
}

fn file(
    repository: &Repository,
    backup: &Backup,
    path: &Path,
    range: Range<u64>,
    screen: &mut Screen,
) -> Result<(), Error> {
    let mut content = Browser::open(repository, backup)?.content(path, range)?;
    loop {
        let pieces = content.pieces()?;
        if pieces.is_empty() {
            return screen.text("");
        }
        for piece in pieces {
            screen.bytes(&piece)?;
        }
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    match text {
        "0" => Ok(0),
        text => Bytes::parse("bytes", text)
            .map(|bytes| bytes.0)
            .map_err(|_| "it is a number of bytes, or one with K, M, G or T (powers of 1024)".to_owned()),
    }
}
