//! What is in a directory, and in a backup of one, in the words of `expected.json`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use windlass::engine::browse::{Browser, Found};
use windlass::engine::tree::{Node, NodeKind};

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    #[serde(rename = "type")]
    pub kind: String,
    /// Octal, 12 bits; a symbolic link has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Seconds since 1970, with nine digits after the point.
    pub mtime: String,
    pub owner: (u32, u32),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The first name of the same inode, where this is a further one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
    /// It has holes, and takes less room than its size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// Extended attributes in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// What of entries can be compared here.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    owners: bool,
    xattrs: bool,
}

impl Options {
    /// As this user, on a filesystem that refused so many attributes.
    pub fn of(refused: u64) -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0);
        for (missing, why) in [
            (!is_root, "owners are not compared: only root can restore them"),
            (
                refused > 0,
                "extended attributes are not compared: the scratch filesystem has none",
            ),
        ] {
            if missing {
                assert!(std::env::var_os("CI").is_none(), "{why}");
                println!("SKIPPED: {why}");
            }
        }
        Self {
            owners: is_root,
            xattrs: refused == 0,
        }
    }

    /// The entries without what cannot be compared. That a file is sparse is seen on a filesystem alone.
    pub fn comparable(self, entries: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
        let comparable = |entry: &Entry| {
            let mut entry = entry.clone();
            if !self.owners {
                entry.owner = (0, 0);
            }
            if !self.xattrs {
                entry.xattrs.clear();
            }
            entry
        };
        entries
            .iter()
            .map(|(path, entry)| (path.clone(), comparable(entry)))
            .collect()
    }
}

/// Everything below a directory, and itself as `.`.
pub fn listing(root: &Path) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut inodes = HashMap::new();
    walk(root, root, &mut entries, &mut inodes);
    entries
}

fn walk(root: &Path, path: &Path, entries: &mut BTreeMap<String, Entry>, inodes: &mut HashMap<u64, String>) {
    let name = shown(path.strip_prefix(root).expect("below the root"));
    let about = fs::symlink_metadata(path).expect("it is there");
    let mut entry = Entry {
        mtime: time(about.mtime(), about.mtime_nsec() as u32),
        owner: (about.uid(), about.gid()),
        mode: format!("{:04o}", about.mode() & 0o7777),
        xattrs: xattrs(path),
        ..Entry::default()
    };
    let kind = about.file_type();
    entry.kind = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        entry.mode.clear();
        entry.target = Some(shown(&fs::read_link(path).expect("a link")));
        "symlink"
    } else if kind.is_file() {
        entry.size = Some(about.len());
        entry.sha256 = Some(sha256(path));
        entry.sparse = about.blocks() * 512 < about.len() / 2;
        "file"
    } else if kind.is_fifo() {
        "fifo"
    } else {
        panic!("{name}: of a type that is not expected")
    }
    .to_owned();
    if about.nlink() > 1 && !kind.is_dir() {
        match inodes.get(&about.ino()) {
            Some(first) => entry.same_as = Some(first.clone()),
            None => drop(inodes.insert(about.ino(), name.clone())),
        }
    }
    entries.insert(name, entry);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path)
            .expect("it can be read")
            .map(|entry| entry.expect("it can be read").file_name())
            .collect();
        names.sort();
        for name in names {
            walk(root, &path.join(name), entries, inodes);
        }
    }
}

/// The user's own: a machine may add others, such as labels.
fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let names = xattr::list(path).into_iter().flatten();
    names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("user."))
        .map(|name| {
            let value = xattr::get(path, &name).expect("it can be read");
            (name, hex(&value.unwrap_or_default()))
        })
        .collect()
}

/// The same of a backup, without a restore. Files' holes are not recorded; zeros in whole chunks are taken for them.
pub fn browsed(browser: &Browser<'_>) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut inodes = HashMap::new();
    browse(browser, &Found::Root, Path::new(""), &mut entries, &mut inodes);
    entries
}

fn browse(
    browser: &Browser<'_>,
    directory: &Found,
    path: &Path,
    entries: &mut BTreeMap<String, Entry>,
    inodes: &mut HashMap<(u64, u64), String>,
) {
    let tree = browser.directory(directory).expect("read").expect("a directory");
    for node in tree.nodes {
        let path = path.join(&node.name);
        let name = shown(&path);
        let mut entry = entry(browser, &node, &path);
        if node.links > 1 {
            let inode = (node.device_id, node.inode);
            match inodes.get(&inode) {
                Some(first) => entry.same_as = Some(first.clone()),
                None => drop(inodes.insert(inode, name.clone())),
            }
        }
        entries.insert(name, entry);
        if matches!(node.kind, NodeKind::Dir { .. }) {
            browse(browser, &Found::Entry(Box::new(node)), &path, entries, inodes);
        }
    }
}

fn entry(browser: &Browser<'_>, node: &Node, path: &Path) -> Entry {
    let mut entry = Entry {
        mtime: time(node.mtime.secs, node.mtime.nanos),
        owner: (node.uid, node.gid),
        mode: format!("{:04o}", node.mode),
        xattrs: node
            .xattrs
            .iter()
            .map(|xattr| (xattr.name.clone(), hex(&xattr.value)))
            .collect(),
        ..Entry::default()
    };
    entry.kind = match &node.kind {
        NodeKind::File { size, .. } => {
            let mut content = browser.content(path, 0..u64::MAX).expect("a file");
            let (mut digest, mut room) = (digest(), 0);
            loop {
                let pieces = content.pieces().expect("read");
                if pieces.is_empty() {
                    break;
                }
                for piece in pieces {
                    digest.update(&piece);
                    let blocks = piece
                        .chunks(4096)
                        .filter(|block| block.iter().any(|byte| *byte != 0));
                    room += blocks.map(|block| block.len() as u64).sum::<u64>();
                }
            }
            entry.size = Some(*size);
            entry.sha256 = Some(digest.hex());
            entry.sparse = room < size / 2;
            "file"
        }
        NodeKind::Symlink { target } => {
            entry.mode.clear();
            entry.target = Some(shown(Path::new(target)));
            "symlink"
        }
        NodeKind::Dir { .. } => "directory",
        NodeKind::Fifo => "fifo",
        other => panic!("{}: {other:?} is not expected", path.display()),
    }
    .to_owned();
    entry
}

fn shown(path: &Path) -> String {
    match path.as_os_str().as_bytes() {
        b"" => ".".to_owned(),
        bytes => bytes.escape_ascii().to_string(),
    }
}

fn time(secs: i64, nanos: u32) -> String {
    format!("{secs}.{nanos:09}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest in the making.
pub struct Running(Sha256);

pub fn digest() -> Running {
    Running(Sha256::new())
}

impl Running {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Of a file.
pub fn sha256(path: &Path) -> String {
    let mut file = File::open(path).expect("opened");
    let mut digest = digest();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).expect("read") {
            0 => return digest.hex(),
            length => digest.update(&buffer[..length]),
        }
    }
}
