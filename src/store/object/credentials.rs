//! Amazon's credentials, from the places that Amazon's own programs look at; an empty variable counts as not given.
//!
//! `docker plugin set` and files of variables leave empty ones behind, and Amazon's programs take them for nothing. The
//! signer's own look at the environment does not: an empty key would hide the profile, an empty token would be sent.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, Response};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider};
use reqsign_core::{Context, Env, Error, HttpSend, ProvideCredential, ProvideCredentialChain, Result};

/// Where credentials come from: the usual chain, with this profile where one is named.
pub(super) fn chain(profile: Option<&str>) -> ProvideCredentialChain<Credential> {
    let mut usual = DefaultCredentialProvider::builder();
    if let Some(profile) = profile {
        usual = usual.with_profile(profile);
    }
    ProvideCredentialChain::new().push(WithoutEmpty(usual.build()))
}

/// The usual chain, in an environment without empty variables.
#[derive(Debug)]
struct WithoutEmpty(DefaultCredentialProvider);

impl ProvideCredential for WithoutEmpty {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        let mut context = context.clone().with_env(Given);
        if let Some(endpoint) = context.env_var("AWS_ENDPOINT_URL_STS") {
            let way = context.clone();
            context = context.with_http_send(TokenService { endpoint, way });
        }
        self.0.provide_credential(&context).await
    }
}

/// Another token service than Amazon's, which MinIO and others have too: the signer knows the names of Amazon's alone.
#[derive(Debug)]
struct TokenService {
    endpoint: String,
    way: Context,
}

impl HttpSend for TokenService {
    async fn http_send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>> {
        if request.uri().host().is_some_and(|host| host.starts_with("sts.")) {
            let address = self.endpoint.trim_end_matches('/');
            let query = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = format!("{address}{query}").parse().map_err(|error| {
                Error::config_invalid(format!("AWS_ENDPOINT_URL_STS={address} is no address"))
                    .with_source(error)
            })?;
        }
        self.way.http_send(request).await
    }
}

/// The variables that are given. One that is no text is none of these, and no reason to fail.
#[derive(Debug)]
struct Given;

impl Env for Given {
    fn var(&self, name: &str) -> Option<String> {
        text(std::env::var_os(name)?)
    }

    fn vars(&self) -> HashMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }
}

fn text(value: OsString) -> Option<String> {
    value.into_string().ok().filter(|value| !value.is_empty())
}
