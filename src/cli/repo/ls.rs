//! `windlass repo ls`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::access::Session;
use super::{Error, Screen, failure, reference};
use crate::cli::table::{Shrink, Table};
use crate::engine::Kind;
use crate::engine::browse::{Browser, Found};
use crate::engine::tree::{Node, NodeKind};
use crate::model::Bytes;

/// List what is in a backup of a directory tree
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// The backup's URL
    #[arg(value_parser = reference())]
    url: String,
    /// A directory or file in it [default: the root]
    path: Option<PathBuf>,
    /// Also what is in the directories below
    #[arg(long, short = 'R')]
    recursive: bool,
}

/// An entry, as `--output json` shows it. A name that is no UTF-8 has � in its place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    path: String,
    /// `file`, `directory`, `symlink`, `block-device`, `char-device`, `fifo`, `socket` or `other`.
    #[serde(rename = "Type")]
    kind: &'static str,
    /// Octal, with the bits for setuid, setgid and sticky.
    mode: String,
    #[serde(rename = "UID")]
    uid: u32,
    #[serde(rename = "GID")]
    gid: u32,
    /// In bytes; 0 of what is no file.
    size: u64,
    /// RFC 3339.
    modified_at: String,
    /// Where a symbolic link leads.
    #[serde(skip_serializing_if = "String::is_empty")]
    target: String,
}

impl Ls {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.place(&self.url, None)?;
        if place.is_convoy() {
            return Err(failure::not_with_convoy("ls"));
        }
        let (repository, backup) = session.open_backup(&place)?;
        if let Some(image) = backup.manifest().filter(|manifest| manifest.kind == Kind::Block) {
            return Err(failure::invalid(
                format!(
                    "backup {} is of an image of {}, not of a directory tree",
                    backup.name(),
                    Bytes(image.size)
                ),
                "'windlass repo cat' reads from it, 'windlass repo restore' writes it to a file or device",
            ));
        }
        let browser = Browser::open(&repository, &backup)?;
        let path = self.path.unwrap_or_default();
        let found = browser.find(&path)?;
        let mut entries = Vec::new();
        match (&found, browser.directory(&found)?) {
            (_, Some(_)) => walk(&browser, &found, &clean(&path), self.recursive, &mut entries)?,
            (Found::Entry(node), None) => entries.push(show(&clean(&path), node)),
            (Found::Root, None) => {}
        }
        if screen.json() {
            return screen.value(&entries);
        }
        let mut table = Table::default()
            .column("MODE", Shrink::Never)
            .column("OWNER", Shrink::Never)
            .column("SIZE", Shrink::Never)
            .column("MODIFIED", Shrink::Never)
            .column("PATH", Shrink::Never);
        for entry in entries {
            let size = match entry.kind {
                "file" => Bytes(entry.size).to_string(),
                other => other.to_owned(),
            };
            let path = match entry.target.as_str() {
                "" => entry.path,
                target => format!("{} → {target}", entry.path),
            };
            let owner = format!("{}:{}", entry.uid, entry.gid);
            table.row(vec![
                entry.mode.into(),
                owner.into(),
                size.into(),
                entry.modified_at.into(),
                path.into(),
            ]);
        }
        screen.table(table)
    }
}

fn walk(
    browser: &Browser<'_>,
    directory: &Found,
    path: &Path,
    recursive: bool,
    entries: &mut Vec<Shown>,
) -> Result<(), Error> {
    for node in browser.directory(directory)?.unwrap_or_default().nodes {
        let below = path.join(&node.name);
        entries.push(show(&below, &node));
        let inside = Found::Entry(Box::new(node));
        if recursive {
            walk(browser, &inside, &below, true, entries)?;
        }
    }
    Ok(())
}

/// The path from the root on, without what says nothing.
fn clean(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect()
}

fn show(path: &Path, node: &Node) -> Shown {
    let (kind, size, target) = match &node.kind {
        NodeKind::File { size, .. } => ("file", *size, String::new()),
        NodeKind::Dir { .. } => ("directory", 0, String::new()),
        NodeKind::Symlink { target } => (
            "symlink",
            0,
            String::from_utf8_lossy(target.as_bytes()).into_owned(),
        ),
        NodeKind::BlockDevice { .. } => ("block-device", 0, String::new()),
        NodeKind::CharDevice { .. } => ("char-device", 0, String::new()),
        NodeKind::Fifo => ("fifo", 0, String::new()),
        NodeKind::Socket => ("socket", 0, String::new()),
        NodeKind::Irregular => ("other", 0, String::new()),
    };
    Shown {
        path: path.to_string_lossy().into_owned(),
        kind,
        mode: format!("{:04o}", node.mode),
        uid: node.uid,
        gid: node.gid,
        size,
        modified_at: jiff::Timestamp::from_second(node.mtime.secs)
            .map_or_else(|_| node.mtime.secs.to_string(), |time| time.to_string()),
        target,
    }
}
