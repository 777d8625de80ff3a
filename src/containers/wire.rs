//! One request over one connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{ContainersError, Engine, Result};

/// How long an answer may take that nobody runs a command for.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest answer: ten thousand containers are about as much.
const LONGEST: usize = 32 << 20;

#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Engine {
    /// Asks, and reads the answer as JSON; an empty one as `null`.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        doing: &str,
    ) -> Result<T> {
        let asked = async {
            let answer = self.send(method, path, body, doing).await?;
            self.collect(answer, doing).await
        };
        let bytes = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(bytes) => bytes?,
            Err(_) => return Err(self.no_answer(format!("nothing came for {} s", PATIENCE.as_secs()))),
        };
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| ContainersError::Garbled {
            doing: doing.to_owned(),
            why: error.to_string(),
        })
    }

    /// Asks, and waits for the head of an answer that is a success.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
        doing: &str,
    ) -> Result<Response<Incoming>> {
        let exchange = async {
            let stream = UnixStream::connect(&self.socket)
                .await
                .map_err(|error| self.no_answer(error.to_string()))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| self.no_answer(error.to_string()))?;
            // It ends with the answer's body; its errors reach us through the answer.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    log::debug!("the connection to the engine ended: {error}");
                }
            });
            let text = body.map(|body| body.to_string()).unwrap_or_default();
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::HOST, "docker")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(text)))
                .map_err(|error| ContainersError::Garbled {
                    doing: doing.to_owned(),
                    why: error.to_string(),
                })?;
            sender
                .send_request(request)
                .await
                .map_err(|error| self.no_answer(error.to_string()))
        };
        let answer = match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.no_answer(format!("nothing came for {} s", PATIENCE.as_secs()))),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = self.collect(answer, doing).await.unwrap_or_default();
        let message = match serde_json::from_slice::<Message>(&said) {
            Ok(said) => said.message,
            Err(_) => String::from_utf8_lossy(&said).into_owned(),
        };
        let message: String = message.trim().replace(['\n', '\r'], " ");
        Err(ContainersError::Refused {
            doing: doing.to_owned(),
            status: status.as_u16(),
            message: message.chars().take(500).collect(),
        })
    }

    async fn collect(&self, answer: Response<Incoming>, doing: &str) -> Result<Bytes> {
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(ContainersError::Garbled {
                doing: doing.to_owned(),
                why: error.to_string(),
            }),
        }
    }

    pub(super) fn no_answer(&self, why: String) -> ContainersError {
        ContainersError::NoAnswer {
            socket: self.socket.clone(),
            why,
        }
    }
}
