//! OpenDAL's services from destinations: which bucket, which server, which credentials.

use std::sync::Arc;

use opendal::{HttpTransporter, OperationContext, Operator, services};

use super::failure::{Failure, Kind};
use super::transport::Counted;
use super::{credentials, region};
use crate::store::destination::{S3, Style};
use crate::store::{Counts, Destination, Result, StoreError};

/// A service that is ready to be asked.
pub(super) struct Service {
    pub(super) operator: Operator,
    pub(super) failure: Failure,
    /// Whether it is known to honour `If-None-Match: *`.
    pub(super) exclusive: bool,
}

/// # Errors
/// [`StoreError::Invalid`] for a directory and for settings that OpenDAL refuses.
pub(super) fn operator(destination: &Destination, counts: &Arc<Counts>) -> Result<Service> {
    let (operator, kind, exclusive) = match destination {
        Destination::Directory { .. } => {
            return Err(StoreError::Invalid(format!(
                "{destination} is a directory, not a service"
            )));
        }
        Destination::S3(bucket) => s3(bucket),
        Destination::Gcs {
            bucket,
            path,
            endpoint,
        } => {
            let mut builder = services::Gcs::default().bucket(bucket).root(path);
            if let Some(endpoint) = endpoint {
                builder = builder.endpoint(endpoint);
            }
            (Operator::new(builder), Kind::Gcs, endpoint.is_none())
        }
        Destination::Azure {
            container,
            path,
            account,
            endpoint,
        } => azure(container, path, account.as_deref(), endpoint.as_deref()),
        Destination::WebDav { tls, host, path } => {
            let scheme = if *tls { "https" } else { "http" };
            let mut builder = services::Webdav::default()
                .endpoint(&format!("{scheme}://{host}"))
                .root(path);
            if let Some(user) = variable("WEBDAV_USERNAME") {
                builder = builder.username(&user);
            }
            if let Some(password) = variable("WEBDAV_PASSWORD") {
                builder = builder.password(&password);
            }
            (Operator::new(builder), Kind::WebDav, false)
        }
    };
    let failure = Failure { kind };
    let operator = operator.map_err(|error| failure.explain(&destination.url(), "prepare it", &error))?;
    let context =
        OperationContext::default().with_http_transport(HttpTransporter::new(Counted(Arc::clone(counts))));
    Ok(Service {
        operator: operator.with_context(context),
        failure,
        exclusive,
    })
}

type Prepared = (opendal::Result<Operator>, Kind, bool);

fn s3(s3: &S3) -> Prepared {
    let endpoint = s3
        .endpoint
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| variable("AWS_ENDPOINT_URL"));
    let region = s3
        .region
        .clone()
        .unwrap_or_else(|| region::default(s3.profile.as_deref()));
    // The service's own look at the environment takes an empty variable for an address.
    let mut builder = services::S3::default()
        .bucket(&s3.bucket)
        .root(&s3.path)
        .region(&region)
        .disable_config_load()
        .credential_provider_chain(credentials::chain(s3.profile.as_deref()));
    // A dot in the bucket's name does not fit the certificate of Amazon's servers.
    let usual = if endpoint.is_some() || s3.bucket.contains('.') {
        Style::Path
    } else {
        Style::Virtual
    };
    if s3.style.unwrap_or(usual) == Style::Virtual {
        builder = builder.enable_virtual_host_style();
    }
    // Amazon honours the condition; of the others, some ignore it.
    let exclusive = endpoint.is_none();
    if let Some(endpoint) = &endpoint {
        builder = builder.endpoint(endpoint);
    }
    (Operator::new(builder), Kind::S3, exclusive)
}

fn azure(container: &str, path: &str, account: Option<&str>, endpoint: Option<&str>) -> Prepared {
    let account = account
        .map(str::to_owned)
        .or_else(|| variable("AZURE_STORAGE_ACCOUNT_NAME"));
    let mut builder = services::Azblob::default().container(container).root(path);
    let own = account
        .as_ref()
        .map(|account| format!("https://{account}.blob.core.windows.net"));
    if let Some(endpoint) = endpoint.map(str::to_owned).or(own) {
        builder = builder.endpoint(&endpoint);
    }
    if let Some(account) = &account {
        builder = builder.account_name(account);
    }
    if let Some(key) = variable("AZURE_STORAGE_ACCOUNT_KEY") {
        builder = builder.account_key(&key);
    }
    if let Some(token) = variable("AZURE_STORAGE_SAS_TOKEN") {
        builder = builder.sas_token(&token);
    }
    (Operator::new(builder), Kind::Azure, endpoint.is_none())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
