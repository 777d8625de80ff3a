//! The directories of an image's tree: written with constant attributes, read strictly.

use serde::Deserialize;

use super::{GROUP, Layout};
use crate::engine::Id;
use crate::engine::manifest::{DATA_NAME, FILE_NAME};

/// The name of the one file in a segment's directory.
const IMAGE_NAME: &str = "image";

/// The attributes that all entries have: nobody restores them, and constants are shared.
const ATTRIBUTES: &str = r#""mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0"#;

/// Go's `os.ModeDir | 0700`, as restic writes modes.
const DIRECTORY_MODE: u32 = 0x8000_0000 | 0o700;

/// The directory of a segment: one file with these chunks.
pub fn write_segment(size: u64, chunks: &[Id]) -> Vec<u8> {
    let mut out = String::with_capacity(300 + chunks.len() * 67);
    out.push_str(r#"{"nodes":["#);
    push_file(&mut out, IMAGE_NAME, size, chunks);
    out.push_str("]}\n");
    out.into_bytes()
}

/// A directory of segments or of groups: numbered names, with these subtrees.
fn write_directory(children: &[Id], digits: usize) -> Vec<u8> {
    let mut out = String::with_capacity(20 + children.len() * 300);
    out.push_str(r#"{"nodes":["#);
    for (number, child) in children.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        push_directory(&mut out, &format!("{number:0digits$x}"), child);
    }
    out.push_str("]}\n");
    out.into_bytes()
}

/// The directory of a group.
pub fn write_group(segments: &[Id]) -> Vec<u8> {
    write_directory(segments, 2)
}

/// The directory `data`.
pub fn write_data(groups: &[Id]) -> Vec<u8> {
    write_directory(groups, 4)
}

/// The root: `data`, and the manifest with its content.
pub fn write_root(data: &Id, manifest_size: u64, manifest: &Id) -> Vec<u8> {
    let mut out = String::from(r#"{"nodes":["#);
    push_directory(&mut out, DATA_NAME, data);
    out.push(',');
    push_file(&mut out, FILE_NAME, manifest_size, std::slice::from_ref(manifest));
    out.push_str("]}\n");
    out.into_bytes()
}

fn push_directory(out: &mut String, name: &str, subtree: &Id) {
    use std::fmt::Write;
    let written = write!(
        out,
        r#"{{"name":"{name}","type":"dir","mode":{DIRECTORY_MODE},{ATTRIBUTES},"content":null,"subtree":"{subtree}"}}"#
    );
    written.expect("a string takes everything");
}

fn push_file(out: &mut String, name: &str, size: u64, content: &[Id]) {
    use std::fmt::Write;
    let head = write!(
        out,
        r#"{{"name":"{name}","type":"file","mode":384,{ATTRIBUTES},"size":{size},"links":1,"content":["#
    );
    head.expect("a string takes everything");
    for (number, id) in content.iter().enumerate() {
        out.push_str(if number > 0 { ",\"" } else { "\"" });
        write!(out, "{id}\"").expect("a string takes everything");
    }
    out.push_str("]}");
}

#[derive(Deserialize)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    content: Option<Vec<Id>>,
    #[serde(default)]
    subtree: Option<Id>,
}

impl Tree {
    fn read(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

/// The chunks of a segment.
///
/// # Errors
/// A phrase that says what is wrong with the directory.
pub fn read_segment(json: &[u8], layout: &Layout, segment: u64) -> Result<Vec<Id>, String> {
    let tree = Tree::read(json)?;
    let range = layout.segment(segment);
    match <[Node; 1]>::try_from(tree.nodes) {
        Ok([node]) if node.kind == "file" && node.name == IMAGE_NAME => {
            let chunks = node.content.unwrap_or_default();
            if chunks.len() != layout.chunks_in(segment) || node.size != range.end - range.start {
                return Err(format!(
                    "segment {segment} has {} chunks and {} bytes, and the image calls for {} and {}",
                    chunks.len(),
                    node.size,
                    layout.chunks_in(segment),
                    range.end - range.start
                ));
            }
            Ok(chunks)
        }
        _ => Err(format!("segment {segment} is not one file named {IMAGE_NAME}")),
    }
}

/// The subtrees of a directory of numbered names.
fn read_directory(json: &[u8], count: u64, digits: usize) -> Result<Vec<Id>, String> {
    let tree = Tree::read(json)?;
    if tree.nodes.len() as u64 != count {
        return Err(format!(
            "there are {} entries, and the image calls for {count}",
            tree.nodes.len()
        ));
    }
    let subtrees = tree.nodes.into_iter().enumerate().map(|(number, node)| {
        let expected = format!("{number:0digits$x}");
        match node.subtree {
            Some(subtree) if node.kind == "dir" && node.name == expected => Ok(subtree),
            _ => Err(format!(
                "there is {:?} where the directory {expected} should be",
                node.name
            )),
        }
    });
    subtrees.collect()
}

/// The segments of a group.
pub fn read_group(json: &[u8], layout: &Layout, group: u64) -> Result<Vec<Id>, String> {
    let segments = (layout.segments() - group * GROUP).min(GROUP);
    read_directory(json, segments, 2)
}

/// The groups of `data`.
pub fn read_data(json: &[u8], layout: &Layout) -> Result<Vec<Id>, String> {
    read_directory(json, layout.groups(), 4)
}

/// What a backup's root holds: the subtree `data`, where there is one, and the content of the manifest.
pub fn read_root(json: &[u8]) -> Result<(Option<Id>, Option<Vec<Id>>), String> {
    let mut root = (None, None);
    for node in Tree::read(json)?.nodes {
        match (node.name.as_str(), node.kind.as_str()) {
            (DATA_NAME, "dir") => root.0 = node.subtree,
            (FILE_NAME, "file") => root.1 = node.content,
            _ => {}
        }
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::super::SEGMENT;
    use super::*;

    #[test]
    fn directories_are_read_as_they_were_written_and_not_for_another_image() {
        let layout = Layout::new(SEGMENT * 130 + 100, 1 << 20).expect("valid");
        let chunks: Vec<Id> = (0..64_u8).map(|n| Id::of(&[n])).collect();
        let segment = write_segment(SEGMENT, &chunks);
        assert_eq!(read_segment(&segment, &layout, 3), Ok(chunks.clone()));
        assert!(
            read_segment(&segment, &layout, 130).is_err(),
            "the last one is shorter"
        );
        assert_eq!(
            read_segment(&write_segment(100, &chunks[..1]), &layout, 130),
            Ok(chunks[..1].to_vec())
        );
        let group = write_group(&chunks[..3]);
        assert_eq!(read_group(&group, &layout, 1), Ok(chunks[..3].to_vec()));
        assert!(read_group(&group, &layout, 0).is_err(), "a whole group has 128");
        let data = write_data(&chunks[..2]);
        assert_eq!(read_data(&data, &layout), Ok(chunks[..2].to_vec()));
        let root = write_root(&chunks[0], 5, &chunks[1]);
        assert_eq!(read_root(&root), Ok((Some(chunks[0]), Some(vec![chunks[1]]))));
        for bad in [&b"{}"[..], b"", b"[]", b"{\"nodes\":[{}]}", &data] {
            assert!(read_segment(bad, &layout, 0).is_err());
        }
    }
}
