//! A daemon for tests: hears requests on a socket in a scratch directory and answers as it is told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The fake; it stops with its runtime, and its directory goes with it.
pub(crate) struct Fake {
    directory: tempfile::TempDir,
    /// Guards what was asked so far: `METHOD path body`.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Listens, and gives each request (`METHOD path`) to `answer`, which returns the raw bytes of the answer.
    pub(crate) fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("fake.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let fake = Self {
            directory,
            asked: asked.clone(),
        };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // A client that only looks whether somebody is there says nothing.
                let Some((request, body)) = read(&mut stream).await else {
                    continue;
                };
                asked
                    .lock()
                    .unwrap()
                    .push(format!("{request} {body}").trim().to_owned());
                let _ = stream.write_all(&answer(&request)).await;
            }
        });
        fake
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("fake.sock")
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// An HTTP answer with its length.
pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\ncontent-type: application/json\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An HTTP answer in chunks, without its end unless the last chunk is empty.
pub(crate) fn chunked(chunks: &[&str]) -> Vec<u8> {
    let mut text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for chunk in chunks {
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text.into_bytes()
}

async fn read(stream: &mut UnixStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    while bytes.len() < head + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let request = text.split(" HTTP/").next()?.to_owned();
    Some((request, text[head..].to_owned()))
}
