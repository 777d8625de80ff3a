//! A tree as bytes, exactly those that restic writes for it, so that the same directory has the same id.
//!
//! That is Go's JSON: no spaces, fields in the order of restic's structure, empty ones left out where restic leaves them
//! out, `<`, `>` and `&` escaped, and a newline at the end. Times are in UTC; restic writes its host's zone, so ids agree
//! where that is UTC too.

use std::os::unix::ffi::OsStrExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::quote::quote;
use super::{EARLIEST, FileTime, Node, NodeKind, Tree, go_mode};

pub(super) fn tree(tree: &Tree) -> Vec<u8> {
    let mut out = Vec::with_capacity(tree.nodes.len() * 400 + 16);
    out.extend_from_slice(b"{\"nodes\":[");
    for (n, node) in tree.nodes.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        push_node(&mut out, node);
    }
    out.extend_from_slice(b"]}\n");
    out
}

fn push_node(out: &mut Vec<u8>, node: &Node) {
    out.extend_from_slice(b"{\"name\":");
    push_string(out, quote(node.name.as_bytes()).as_bytes());
    push_text(out, "type", node.kind.word().as_bytes());
    push_number(out, "mode", mode_bits(node).into());
    for (key, time) in [
        ("mtime", node.mtime),
        ("atime", node.atime),
        ("ctime", node.ctime),
    ] {
        push_text(out, key, time_text(time).as_bytes());
    }
    out.extend_from_slice(format!(",\"uid\":{},\"gid\":{}", node.uid, node.gid).as_bytes());
    for (key, name) in [("user", &node.user), ("group", &node.group)] {
        if !name.is_empty() {
            push_text(out, key, name.as_bytes());
        }
    }
    push_number(out, "inode", node.inode);
    push_number(out, "device_id", node.device_id);
    if let NodeKind::File { size, .. } = node.kind {
        push_number(out, "size", size);
    }
    push_number(out, "links", node.links);
    if let NodeKind::Symlink { target } = &node.kind {
        push_text(out, "linktarget", target.as_bytes());
        if target.to_str().is_none() {
            push_text(
                out,
                "linktarget_raw",
                STANDARD.encode(target.as_bytes()).as_bytes(),
            );
        }
    }
    push_xattrs(out, node);
    match &node.kind {
        NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } => {
            push_number(out, "device", *device);
        }
        _ => {}
    }
    match &node.kind {
        NodeKind::File { content, .. } => {
            out.extend_from_slice(b",\"content\":[");
            for (n, id) in content.iter().enumerate() {
                let comma = if n > 0 { "," } else { "" };
                out.extend_from_slice(format!("{comma}\"{id}\"").as_bytes());
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(b",\"content\":null"),
    }
    if let NodeKind::Dir { subtree } = node.kind {
        push_text(out, "subtree", subtree.to_string().as_bytes());
    }
    out.push(b'}');
}

fn push_xattrs(out: &mut Vec<u8>, node: &Node) {
    if node.xattrs.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"extended_attributes\":[");
    for (n, xattr) in node.xattrs.iter().enumerate() {
        out.extend_from_slice(if n > 0 { b",{\"name\":" } else { b"{\"name\":" });
        push_string(out, xattr.name.as_bytes());
        push_text(out, "value", STANDARD.encode(&xattr.value).as_bytes());
        out.push(b'}');
    }
    out.push(b']');
}

/// A field that is left out where it is zero.
fn push_number(out: &mut Vec<u8>, key: &str, value: u64) {
    if value != 0 {
        out.extend_from_slice(format!(",\"{key}\":{value}").as_bytes());
    }
}

fn push_text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(format!(",\"{key}\":").as_bytes());
    push_string(out, value);
}

/// A string as Go writes it; bytes that are no UTF-8 become the replacement character, escaped.
fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for part in text.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                '\x08' => out.extend_from_slice(b"\\b"),
                '\x0c' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..=' ' if c != ' ' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
                }
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for _ in part.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn mode_bits(node: &Node) -> u32 {
    let of_type = match node.kind {
        NodeKind::File { .. } => 0,
        NodeKind::Dir { .. } => go_mode::DIR,
        NodeKind::Symlink { .. } => go_mode::SYMLINK,
        NodeKind::BlockDevice { .. } => go_mode::DEVICE,
        NodeKind::CharDevice { .. } => go_mode::DEVICE | go_mode::CHAR_DEVICE,
        NodeKind::Fifo => go_mode::NAMED_PIPE,
        NodeKind::Socket => go_mode::SOCKET,
        NodeKind::Irregular => go_mode::IRREGULAR,
    };
    go_mode::SPECIAL
        .iter()
        .filter(|(_, unix)| node.mode & unix != 0)
        .fold(of_type | node.mode & 0o777, |bits, (go, _)| bits | go)
}

/// RFC 3339 with as many digits of the second as it takes; years before 0 and after 9999 cannot be written.
fn time_text(time: FileTime) -> String {
    let latest = jiff::Timestamp::MAX;
    let time = time.max(EARLIEST);
    jiff::Timestamp::new(time.secs, time.nanos as i32)
        .unwrap_or(latest)
        .to_string()
}
