//! The admin API: REST on a unix socket, described in docs/openapi.json (a test holds the two together).

mod backups;
mod checkpoints;
mod events;
mod history;
mod import;
mod info;
mod jobs;
mod mounts;
mod pool;
mod snapshots;
mod trash;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use warp::Reply;
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::error;
use super::metrics;
use super::types::{Failure, Kind};
use super::{Body, Request};
use crate::service::{Service, ServiceError};

/// Every route: method and path. `{…}` is one percent-encoded segment.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/info"),
    ("GET", "/v1/volumes"),
    ("POST", "/v1/volumes"),
    ("GET", "/v1/volumes/{volume}"),
    ("DELETE", "/v1/volumes/{volume}"),
    ("POST", "/v1/volumes/{volume}/mount"),
    ("POST", "/v1/volumes/{volume}/umount"),
    ("POST", "/v1/volumes/{volume}/protect"),
    ("POST", "/v1/volumes/{volume}/unprotect"),
    ("POST", "/v1/volumes/{volume}/policy"),
    ("GET", "/v1/volumes/{volume}/retention"),
    ("POST", "/v1/volumes/{volume}/tasks/{task}"),
    ("POST", "/v1/volumes/{volume}/resize"),
    ("POST", "/v1/volumes/{volume}/trim"),
    ("POST", "/v1/volumes/{volume}/drill"),
    ("GET", "/v1/volumes/{volume}/timeline"),
    ("GET", "/v1/volumes/{volume}/snapshots"),
    ("POST", "/v1/volumes/{volume}/snapshots"),
    ("GET", "/v1/snapshots/{snapshot}"),
    ("DELETE", "/v1/snapshots/{snapshot}"),
    ("POST", "/v1/snapshots/{snapshot}/revert"),
    ("POST", "/v1/snapshots/{snapshot}/mount"),
    ("POST", "/v1/snapshots/{snapshot}/umount"),
    ("GET", "/v1/checkpoints"),
    ("POST", "/v1/checkpoints"),
    ("GET", "/v1/checkpoints/{checkpoint}"),
    ("DELETE", "/v1/checkpoints/{checkpoint}"),
    ("POST", "/v1/checkpoints/{checkpoint}/revert"),
    ("POST", "/v1/checkpoints/{checkpoint}/clone"),
    ("GET", "/v1/diff"),
    ("GET", "/v1/pool"),
    ("POST", "/v1/pool/check"),
    ("POST", "/v1/pool/repair"),
    ("POST", "/v1/pool/extend"),
    ("POST", "/v1/pool/trim"),
    ("POST", "/v1/import/convoy"),
    ("GET", "/v1/trash"),
    ("DELETE", "/v1/trash/{volume}"),
    ("POST", "/v1/trash/{volume}/undelete"),
    ("GET", "/v1/backups"),
    ("POST", "/v1/backups"),
    ("DELETE", "/v1/backups"),
    ("GET", "/v1/backups/inspect"),
    ("POST", "/v1/backups/verify"),
    ("POST", "/v1/backups/prune"),
    ("POST", "/v1/backups/copy"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{job}"),
    ("DELETE", "/v1/jobs/{job}"),
    ("GET", "/v1/jobs/{job}/progress"),
    ("GET", "/v1/events"),
    ("GET", "/metrics"),
];

/// What the API tells about the daemon besides what the service knows.
#[derive(Debug, Clone)]
pub struct About {
    /// The state directory.
    pub root: PathBuf,
}

/// A refusal: a failure with its status.
pub(super) struct Refused(Failure);

pub(super) type Result<T = Response> = std::result::Result<T, Refused>;

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        Self(error::failure(&error))
    }
}

impl From<crate::model::InvalidValue> for Refused {
    fn from(error: crate::model::InvalidValue) -> Self {
        ServiceError::from(error).into()
    }
}

impl Refused {
    fn invalid(message: impl Into<String>) -> Self {
        Self(Failure {
            kind: Kind::Invalid,
            message: message.into(),
            hint: String::new(),
        })
    }
}

pub(super) async fn answer(service: Service, about: About, request: Request) -> Response {
    match dispatch(&service, &about, request).await {
        Ok(response) => response,
        Err(Refused(failure)) => {
            let status = error::status(failure.kind);
            if status.is_server_error() {
                log::warn!("{}", failure.message);
            }
            json(status, &failure)
        }
    }
}

async fn dispatch(service: &Service, about: &About, request: Request) -> Result {
    let Request {
        method,
        path,
        query,
        headers,
        body,
    } = request;
    let segments: Vec<String> = path
        .trim_start_matches('/')
        .split('/')
        .map(decode)
        .collect::<Result<_>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let query = Query::parse(&query)?;
    if !takes_parameters(method.as_str(), &segments) {
        query.refuse_all()?;
    }
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["v1", "info"]) => info::show(service, about, query).await,
        ("GET", ["v1", "volumes"]) => volumes::list(service, query).await,
        ("POST", ["v1", "volumes"]) => volumes::create(service, parse(body)?).await,
        ("GET", ["v1", "volumes", volume]) => volumes::inspect(service, volume, query).await,
        ("DELETE", ["v1", "volumes", volume]) => volumes::delete(service, volume, query).await,
        ("POST", ["v1", "volumes", volume, "mount"]) => mounts::mount(service, volume, parse(body)?).await,
        ("POST", ["v1", "volumes", volume, "umount"]) => mounts::unmount(service, volume, parse(body)?).await,
        ("GET", ["v1", "volumes", volume, "retention"]) => volumes::retention(service, volume).await,
        ("POST", ["v1", "volumes", volume, "tasks", task]) => {
            volumes::ask_for_task(service, volume, task).await
        }
        ("POST", ["v1", "volumes", volume, "protect"]) => volumes::protect(service, volume, true).await,
        ("POST", ["v1", "volumes", volume, "unprotect"]) => volumes::protect(service, volume, false).await,
        ("POST", ["v1", "volumes", volume, "policy"]) => {
            volumes::change_policy(service, volume, parse(body)?).await
        }
        ("POST", ["v1", "volumes", volume, "resize"]) => volumes::resize(service, volume, parse(body)?).await,
        ("POST", ["v1", "volumes", volume, "trim"]) => volumes::trim(service, volume).await,
        ("POST", ["v1", "volumes", volume, "drill"]) => backups::drill(service, volume).await,
        ("GET", ["v1", "volumes", volume, "timeline"]) => history::timeline(service, volume, query).await,
        ("GET", ["v1", "volumes", volume, "snapshots"]) => snapshots::list(service, volume).await,
        ("POST", ["v1", "volumes", volume, "snapshots"]) => {
            snapshots::create(service, volume, parse(body)?).await
        }
        ("GET", ["v1", "snapshots", snapshot]) => snapshots::inspect(service, snapshot).await,
        ("DELETE", ["v1", "snapshots", snapshot]) => snapshots::delete(service, snapshot).await,
        ("POST", ["v1", "snapshots", snapshot, "revert"]) => snapshots::revert(service, snapshot).await,
        ("POST", ["v1", "snapshots", snapshot, "mount"]) => {
            snapshots::mount(service, snapshot, parse(body)?).await
        }
        ("POST", ["v1", "snapshots", snapshot, "umount"]) => snapshots::unmount(service, snapshot).await,
        ("GET", ["v1", "checkpoints"]) => checkpoints::list(service).await,
        ("POST", ["v1", "checkpoints"]) => checkpoints::create(service, parse(body)?).await,
        ("GET", ["v1", "checkpoints", checkpoint]) => checkpoints::inspect(service, checkpoint).await,
        ("DELETE", ["v1", "checkpoints", checkpoint]) => checkpoints::delete(service, checkpoint).await,
        ("POST", ["v1", "checkpoints", checkpoint, "revert"]) => {
            checkpoints::revert(service, checkpoint).await
        }
        ("POST", ["v1", "checkpoints", checkpoint, "clone"]) => {
            checkpoints::clone(service, checkpoint, parse(body)?).await
        }
        ("GET", ["v1", "diff"]) => history::diff(service, query).await,
        ("GET", ["v1", "pool"]) => pool::status(service).await,
        ("POST", ["v1", "pool", "check"]) => pool::check(service).await,
        ("POST", ["v1", "pool", "repair"]) => pool::repair(service, parse(body)?).await,
        ("POST", ["v1", "pool", "extend"]) => pool::extend(service, parse(body)?).await,
        ("POST", ["v1", "pool", "trim"]) => pool::trim(service).await,
        ("POST", ["v1", "import", "convoy"]) => import::convoy(service, parse(body)?).await,
        ("GET", ["v1", "trash"]) => trash::list(service).await,
        ("DELETE", ["v1", "trash", volume]) => trash::purge(service, volume).await,
        ("POST", ["v1", "trash", volume, "undelete"]) => trash::undelete(service, volume, parse(body)?).await,
        ("GET", ["v1", "backups"]) => backups::list(service, query).await,
        ("POST", ["v1", "backups"]) => backups::create(service, parse(body)?).await,
        ("DELETE", ["v1", "backups"]) => backups::delete(service, query).await,
        ("GET", ["v1", "backups", "inspect"]) => backups::inspect(service, query).await,
        ("POST", ["v1", "backups", "verify"]) => backups::verify(service, parse(body)?).await,
        ("POST", ["v1", "backups", "prune"]) => backups::prune(service, parse(body)?).await,
        ("POST", ["v1", "backups", "copy"]) => backups::copy(service, parse(body)?).await,
        ("GET", ["v1", "jobs"]) => jobs::list(service).await,
        ("GET", ["v1", "jobs", job]) => jobs::inspect(service, job).await,
        ("DELETE", ["v1", "jobs", job]) => jobs::cancel(service, job).await,
        ("GET", ["v1", "jobs", job, "progress"]) => jobs::progress(service, job, query).await,
        ("GET", ["v1", "events"]) => events::stream(service, query, &headers).await,
        ("GET", ["metrics"]) => Ok(metrics::answer(service).await),
        _ => Err(no_route(&method, &segments)),
    }
}

/// The routes that look at what stands after `?`.
fn takes_parameters(method: &str, segments: &[&str]) -> bool {
    matches!(
        (method, segments),
        ("GET", ["v1", "info" | "volumes" | "events" | "diff"])
            | ("GET" | "DELETE", ["v1", "volumes", _] | ["v1", "backups"])
            | (
                "GET",
                ["v1", "volumes", _, "timeline"]
                    | ["v1", "backups", "inspect"]
                    | ["v1", "jobs", _, "progress"]
            )
    )
}

/// The path is unknown, or known with other methods.
fn no_route(method: &Method, segments: &[&str]) -> Refused {
    let fits = |pattern: &str| {
        let parts: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
        parts.len() == segments.len()
            && parts
                .iter()
                .zip(segments)
                .all(|(part, segment)| part.starts_with('{') || part == segment)
    };
    let methods: Vec<&str> = ROUTES
        .iter()
        .filter(|(_, pattern)| fits(pattern))
        .map(|(method, _)| *method)
        .collect();
    let path: String = segments.join("/").chars().take(120).collect();
    let (message, hint) = match methods.as_slice() {
        [] => (
            format!("there is no /{path} in this API"),
            "docs/openapi.json describes it".to_owned(),
        ),
        known => (
            format!("{method} is not possible on /{path}"),
            format!("use {}", known.join(" or ")),
        ),
    };
    Refused(Failure {
        kind: if methods.is_empty() {
            Kind::NotFound
        } else {
            Kind::Invalid
        },
        message,
        hint,
    })
}

fn decode(segment: &str) -> Result<String> {
    percent_encoding::percent_decode_str(segment)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refused::invalid("the path is not UTF-8"))
}

/// The parameters after `?`; each route says which it takes, and others are refused.
struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(raw: &str) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.insert(decode(key)?, decode(value)?);
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.take(key).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Refused::invalid(format!(
                "parameter {key}: {other:?} is not true or false"
            ))),
        }
    }

    /// Refuses what was not taken.
    fn end(self) -> Result<()> {
        self.refuse_all()
    }

    fn refuse_all(&self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => Err(Refused::invalid(format!("unknown parameter {key:?}"))),
        }
    }
}

/// An absent body counts as `{}`: most fields are optional.
fn parse<T: DeserializeOwned>(body: Body) -> Result<T> {
    let bytes = match body {
        Body::Whole(bytes) => bytes,
        Body::TooLong => return Err(Refused::invalid("the body is longer than 1 MiB")),
        Body::Broken => return Err(Refused::invalid("the body broke off")),
    };
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) {
        b"{}"
    } else {
        &bytes
    };
    // By way of a map, for a struct would also be read from an array of its fields.
    serde_json::from_slice::<serde_json::Map<_, _>>(text)
        .and_then(|object| serde_json::from_value(object.into()))
        .map_err(|error| Refused::invalid(format!("the body is not what this route takes: {error}")))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(value), status).into_response()
}

fn ok(value: &impl Serialize) -> Result {
    Ok(json(StatusCode::OK, value))
}

fn created(value: &impl Serialize) -> Result {
    Ok(json(StatusCode::CREATED, value))
}

fn accepted(value: &impl Serialize) -> Result {
    Ok(json(StatusCode::ACCEPTED, value))
}
