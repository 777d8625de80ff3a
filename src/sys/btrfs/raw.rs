//! The ioctls of linux/btrfs.h and the items of linux/btrfs_tree.h that are used here.
//!
//! Numbers and structures are the kernel's stable interface. Items found by a tree search are little-endian on every
//! machine and not aligned, so they are read byte by byte.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::super::ioctl::Request;

const MAGIC: u32 = 0x94;
const SUBVOLUME_READ_ONLY: u64 = 1 << 1;
const ROOT_TREE: u64 = 1;
const ROOT_REF_ITEM: u32 = 156;

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

#[repr(C)]
struct InoLookupArgs {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

#[repr(C)]
struct SearchArgs {
    key: SearchKey,
    items: [u8; 4096 - 104],
}

#[repr(C)]
struct SearchKey {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: u32,
    unused_more: [u64; 4],
}

// SAFETY, for all of them: the structures mirror btrfs_ioctl_vol_args, _vol_args_v2, _ino_lookup_args and _search_args,
// whose sizes of 4096 bytes are checked below, or are the __u64 of the header; all are integers.
// SAFETY: as said above.
const SUBVOL_CREATE: Request<VolArgs> = unsafe { Request::write(MAGIC, 14) };
// SAFETY: as said above.
const SNAP_DESTROY: Request<VolArgs> = unsafe { Request::write(MAGIC, 15) };
// SAFETY: as said above.
const TREE_SEARCH: Request<SearchArgs> = unsafe { Request::read_write(MAGIC, 17) };
// SAFETY: as said above.
const INO_LOOKUP: Request<InoLookupArgs> = unsafe { Request::read_write(MAGIC, 18) };
// SAFETY: as said above.
const WAIT_SYNC: Request<u64> = unsafe { Request::write(MAGIC, 22) };
// SAFETY: as said above.
const SNAP_CREATE_V2: Request<VolArgsV2> = unsafe { Request::write(MAGIC, 23) };
// SAFETY: as said above.
const START_SYNC: Request<u64> = unsafe { Request::read(MAGIC, 24) };
// SAFETY: as said above.
const SUBVOL_GETFLAGS: Request<u64> = unsafe { Request::read(MAGIC, 25) };
// SAFETY: as said above.
const SUBVOL_SETFLAGS: Request<u64> = unsafe { Request::write(MAGIC, 26) };

const _: () = assert!(size_of::<VolArgs>() == 4096 && size_of::<VolArgsV2>() == 4096);
const _: () = assert!(size_of::<InoLookupArgs>() == 4096 && size_of::<SearchArgs>() == 4096);

pub(super) fn create(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    SUBVOL_CREATE.call(
        parent,
        &mut VolArgs {
            fd: 0,
            name: padded(name)?,
        },
    )
}

pub(super) fn destroy(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    SNAP_DESTROY.call(
        parent,
        &mut VolArgs {
            fd: 0,
            name: padded(name)?,
        },
    )
}

pub(super) fn snapshot(
    parent: impl AsFd,
    name: &OsStr,
    source: impl AsFd,
    read_only: bool,
) -> io::Result<()> {
    let mut args = VolArgsV2 {
        fd: source.as_fd().as_raw_fd().into(),
        transid: 0,
        flags: if read_only { SUBVOLUME_READ_ONLY } else { 0 },
        unused: [0; 4],
        name: padded(name)?,
    };
    SNAP_CREATE_V2.call(parent, &mut args)
}

pub(super) fn is_read_only(subvolume: impl AsFd) -> io::Result<bool> {
    let mut flags = 0;
    SUBVOL_GETFLAGS.call(subvolume, &mut flags)?;
    Ok(flags & SUBVOLUME_READ_ONLY != 0)
}

pub(super) fn set_read_only(subvolume: impl AsFd, read_only: bool) -> io::Result<()> {
    let mut flags = 0;
    SUBVOL_GETFLAGS.call(&subvolume, &mut flags)?;
    flags &= !SUBVOLUME_READ_ONLY;
    flags |= if read_only { SUBVOLUME_READ_ONLY } else { 0 };
    SUBVOL_SETFLAGS.call(&subvolume, &mut flags)
}

/// Starts a commit and waits for it.
pub(super) fn commit(fd: impl AsFd) -> io::Result<()> {
    let mut transaction = 0;
    START_SYNC.call(&fd, &mut transaction)?;
    WAIT_SYNC.call(&fd, &mut transaction)
}

/// The id of the subvolume that the descriptor's file is in.
pub(super) fn subvolume_id(fd: impl AsFd) -> io::Result<u64> {
    let mut args = InoLookupArgs {
        treeid: 0,
        objectid: super::ROOT_INODE,
        name: [0; 4080],
    };
    INO_LOOKUP.call(fd, &mut args)?;
    Ok(args.treeid)
}

/// The subvolumes directly inside subvolume `id`: their ids, and their paths from its root.
pub(super) fn children(fd: impl AsFd, id: u64) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    search(&fd, ROOT_TREE, id, ROOT_REF_ITEM, 0..=u64::MAX, |child, item| {
        // btrfs_root_ref: dirid, sequence, name_len, then the name.
        let dir = le64(item, 0)?;
        let length = usize::from(u16::from_le_bytes([*item.get(16)?, *item.get(17)?]));
        let name = OsString::from_vec(item.get(18..18 + length)?.to_vec());
        found.push((child, dir, name));
        Some(())
    })?;
    found
        .into_iter()
        .map(|(child, dir, name)| Ok((child, directory(&fd, id, dir)?.join(name))))
        .collect()
}

/// Visits all items of one object and type whose keys' offsets are in the range: each one's offset, and its bytes.
///
/// A visitor that answers None found an item that it does not understand, which ends the search with EUCLEAN.
pub(super) fn search(
    fd: impl AsFd,
    tree_id: u64,
    objectid: u64,
    item_type: u32,
    offsets: RangeInclusive<u64>,
    mut visit: impl FnMut(u64, &[u8]) -> Option<()>,
) -> io::Result<()> {
    let damaged = || io::Error::from_raw_os_error(libc::EUCLEAN);
    let (mut from, max_offset) = offsets.into_inner();
    loop {
        let key = SearchKey {
            tree_id,
            min_objectid: objectid,
            max_objectid: objectid,
            min_offset: from,
            max_offset,
            min_transid: 0,
            max_transid: u64::MAX,
            min_type: item_type,
            max_type: item_type,
            nr_items: u32::MAX,
            unused: 0,
            unused_more: [0; 4],
        };
        let mut args = Box::new(SearchArgs {
            key,
            items: [0; 4096 - 104],
        });
        TREE_SEARCH.call(&fd, &mut args)?;
        let mut rest: &[u8] = &args.items;
        for _ in 0..args.key.nr_items {
            // btrfs_ioctl_search_header, in the machine's own byte order: transid, objectid, offset, type, len.
            let (header, after) = rest.split_at_checked(32).ok_or_else(damaged)?;
            let offset = u64::from_ne_bytes(header[16..24].try_into().expect("eight bytes"));
            let length = u32::from_ne_bytes(header[28..32].try_into().expect("four bytes"));
            let (item, after) = after.split_at_checked(length as usize).ok_or_else(damaged)?;
            visit(offset, item).ok_or_else(damaged)?;
            rest = after;
            from = offset.saturating_add(1);
            if offset == max_offset {
                return Ok(());
            }
        }
        if args.key.nr_items == 0 {
            return Ok(());
        }
    }
}

/// A little-endian number inside an item.
pub(super) fn le64(item: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(item.get(at..at + 8)?.try_into().ok()?))
}

/// The path of a directory from its subvolume's root.
fn directory(fd: impl AsFd, treeid: u64, objectid: u64) -> io::Result<PathBuf> {
    let mut args = InoLookupArgs {
        treeid,
        objectid,
        name: [0; 4080],
    };
    INO_LOOKUP.call(fd, &mut args)?;
    let end = args
        .name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(args.name.len());
    Ok(PathBuf::from(OsStr::from_bytes(&args.name[..end])))
}

/// A name as a C string in a fixed field.
fn padded<const N: usize>(name: &OsStr) -> io::Result<[u8; N]> {
    let bytes = name.as_bytes();
    if bytes.len() >= N {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    let mut field = [0; N];
    field[..bytes.len()].copy_from_slice(bytes);
    Ok(field)
}
