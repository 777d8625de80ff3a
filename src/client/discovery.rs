//! Where the daemon's socket is, when nobody says.
//!
//! A managed plugin's sockets lie in a directory whose name is the plugin's id, and a daemon that was killed leaves its
//! socket behind. So a place counts only if somebody accepts a connection there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ClientError, wire};

/// The environment variable that names the socket, after `--socket` and before the known places.
pub const SOCKET_VARIABLE: &str = "WINDLASS_SOCKET";

/// The places where a daemon's admin socket can be.
#[derive(Debug, Clone)]
pub struct Places {
    /// The stable path, in the state directory.
    pub state_socket: PathBuf,
    /// The engine's directory with one directory per plugin.
    pub plugins: PathBuf,
    /// The socket's name in a plugin's directory.
    pub plugin_socket: &'static str,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            state_socket: PathBuf::from("/var/lib/windlass/windlass.sock"),
            plugins: PathBuf::from("/run/docker/plugins"),
            plugin_socket: "windlass-admin.sock",
        }
    }
}

/// The socket to use: `given`, else [`SOCKET_VARIABLE`] if not empty, else the first of `places` where somebody
/// accepts. What somebody named explicitly is never passed over for another place.
pub(super) async fn find(given: Option<&Path>, places: &Places) -> Result<PathBuf, ClientError> {
    let named = given.map(Path::to_owned).or_else(|| {
        let variable = std::env::var_os(SOCKET_VARIABLE)?;
        (!variable.is_empty()).then(|| variable.into())
    });
    match named {
        Some(socket) => wire::connect(&socket).await.map(|_| socket),
        None => first_alive(places).await,
    }
}

async fn first_alive(places: &Places) -> Result<PathBuf, ClientError> {
    // A place that is closed to us may be where the daemon is: remembered, and said if nothing else answers.
    let mut closed = None;
    match wire::connect(&places.state_socket).await {
        Ok(_) => return Ok(places.state_socket.clone()),
        Err(error @ ClientError::PermissionDenied { .. }) => closed = Some(error),
        Err(_) => {}
    }
    match plugin_sockets(places) {
        Ok(sockets) => {
            for socket in sockets {
                match wire::connect(&socket).await {
                    Ok(_) => return Ok(socket),
                    Err(error @ ClientError::PermissionDenied { .. }) => closed = closed.or(Some(error)),
                    Err(_) => {}
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            closed = closed.or(Some(ClientError::PermissionDenied {
                socket: places.plugins.clone(),
            }));
        }
        Err(_) => {}
    }
    Err(closed.unwrap_or_else(|| ClientError::NoDaemon {
        tried: vec![
            places.state_socket.clone(),
            places.plugins.join("*").join(places.plugin_socket),
        ],
    }))
}

/// The admin sockets of all plugins, in the order of their paths, so that two runs choose alike.
fn plugin_sockets(places: &Places) -> std::io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(&places.plugins)? {
        sockets.push(entry?.path().join(places.plugin_socket));
    }
    sockets.sort();
    Ok(sockets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    fn places(root: &Path) -> Places {
        Places {
            state_socket: root.join("state/windlass.sock"),
            plugins: root.join("plugins"),
            ..Places::default()
        }
    }

    fn listen(socket: &Path) -> UnixListener {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        UnixListener::bind(socket).unwrap()
    }

    #[tokio::test]
    async fn nobody_anywhere_names_the_places() {
        let root = tempfile::tempdir().unwrap();
        let error = first_alive(&places(root.path())).await.unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("no daemon answers at "), "{said}");
        assert!(said.contains("state/windlass.sock or ") && said.contains("plugins/*/windlass-admin.sock"));
        assert!(error.hint().contains("--socket"));
    }

    #[tokio::test]
    async fn stale_sockets_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        drop(listen(&places.state_socket));
        drop(listen(&places.plugins.join("0a/windlass-admin.sock")));
        let alive = places.plugins.join("1b/windlass-admin.sock");
        let _listener = listen(&alive);
        std::fs::create_dir_all(places.plugins.join("other")).unwrap();
        std::fs::write(places.plugins.join("a-file.sock"), "").unwrap();
        assert_eq!(first_alive(&places).await.unwrap(), alive);
    }

    #[tokio::test]
    async fn the_state_directory_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let _plugin = listen(&places.plugins.join("1b/windlass-admin.sock"));
        let _state = listen(&places.state_socket);
        assert_eq!(first_alive(&places).await.unwrap(), places.state_socket);
    }

    #[tokio::test]
    async fn a_named_socket_is_never_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        let _state = listen(&places.state_socket);
        let named = root.path().join("elsewhere.sock");
        let error = find(Some(&named), &places).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::NoDaemon { tried } if *tried == [named.clone()]),
            "{error:?}"
        );
        let _listener = listen(&named);
        assert_eq!(find(Some(&named), &places).await.unwrap(), named);
    }

    #[tokio::test]
    async fn a_directory_in_the_way_is_not_a_missing_daemon() {
        let root = tempfile::tempdir().unwrap();
        let error = find(Some(root.path()), &places(root.path())).await.unwrap_err();
        // The kernel refuses to connect to what is no socket.
        assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
    }
}
