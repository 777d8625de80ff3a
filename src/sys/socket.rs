//! Listening on a unix socket that is never reachable with the wrong permissions, and never taken from a live server.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use uuid::Uuid;

use super::error::{Context, Result, SysError};
use super::handle;

/// Who, beside its owner, may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketGroup {
    /// The group of that name, as the system's databases know it.
    Name(String),
    /// The group with that number.
    Id(u32),
}

/// Listens at `path`, for the owner and the group (mode 0660) or the owner alone (0600).
///
/// A socket that is there already is replaced if nobody answers on it; a server that answers keeps it
/// ([`SysError::SocketInUse`]). The new one takes its name in one step, with its owner and mode set before.
/// A caller that must exclude a second one starting at the same moment holds a [`super::lock::FileLock`].
pub fn bind(path: impl AsRef<Path>, group: Option<&SocketGroup>) -> Result<UnixListener> {
    let path = path.as_ref();
    let gid = group.map(|group| lookup(group, path)).transpose()?;
    refuse_live(path)?;
    let Some((parent, _)) = handle::split(path) else {
        return Err(SysError::io(
            "listen on",
            path,
            io::Error::from(io::ErrorKind::InvalidInput),
        ));
    };
    // A directory that only we may enter hides the socket until it is ready: bind(2) knows no mode, and the umask
    // belongs to all threads.
    let nursery = Nursery::new(parent).during("listen on", path)?;
    let listener = nursery.bind().during("listen on", path)?;
    let socket = nursery.socket();
    if gid.is_some() {
        chown(&socket, None, gid).during("give its group to socket", path)?;
    }
    let mode = if gid.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(&socket, fs::Permissions::from_mode(mode)).during("set the mode of socket", path)?;
    fs::rename(&socket, path).during("listen on", path)?;
    Ok(listener)
}

/// The group's number.
fn lookup(group: &SocketGroup, path: &Path) -> Result<u32> {
    match group {
        SocketGroup::Id(id) => Ok(*id),
        SocketGroup::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(SysError::Unsupported {
                op: "give its group to socket",
                path: path.to_owned(),
                reason: format!("there is no group {name:?} here; create it, or give its number"),
            }),
            Err(error) => Err(SysError::io("look up the group of socket", path, error)),
        },
    }
}

/// An error unless `path` is free, or a socket on which nobody answers.
fn refuse_live(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SysError::io("look at", path, error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SysError::WrongType {
                op: "listen on",
                path: path.to_owned(),
                found: "something other than a socket; move it away",
            });
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        // Whatever else it says (full backlog, permission), somebody may be there.
        Ok(_) | Err(_) => Err(SysError::SocketInUse {
            path: path.to_owned(),
        }),
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let (parent, name) = handle::split(path).ok_or(io::ErrorKind::InvalidInput)?;
    // A socket's address holds 107 bytes; through the directory's descriptor any path fits.
    let dir = handle::open_dir_following(parent)?;
    UnixStream::connect(handle::proc_path(&dir).join(name))
}

/// A directory of mode 0700 beside the final place, removed when dropped.
struct Nursery(PathBuf);

impl Nursery {
    fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!(".tmp-{}", Uuid::new_v4()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }

    fn bind(&self) -> io::Result<UnixListener> {
        let dir = handle::open_dir_path(&self.0)?;
        UnixListener::bind(handle::proc_path(&dir).join("s"))
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
        if let Err(error) = fs::remove_dir(&self.0) {
            log::warn!("temporary directory {} stays behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("admin.sock");
        (dir, path)
    }

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect()
    }

    #[test]
    fn socket_has_its_mode_and_answers() {
        let (dir, path) = scratch();
        let listener = bind(&path, Some(&SocketGroup::Id(nix::unistd::getgid().as_raw()))).expect("bound");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o660);
        let mut client = UnixStream::connect(&path).expect("connected");
        client.write_all(b"x").expect("sent");
        let mut byte = [0];
        listener
            .accept()
            .expect("accepted")
            .0
            .read_exact(&mut byte)
            .expect("received");
        assert_eq!(names(dir.path()), ["admin.sock"]);
        drop(listener);
        let _private = bind(&path, None).expect("a stale socket is replaced");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
    }

    #[test]
    fn group_is_set_by_name_and_number_and_an_unknown_one_is_refused() {
        let (_dir, path) = scratch();
        if !nix::unistd::geteuid().is_root() {
            return crate::sys::testing::skip("needs root");
        }
        drop(bind(&path, Some(&SocketGroup::Id(4321))).expect("bound"));
        assert_eq!(fs::metadata(&path).expect("there").gid(), 4321);
        drop(bind(&path, Some(&SocketGroup::Name("root".into()))).expect("bound"));
        assert_eq!(fs::metadata(&path).expect("there").gid(), 0);
        let error = bind(&path, Some(&SocketGroup::Name("no-such-group".into()))).expect_err("unknown");
        assert!(error.to_string().contains("no-such-group"), "{error}");
    }

    #[test]
    fn live_server_keeps_its_socket_and_other_files_are_not_touched() {
        let (_dir, path) = scratch();
        let listener = bind(&path, None).expect("bound");
        assert!(matches!(bind(&path, None), Err(SysError::SocketInUse { .. })));
        UnixStream::connect(&path).expect("the first still answers");
        drop(listener);
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "precious").expect("a file");
        assert!(matches!(bind(&path, None), Err(SysError::WrongType { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"precious");
    }

    #[test]
    fn long_paths_are_no_hindrance() {
        let (dir, _) = scratch();
        let deep = dir.path().join("d".repeat(120));
        fs::create_dir(&deep).expect("a directory");
        let path = deep.join("plugin.sock");
        let _listener = bind(&path, None).expect("bound");
        assert!(matches!(bind(&path, None), Err(SysError::SocketInUse { .. })));
    }
}
