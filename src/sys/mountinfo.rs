//! What is mounted where: a parser of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)) and questions to its answer.
//!
//! Paths and sources are bytes, not text: the kernel escapes only space, tab, newline and backslash. Every question is one
//! pass over the list, because hosts with tens of thousands of mounts exist. Paths are compared as they are written, so
//! callers canonicalise them first; only [`mount_of`] asks the kernel about a path itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::error::{Context, Result, SysError};
use super::handle::Stat;

/// The kernel's number of the device that a filesystem's files report, (major, minor).
pub type Device = (u32, u32);

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id, unique among those alive; `statx` gives the same.
    pub id: u64,
    /// The id of the mount it sits on.
    pub parent: u64,
    /// The filesystem's device. On btrfs the files' own devices differ from it.
    pub device: Device,
    /// The directory of the filesystem that is shown at the mount point. One that was deleted ends in "//deleted".
    pub root: PathBuf,
    /// Where it is mounted, as seen by the process whose file this is.
    pub mount_point: PathBuf,
    /// Options of this mount, such as `rw,nosuid`.
    pub options: String,
    /// Who its mounts are propagated to and from.
    pub propagation: Peers,
    /// The filesystem's type, such as `ext4` or `fuse.sshfs`.
    pub fs_type: String,
    /// What was mounted: a device, a remote path, or a word.
    pub source: OsString,
    /// Options of the filesystem, the same for all of its mounts.
    pub super_options: OsString,
}

/// The peer groups that a mount belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peers {
    /// Sends to and receives from this group.
    pub shared: Option<u64>,
    /// Receives from this group.
    pub master: Option<u64>,
    /// Cannot be bound elsewhere.
    pub unbindable: bool,
}

impl MountEntry {
    /// Whether the mount or its filesystem has the option: a whole word, or the part before `=`.
    pub fn has_option(&self, name: &str) -> bool {
        let own = self.options.as_bytes().split(|byte| *byte == b',');
        let of_super = self.super_options.as_bytes().split(|byte| *byte == b',');
        own.chain(of_super).any(|option| {
            option
                .strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
        })
    }
}

/// The mount on top at a mount point, and how many lie there one upon another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stack<'a> {
    /// The one that is seen, unless a mount on a directory above hides the place.
    pub top: &'a MountEntry,
    /// All of them, the top included.
    pub count: usize,
}

/// The mounts of this process's namespace.
pub fn read_self() -> Result<Vec<MountEntry>> {
    read(Path::new("/proc/self/mountinfo"))
}

/// The mounts as another process sees them; "not found" when it has ended.
pub fn read_pid(pid: i32) -> Result<Vec<MountEntry>> {
    read(Path::new(&format!("/proc/{pid}/mountinfo")))
}

/// The mount that the directory or file at `path` is reached through, asked of the kernel; None where it is not listed.
pub fn mount_of(path: impl AsRef<Path>) -> Result<Option<MountEntry>> {
    let path = path.as_ref();
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).during("open", path)?;
    let stat = Stat::of(&fd).during("read the status of", path)?;
    let mounts = read_self()?;
    if let Some(id) = stat.mount_id {
        return Ok(mounts.into_iter().find(|mount| mount.id == id));
    }
    // Before Linux 5.8 statx does not tell: by the path then.
    let path = path.canonicalize().during("resolve", path)?;
    Ok(find_containing(&mounts, &path).cloned())
}

/// The mounts at exactly `mount_point`.
pub fn find_at<'a>(mounts: &'a [MountEntry], mount_point: impl AsRef<Path>) -> Option<Stack<'a>> {
    let mount_point = mount_point.as_ref();
    let here: Vec<&MountEntry> = mounts
        .iter()
        .filter(|mount| mount.mount_point == mount_point)
        .collect();
    let beneath: std::collections::HashSet<u64> = here.iter().map(|mount| mount.parent).collect();
    // In a stack each mount's parent is the one below it; the order of the lines says nothing since Linux 6.8.
    let top = here
        .iter()
        .rfind(|mount| !beneath.contains(&mount.id))
        .or(here.last())?;
    Some(Stack {
        top,
        count: here.len(),
    })
}

/// The topmost mount at the deepest mount point that holds `path`, by the paths alone.
pub fn find_containing(mounts: &[MountEntry], path: impl AsRef<Path>) -> Option<&MountEntry> {
    let path = path.as_ref();
    let deepest = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len())?;
    find_at(mounts, &deepest.mount_point).map(|stack| stack.top)
}

/// All mounts at `dir` or at any directory below it, in the kernel's order.
pub fn find_below(mounts: &[MountEntry], dir: impl AsRef<Path>) -> impl Iterator<Item = &MountEntry> {
    let dir = dir.as_ref().to_owned();
    mounts
        .iter()
        .filter(move |mount| mount.mount_point.starts_with(&dir))
}

/// Parses the content of a mountinfo file; `origin` names it in errors.
pub fn parse(content: &[u8], origin: &Path) -> Result<Vec<MountEntry>> {
    content
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| SysError::Malformed {
                path: origin.to_owned(),
                line: index + 1,
                content: String::from_utf8_lossy(line).chars().take(200).collect(),
            })
        })
        .collect()
}

fn read(path: &Path) -> Result<Vec<MountEntry>> {
    match std::fs::read(path) {
        // A process that ends between the open and the read.
        Err(error)
            if error.raw_os_error() == Some(libc::EINVAL) || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Err(SysError::io(
                "read",
                path,
                std::io::Error::from_raw_os_error(libc::ENOENT),
            ))
        }
        result => parse(&result.during("read", path)?, path),
    }
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = text(fields.next()?)?.split_once(':')?;
    let root = unescape(fields.next()?).into();
    let mount_point = unescape(fields.next()?).into();
    let options = text(fields.next()?)?.to_owned();
    let mut propagation = Peers::default();
    // Optional fields up to a lone hyphen; unknown ones are to be ignored, says the manual.
    loop {
        let field = text(fields.next()?)?;
        match field.split_once(':') {
            Some(("shared", group)) => propagation.shared = Some(group.parse().ok()?),
            Some(("master", group)) => propagation.master = Some(group.parse().ok()?),
            None if field == "unbindable" => propagation.unbindable = true,
            None if field == "-" => break,
            _ => {}
        }
    }
    let fs_type = unescape(fields.next()?).into_string().ok()?;
    // An empty source leaves nothing between two spaces, which is a field like any other.
    let source = unescape(fields.next()?);
    // Some filesystems of old kernels wrote unescaped spaces into their options: everything left is theirs.
    let rest = fields.next()?;
    let start = rest.as_ptr() as usize - line.as_ptr() as usize;
    let super_options = unescape(&line[start..]);
    let device = (major.parse().ok()?, minor.parse().ok()?);
    Some(MountEntry {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

fn number(field: &[u8]) -> Option<u64> {
    text(field)?.parse().ok()
}

/// Undoes the kernel's `\ooo`; anything else after a backslash stays as it is.
fn unescape(field: &[u8]) -> OsString {
    if !field.contains(&b'\\') {
        return OsStr::from_bytes(field).to_owned();
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
#[path = "mountinfo_tests.rs"]
mod tests;
