//! A tree from bytes that anybody may have written.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::quote::unquote;
use super::{EARLIEST, FileTime, Id, Malformed, Node, NodeKind, Tree, Xattr, go_mode, is_entry_name};

#[derive(Deserialize)]
struct WireTree<'a> {
    #[serde(borrow)]
    nodes: Option<Vec<WireNode<'a>>>,
}

#[derive(Deserialize)]
struct WireNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    mtime: Option<Cow<'a, str>>,
    atime: Option<Cow<'a, str>>,
    ctime: Option<Cow<'a, str>>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    linktarget: Option<String>,
    linktarget_raw: Option<Cow<'a, str>>,
    extended_attributes: Option<Vec<WireXattr<'a>>>,
    #[serde(default)]
    device: u64,
    content: Option<Vec<Id>>,
    subtree: Option<Id>,
}

#[derive(Deserialize)]
struct WireXattr<'a> {
    name: String,
    value: Option<Cow<'a, str>>,
}

pub(super) fn tree(bytes: &[u8]) -> Result<Tree, Malformed> {
    if bytes.len() > Tree::MAX_BYTES {
        return Err(Malformed(format!("has {} bytes, which is too much", bytes.len())));
    }
    let wire: WireTree<'_> =
        serde_json::from_slice(bytes).map_err(|error| Malformed(format!("makes no sense: {error}")))?;
    let mut nodes: Vec<Node> = Vec::new();
    for wire in wire.nodes.unwrap_or_default() {
        let shown: String = wire.name.chars().take(100).collect();
        let node = node(wire).map_err(|why| Malformed(format!("has the entry \"{shown}\", {why}")))?;
        if nodes.last().is_some_and(|last| last.name >= node.name) {
            let why = "which is there twice or out of order";
            return Err(Malformed(format!("has the entry \"{shown}\", {why}")));
        }
        nodes.push(node);
    }
    Ok(Tree { nodes })
}

/// The error is a clause about the entry.
fn node(wire: WireNode<'_>) -> Result<Node, String> {
    let name = unquote(&wire.name).filter(|name| is_entry_name(name));
    let name = name.ok_or("which is no name of a directory entry")?;
    let xattrs = wire.extended_attributes.unwrap_or_default().into_iter();
    let xattrs = xattrs.map(xattr).collect::<Result<_, _>>()?;
    let special = go_mode::SPECIAL
        .iter()
        .filter(|(go, _)| wire.mode & go != 0)
        .fold(0, |bits, (_, unix)| bits | unix);
    let device = wire.device;
    let kind = match wire.kind.as_ref() {
        "file" => NodeKind::File {
            size: wire.size,
            content: match wire.content {
                Some(content) => content,
                None if wire.size == 0 => Vec::new(),
                None => return Err("a file without its content".to_owned()),
            },
        },
        "dir" => NodeKind::Dir {
            subtree: wire.subtree.ok_or("a directory without its tree")?,
        },
        "symlink" => NodeKind::Symlink {
            target: link_target(wire.linktarget, wire.linktarget_raw)?,
        },
        "dev" => NodeKind::BlockDevice { device },
        "chardev" => NodeKind::CharDevice { device },
        "fifo" => NodeKind::Fifo,
        "socket" => NodeKind::Socket,
        "irregular" => NodeKind::Irregular,
        other => {
            let shown: String = other.chars().take(30).collect();
            return Err(format!("whose type \"{shown}\" is unknown"));
        }
    };
    Ok(Node {
        name: OsString::from_vec(name),
        kind,
        mode: wire.mode & 0o777 | special,
        mtime: time(wire.mtime)?,
        atime: time(wire.atime)?,
        ctime: time(wire.ctime)?,
        uid: wire.uid,
        gid: wire.gid,
        user: wire.user,
        group: wire.group,
        inode: wire.inode,
        device_id: wire.device_id,
        links: wire.links,
        xattrs,
    })
}

fn link_target(text: Option<String>, raw: Option<Cow<'_, str>>) -> Result<OsString, String> {
    let bytes = match raw.filter(|raw| !raw.is_empty()) {
        Some(raw) => base64(&raw)?,
        None => text.unwrap_or_default().into_bytes(),
    };
    if bytes.is_empty() || bytes.contains(&0) {
        return Err("a symbolic link that can lead nowhere".to_owned());
    }
    Ok(OsString::from_vec(bytes))
}

fn xattr(wire: WireXattr<'_>) -> Result<Xattr, String> {
    if wire.name.is_empty() || wire.name.contains('\0') {
        return Err("which has an extended attribute without a proper name".to_owned());
    }
    Ok(Xattr {
        name: wire.name,
        value: base64(wire.value.as_deref().unwrap_or_default())?,
    })
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("with bytes that are no base64: {error}"))
}

/// Programs that do not know a time leave it out, or write Go's zero.
fn time(text: Option<Cow<'_, str>>) -> Result<FileTime, String> {
    let Some(text) = text else {
        return Ok(FileTime::default());
    };
    let time: jiff::Timestamp = match text.parse() {
        Ok(time) => time,
        Err(_) if is_in_the_last_year(&text) => jiff::Timestamp::MAX,
        Err(error) => return Err(format!("with a time that is none: {error}")),
    };
    let nanos = time.as_nanosecond();
    let time = FileTime {
        secs: nanos.div_euclid(1_000_000_000) as i64,
        nanos: nanos.rem_euclid(1_000_000_000) as u32,
    };
    Ok(time.max(EARLIEST))
}

/// The year 9999, whose last day is beyond what can be reckoned with here. restic writes it for files that claim to be of
/// a later one.
fn is_in_the_last_year(text: &str) -> bool {
    let before = text.strip_prefix("9999-").map(|rest| format!("9998-{rest}"));
    before.is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
}
