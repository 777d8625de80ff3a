//! Docker's volume plugin protocol, `docker.volumedriver/1.0`.
//!
//! All calls are POSTs of JSON without a content type, named by their path. The engine repeats a call after a
//! transport failure with an empty body, so an empty body is refused; it repeats others after a restart, so all are
//! idempotent. HTTP 200 with `Err` shows its user just that text. Any `Err` from Get means "does not exist" to it, and
//! makes it forget the volume's options and references: Get says so only when that is true.
//! (Engine 20.10 and 26, measured.)

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use warp::Reply;
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::error::sentence;
use super::{Body, Request, view};
use crate::driver::Scope;
use crate::model::{InvalidValue, Name};
use crate::service::{By, CreateRequest, RemoveRequest, Service, ServiceError};

/// How long Get looks for an answer when a driver cannot be asked. The engine waits 60 s, or 30 s for a plugin that
/// was enabled with a time-out.
const GET_PATIENCE: Duration = Duration::from_secs(25);

#[derive(Deserialize)]
struct CreateCall {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Opts", default)]
    opts: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct NameCall {
    #[serde(rename = "Name")]
    name: String,
}

#[derive(Deserialize)]
struct MountCall {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "ID")]
    id: String,
}

/// Why a call is not answered with what it asked for.
enum Refusal {
    /// The call itself is not understood.
    Malformed(String),
    /// It is understood and cannot be done.
    Failed(ServiceError),
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

impl From<InvalidValue> for Refusal {
    fn from(error: InvalidValue) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) async fn answer(service: Service, request: Request) -> Response {
    let call = request.path.trim_start_matches('/').to_owned();
    if request.method != Method::POST {
        return reply(
            StatusCode::METHOD_NOT_ALLOWED,
            json!({"Err": format!("{call}: calls of this protocol are POSTs")}),
        );
    }
    match dispatch(&service, &call, request.body).await {
        Ok(Some(value)) => reply(StatusCode::OK, value),
        Ok(None) => reply(
            StatusCode::NOT_FOUND,
            json!({"Err": format!("{call:?} is no call of docker.volumedriver/1.0")}),
        ),
        Err(Refusal::Malformed(why)) => {
            log::warn!("{call}: {why}");
            reply(StatusCode::BAD_REQUEST, json!({"Err": format!("{call}: {why}")}))
        }
        Err(Refusal::Failed(error)) => {
            let said = sentence(&error);
            log::info!("{call}: {said}");
            reply(StatusCode::OK, json!({"Err": said}))
        }
    }
}

/// The answer, or `None` for a call that is none.
async fn dispatch(service: &Service, call: &str, body: Body) -> Result<Option<Value>, Refusal> {
    let value = match call {
        "Plugin.Activate" => json!({"Implements": ["VolumeDriver"]}),
        "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": scope(service)}}),
        "VolumeDriver.Create" => create(service, parse(body)?).await?,
        "VolumeDriver.Remove" => remove(service, parse(body)?).await?,
        "VolumeDriver.Mount" => mount(service, parse(body)?).await?,
        "VolumeDriver.Unmount" => unmount(service, parse(body)?).await?,
        "VolumeDriver.Path" => path(service, parse(body)?).await?,
        "VolumeDriver.Get" => get(service, parse(body)?).await?,
        "VolumeDriver.List" => list(service).await?,
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// The default driver's scope; the protocol has one for the whole plugin. From memory: it precedes nearly every call.
fn scope(service: &Service) -> &'static str {
    let driver = service.drivers().first().and_then(|slot| slot.get().ok());
    driver
        .map_or(Scope::Local, |driver| driver.capabilities().scope)
        .word()
}

async fn create(service: &Service, call: CreateCall) -> Result<Value, Refusal> {
    let name = Name::volume(&call.name)?;
    let options = call.opts.unwrap_or_default();
    let request = CreateRequest {
        name: Some(name),
        options,
        by: By::Docker,
    };
    let (_, notes) = service.create(request).await?;
    for note in notes {
        log::warn!("{note}");
    }
    Ok(done())
}

async fn remove(service: &Service, call: NameCall) -> Result<Value, Refusal> {
    let name = Name::volume(&call.name)?;
    let request = RemoveRequest {
        volume: name.to_string(),
        how: None,
        by: By::Docker,
    };
    service.remove(request).await?;
    Ok(done())
}

async fn mount(service: &Service, call: MountCall) -> Result<Value, Refusal> {
    let (name, id) = (Name::volume(&call.name)?, mount_id(&call.id)?);
    let at = service.mount(&name, id).await?;
    Ok(json!({"Mountpoint": at, "Err": ""}))
}

async fn unmount(service: &Service, call: MountCall) -> Result<Value, Refusal> {
    let (name, id) = (Name::volume(&call.name)?, mount_id(&call.id)?);
    service.unmount(&name, id).await?;
    Ok(done())
}

async fn path(service: &Service, call: NameCall) -> Result<Value, Refusal> {
    let entry = patiently_get(service, &Name::volume(&call.name)?).await?;
    Ok(json!({"Mountpoint": entry.mounted.unwrap_or_default(), "Err": ""}))
}

async fn get(service: &Service, call: NameCall) -> Result<Value, Refusal> {
    let entry = patiently_get(service, &Name::volume(&call.name)?).await?;
    let mut volume = json!({
        "Name": entry.volume.name,
        "CreatedAt": entry.volume.created,
        "Status": view::status(service, &entry),
    });
    if let Some(at) = &entry.mounted {
        volume["Mountpoint"] = json!(at);
    }
    Ok(json!({"Volume": volume, "Err": ""}))
}

async fn list(service: &Service) -> Result<Value, Refusal> {
    let entries = service.list(None).await?;
    let volumes: Vec<Value> = entries
        .iter()
        .map(|entry| match &entry.mounted {
            Some(at) => json!({"Name": entry.volume.name, "Mountpoint": at}),
            None => json!({"Name": entry.volume.name}),
        })
        .collect();
    Ok(json!({"Volumes": volumes, "Err": ""}))
}

/// Get, which must not say that a volume does not exist while that is not known: it asks again for a while.
async fn patiently_get(service: &Service, name: &Name) -> Result<crate::service::Entry, ServiceError> {
    let give_up = tokio::time::Instant::now() + GET_PATIENCE;
    loop {
        match service.get(name).await {
            Ok(entry) => return Ok(entry),
            Err(error @ (ServiceError::NotFound { .. } | ServiceError::Invalid(_))) => return Err(error),
            Err(error) if tokio::time::Instant::now() >= give_up => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

fn mount_id(id: &str) -> Result<&str, Refusal> {
    // The engine's ids are 64 digits. `windlass:` is how the command line's own mounts are recorded.
    if id.is_empty() || id.len() > 1_024 || id.starts_with("windlass:") || id.contains(char::is_control) {
        return Err(Refusal::Malformed("ID: a mount id is needed".to_owned()));
    }
    Ok(id)
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let malformed = |why: &str| Refusal::Malformed(why.to_owned());
    match body {
        Body::TooLong => Err(malformed("the body is longer than 1 MiB")),
        Body::Broken => Err(malformed("the body broke off")),
        Body::Whole(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Err(malformed(
            "the body is empty (a call repeated after a transport failure); please try again",
        )),
        // By way of a map, for a struct would also be read from an array of its fields.
        Body::Whole(bytes) => serde_json::from_slice::<serde_json::Map<_, _>>(&bytes)
            .and_then(|object| serde_json::from_value(object.into()))
            .map_err(|error| Refusal::Malformed(format!("the body is not what this call takes: {error}"))),
    }
}

fn done() -> Value {
    json!({"Err": ""})
}

fn reply(status: StatusCode, value: Value) -> Response {
    let json = warp::reply::json(&value);
    let typed = warp::reply::with_header(json, "content-type", "application/vnd.docker.plugins.v1.2+json");
    warp::reply::with_status(typed, status).into_response()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        parse(Body::Whole(Bytes::copy_from_slice(text.as_bytes()))).map_err(|refusal| match refusal {
            Refusal::Malformed(why) => why,
            Refusal::Failed(error) => error.to_string(),
        })
    }

    #[test]
    fn options_may_be_absent_null_or_an_object_of_texts() {
        for text in [
            r#"{"Name":"v"}"#,
            r#"{"Name":"v","Opts":null}"#,
            r#"{"Name":"v","Opts":{}}"#,
        ] {
            assert!(
                parsed::<CreateCall>(text)
                    .expect(text)
                    .opts
                    .unwrap_or_default()
                    .is_empty()
            );
        }
        let call =
            parsed::<CreateCall>(r#"{"Name":"v","Opts":{"size":"1G"},"Later":1}"#).expect("a later field");
        assert_eq!(call.opts.expect("given")["size"], "1G");
        for text in [
            "",
            "  ",
            "{",
            "[]",
            "null",
            r#"{"Name":7}"#,
            r#"{"Opts":{}}"#,
            r#"{"Name":"v","Opts":{"size":1}}"#,
        ] {
            assert!(parsed::<CreateCall>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_body_is_refused_in_words_that_a_user_can_act_upon() {
        let said = parsed::<MountCall>("").err().expect("refused");
        assert!(said.contains("empty") && said.contains("try again"), "{said}");
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let body = || Body::Whole(Bytes::from(bytes.clone()));
            let _ = (parse::<CreateCall>(body()), parse::<NameCall>(body()), parse::<MountCall>(body()));
        }

        #[test]
        fn a_name_that_comes_through_json_is_checked_like_any_other(name in any::<String>()) {
            let text = serde_json::to_string(&json!({"Name": name})).expect("JSON");
            let call = parsed::<NameCall>(&text).expect("a name call");
            prop_assert_eq!(&call.name, &name);
            prop_assert_eq!(Name::volume(&call.name).is_ok(), Name::volume(&name).is_ok());
        }
    }
}
