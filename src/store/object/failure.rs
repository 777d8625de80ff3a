//! What a service's refusal means to a store's user: which kind it is, and what to do about it.

use std::error::Error as _;

use opendal::ErrorKind;

use crate::store::StoreError;

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Gcs,
    Azure,
    WebDav,
}

/// Explains a service's failures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) kind: Kind,
}

impl Failure {
    /// Whether the service has directories that can be missing, rather than prefixes of names.
    pub(super) fn has_directories(self) -> bool {
        self.kind == Kind::WebDav
    }

    /// Whether it takes the condition "only where nothing has the name".
    pub(super) fn has_conditions(self) -> bool {
        self.kind != Kind::WebDav
    }

    /// The failure in the store's words.
    pub(super) fn explain(self, location: &str, doing: &str, error: &opendal::Error) -> StoreError {
        let location = location.to_owned();
        let doing = doing.to_owned();
        let said = said(error);
        if self.is_denial(error, &said) {
            // The signer asks one source after the other, and tells only its log what they answered.
            let log = match said.contains("failed to load signing credential") {
                true => " (the log has what each source of credentials answered)",
                false => "",
            };
            return StoreError::Denied {
                location,
                why: format!("cannot {doing}: {said}{log}; {}", self.remedy()),
            };
        }
        if error.is_temporary() || is_short(error) {
            return StoreError::Unavailable {
                location,
                doing,
                why: said,
            };
        }
        let why = match error.kind() {
            // NotFound reaches this place only where no object was asked for.
            ErrorKind::NotFound => format!("there is no such bucket ({said}); make it, or correct the name"),
            ErrorKind::ConfigInvalid if said.contains("NoSuchBucket") => {
                "there is no such bucket; make it, or correct the name, the region or the endpoint".to_owned()
            }
            _ if said.contains("PermanentRedirect")
                || said.contains("AuthorizationHeaderMalformed")
                || said.contains("IllegalLocationConstraint") =>
            {
                format!("{said}; the bucket is in another region, name it: s3://bucket@region/path")
            }
            _ => said,
        };
        StoreError::Failed { location, doing, why }
    }

    fn is_denial(self, error: &opendal::Error, said: &str) -> bool {
        if error.kind() == ErrorKind::PermissionDenied {
            // A clock that is wrong, or an upload cut short, is refused with the same status; both pass.
            return !said.contains("RequestTimeTooSkewed");
        }
        if said.contains("redential") && error.kind() != ErrorKind::NotFound && !is_of_network(error) {
            return true;
        }
        let shown = error.to_string();
        shown.contains("status: 401") || shown.contains("status: 407")
    }

    fn remedy(self) -> &'static str {
        match self.kind {
            Kind::S3 => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials (AWS_PROFILE, ?profile=), and see that they may use this bucket"
            }
            Kind::Gcs => {
                "set GOOGLE_APPLICATION_CREDENTIALS to the file of an account that may use this bucket"
            }
            Kind::Azure => {
                "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)"
            }
            Kind::WebDav => "set WEBDAV_USERNAME and WEBDAV_PASSWORD",
        }
    }
}

/// OpenDAL's error out of a stream's.
pub(super) fn from_io(error: std::io::Error) -> opendal::Error {
    let kind = error.kind();
    match error.downcast::<opendal::Error>() {
        Ok(own) => own,
        Err(error) => {
            let kind = if kind == std::io::ErrorKind::NotFound {
                ErrorKind::NotFound
            } else {
                ErrorKind::Unexpected
            };
            opendal::Error::new(kind, "the answer could not be read")
                .set_source(error)
                .set_temporary()
        }
    }
}

/// Whether the answer had less in it than was asked for.
pub(super) fn is_short(error: &opendal::Error) -> bool {
    let said = said(error);
    said.contains("too little data")
        || said.contains("unexpected data size")
        // Not every service's "range not satisfiable" arrives as such.
        || error.to_string().contains("status: 416")
}

fn is_of_network(error: &opendal::Error) -> bool {
    error.message() == "send http request"
}

/// What the server or the network said, without what only a programmer wants to know.
fn said(error: &opendal::Error) -> String {
    let message = error.message();
    let mut said = match (field(message, "code"), field(message, "message")) {
        (Some(code), Some(text)) if !text.is_empty() => format!("{code}: {text}"),
        (Some(code), _) if !code.is_empty() => code.to_owned(),
        _ => message.chars().take(300).collect(),
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            if !said.is_empty() {
                said.push_str(": ");
            }
            said.push_str(&text);
        }
        cause = inner.source();
    }
    if said.is_empty() {
        said = error.kind().to_string();
    }
    said
}

/// The value of `name: "…"` in a record that was printed for programmers, as OpenDAL does with S3's errors.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("{name}: \""))?;
    rest.split('"').next()
}
