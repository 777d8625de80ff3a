//! Where repositories are: URLs of destinations, read and written. No I/O, and no secret: credentials come from the
//! environment or from the services' own files, never from a URL.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

use super::{Result, StoreError};
use crate::model::nearest;

/// The schemes, as messages name them.
const SCHEMES: &str = "vfs, file, s3, gs, az, webdav, webdavs";

/// What is written as `%xx` in a path or in a parameter's value.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A place that can hold repositories. It prints as its canonical URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// `vfs:///path`: a directory of this host.
    Directory {
        /// Absolute; without `.` and `..`.
        path: PathBuf,
    },
    /// `s3://bucket@region/path`.
    S3(S3),
    /// `gs://bucket/path`: Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// Below the bucket; empty, or parts with `/` between them.
        path: String,
        /// Of another server than Google's.
        endpoint: Option<String>,
    },
    /// `az://container/path?account=name`: Azure's blobs.
    Azure {
        /// The container.
        container: String,
        /// Below the container; empty, or parts with `/` between them.
        path: String,
        /// The storage account; without one, `AZURE_STORAGE_ACCOUNT_NAME` says.
        account: Option<String>,
        /// Of another server than Azure's.
        endpoint: Option<String>,
    },
    /// `webdav://host/path`, with TLS `webdavs://host/path`.
    WebDav {
        /// With TLS.
        tls: bool,
        /// The host, with its port where it is not the usual one.
        host: String,
        /// Below the host; empty, or parts with `/` between them.
        path: String,
    },
}

/// A bucket of Amazon's S3, or of another server that speaks its protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// Where it is; without one, `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile says.
    pub region: Option<String>,
    /// Below the bucket; empty, or parts with `/` between them.
    pub path: String,
    /// `http://host:port` or `https://…` of another server than Amazon's.
    pub endpoint: Option<String>,
    /// How the bucket is named in requests; without one, [`Style::Path`] where there is an endpoint.
    pub style: Option<Style>,
    /// The profile in `~/.aws`; without one, `AWS_PROFILE` says.
    pub profile: Option<String>,
}

/// How a bucket is named in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// `https://host/bucket/key`: what most servers understand.
    Path,
    /// `https://bucket.host/key`: what Amazon wants.
    Virtual,
}

/// Parameters that are not the destination's own, in the order of their names.
pub type Query = BTreeMap<String, String>;

impl Destination {
    /// Reads a destination's URL. `endpoint` is that of `--s3-endpoint`; it goes before one in the URL.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], which names what is wrong; also for a parameter that is not a destination's.
    pub fn parse(url: &str, endpoint: Option<&str>) -> Result<Self> {
        let (destination, rest) = Self::parse_with_query(url, endpoint)?;
        let Some(name) = rest.keys().next() else {
            return Ok(destination);
        };
        let valid = destination.parameters();
        let meant = nearest(name, valid.iter().copied());
        Err(invalid(
            url,
            &format!(
                "there is no parameter {name:?}{}; valid here: {}",
                meant
                    .map(|meant| format!(", did you mean {meant:?}?"))
                    .unwrap_or_default(),
                if valid.is_empty() {
                    "none".to_owned()
                } else {
                    valid.join(", ")
                }
            ),
        ))
    }

    /// The same, and the parameters that are not the destination's own, decoded.
    ///
    /// Convoy's JSON wrote `&` as `\u0026`; a URL that was copied from there is understood.
    pub fn parse_with_query(url: &str, endpoint: Option<&str>) -> Result<(Self, Query)> {
        let plain = url.trim().replace("\\u0026", "&");
        let Some((scheme, rest)) = plain.split_once("://") else {
            return Err(invalid(
                url,
                "a destination is a URL such as vfs:///backups or s3://bucket@region/path",
            ));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains('#') {
            return Err(invalid(url, "write # as %23"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority
            .split_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
        {
            return Err(invalid(
                url,
                "credentials do not belong into a URL; give them in the environment (docs/DESTINATIONS.md)",
            ));
        }
        let mut parts = Parts {
            url,
            authority,
            path,
            query: read_query(url, query)?,
            endpoint: None,
        };
        if let Some(given) = endpoint.filter(|given| !given.is_empty()) {
            parts.query.remove("endpoint");
            parts.endpoint = Some(given.to_owned());
        }
        let destination = match scheme.to_ascii_lowercase().as_str() {
            "vfs" | "file" => parts.directory()?,
            "s3" => parts.s3()?,
            "gs" => Self::Gcs {
                bucket: parts.bucket()?,
                path: parts.key()?,
                endpoint: parts.take_endpoint()?,
            },
            "az" => Self::Azure {
                container: parts.bucket()?,
                path: parts.key()?,
                account: parts.take_word("account")?,
                endpoint: parts.take_endpoint()?,
            },
            "webdav" => parts.web_dav(false)?,
            "webdavs" => parts.web_dav(true)?,
            other => {
                let meant = nearest(other, SCHEMES.split(", "));
                return Err(invalid(
                    url,
                    &format!(
                        "there is no kind of destination {other:?}{}; valid: {SCHEMES}",
                        meant
                            .map(|meant| format!(", did you mean {meant}?"))
                            .unwrap_or_default()
                    ),
                ));
            }
        };
        if parts.endpoint.is_some() {
            return Err(invalid(url, &format!("a {scheme} destination takes no endpoint")));
        }
        Ok((destination, parts.query))
    }

    /// The canonical URL, without any secret.
    pub fn url(&self) -> String {
        self.to_string()
    }

    /// The destination below this one.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name that is not one part of a path.
    pub fn join(&self, part: &str) -> Result<Self> {
        super::path::check(part)?;
        if part.contains('/') {
            return Err(StoreError::Invalid(format!("{part:?} is more than one name")));
        }
        let mut joined = self.clone();
        match &mut joined {
            Self::Directory { path } => path.push(part),
            Self::S3(S3 { path, .. })
            | Self::Gcs { path, .. }
            | Self::Azure { path, .. }
            | Self::WebDav { path, .. } => {
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(part);
            }
        }
        Ok(joined)
    }

    /// The parameters that such a destination has.
    fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::Directory { .. } | Self::WebDav { .. } => &[],
            Self::S3(_) => &["endpoint", "region", "style", "profile"],
            Self::Gcs { .. } => &["endpoint"],
            Self::Azure { .. } => &["account", "endpoint"],
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slashed = |path: &str| {
            if path.is_empty() {
                String::new()
            } else {
                format!("/{}", escaped(path.as_bytes()))
            }
        };
        let (base, parameters): (String, Vec<(&str, Option<&str>)>) = match self {
            Self::Directory { path } => (
                format!("vfs://{}", escaped(path.as_os_str().as_bytes())),
                Vec::new(),
            ),
            Self::S3(s3) => (
                match &s3.region {
                    Some(region) => format!("s3://{}@{region}{}", s3.bucket, slashed(&s3.path)),
                    None => format!("s3://{}{}", s3.bucket, slashed(&s3.path)),
                },
                vec![
                    ("endpoint", s3.endpoint.as_deref()),
                    ("style", s3.style.map(Style::as_str)),
                    ("profile", s3.profile.as_deref()),
                ],
            ),
            Self::Gcs {
                bucket,
                path,
                endpoint,
            } => (
                format!("gs://{bucket}{}", slashed(path)),
                vec![("endpoint", endpoint.as_deref())],
            ),
            Self::Azure {
                container,
                path,
                account,
                endpoint,
            } => (
                format!("az://{container}{}", slashed(path)),
                vec![("account", account.as_deref()), ("endpoint", endpoint.as_deref())],
            ),
            Self::WebDav { tls, host, path } => {
                let scheme = if *tls { "webdavs" } else { "webdav" };
                (format!("{scheme}://{host}{}", slashed(path)), Vec::new())
            }
        };
        let parameters = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        f.write_str(&with_query(base, parameters))
    }
}

/// Adds parameters to a URL, which may have some.
pub fn with_query<'a>(url: String, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut separator = if url.contains('?') { '&' } else { '?' };
    let mut url = url;
    for (name, value) in parameters {
        url.push(separator);
        url.push_str(name);
        url.push('=');
        url.push_str(&escaped(value.as_bytes()));
        separator = '&';
    }
    url
}

impl Style {
    fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Virtual => "virtual",
        }
    }
}

/// A URL taken apart.
struct Parts<'a> {
    url: &'a str,
    authority: &'a str,
    /// With its slash; still escaped.
    path: &'a str,
    /// What was not taken yet.
    query: Query,
    /// That of `--s3-endpoint`, until it is taken.
    endpoint: Option<String>,
}

impl Parts<'_> {
    fn directory(&self) -> Result<Destination> {
        if !self.authority.is_empty() && self.authority != "localhost" {
            return Err(invalid(
                self.url,
                &format!(
                    "the path must be absolute, with three slashes: vfs:///{}{}",
                    self.authority, self.path
                ),
            ));
        }
        let bytes: Vec<u8> = percent_decode_str(self.path).collect();
        if bytes.contains(&0) {
            return Err(invalid(self.url, "a path has no zero bytes"));
        }
        let mut path = PathBuf::from("/");
        for part in bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if part == b"." || part == b".." {
                return Err(invalid(self.url, "the path must have no . or .. in it"));
            }
            path.push(OsString::from_vec(part.to_vec()));
        }
        if path == Path::new("/") {
            return Err(invalid(
                self.url,
                "a directory is needed, such as vfs:///var/backups",
            ));
        }
        Ok(Destination::Directory { path })
    }

    fn s3(&mut self) -> Result<Destination> {
        let whole = self.authority;
        let (bucket, region) = match whole.split_once('@') {
            Some((bucket, region)) => (bucket, Some(region.to_owned())),
            None => (whole, None),
        };
        self.authority = bucket;
        let bucket = self.bucket()?;
        let named = self.take_word("region")?;
        let region = match (region, named) {
            (Some(one), Some(other)) if one != other => {
                return Err(invalid(self.url, "it names two regions"));
            }
            (one, other) => one.or(other),
        };
        if let Some(region) = &region {
            self.word("region", region)?;
        }
        let style = match self.query.remove("style").as_deref() {
            None => None,
            Some("path") => Some(Style::Path),
            Some("virtual") => Some(Style::Virtual),
            Some(_) => return Err(invalid(self.url, "style is path or virtual")),
        };
        Ok(Destination::S3(S3 {
            bucket,
            region,
            path: self.key()?,
            endpoint: self.take_endpoint()?,
            style,
            profile: self.take_text("profile")?,
        }))
    }

    fn web_dav(&self, tls: bool) -> Result<Destination> {
        if self.authority.contains('@') {
            return Err(invalid(
                self.url,
                "credentials do not belong into a URL; give them in the environment (docs/DESTINATIONS.md)",
            ));
        }
        let scheme = if tls { "https" } else { "http" };
        // To the parser of web addresses a backslash is a slash.
        let host = Some(self.authority)
            .filter(|authority| !authority.contains('\\'))
            .and_then(|authority| origin(&format!("{scheme}://{authority}")))
            .ok_or_else(|| {
                invalid(
                    self.url,
                    "a host is needed, such as webdavs://files.example.org/path",
                )
            })?;
        Ok(Destination::WebDav {
            tls,
            host: host
                .strip_prefix(scheme)
                .and_then(|rest| rest.strip_prefix("://"))
                .expect("the origin has the scheme that it was made with")
                .to_owned(),
            path: self.key()?,
        })
    }

    /// The authority as the name of a bucket or container. Services differ in what they take; none takes more.
    fn bucket(&self) -> Result<String> {
        let name = self.authority;
        let fits = (1..=255).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !name.contains("..");
        if fits {
            Ok(name.to_owned())
        } else {
            Err(invalid(
                self.url,
                "a bucket's name is needed, of letters, digits, - _ and .",
            ))
        }
    }

    /// The path below a bucket or host.
    fn key(&self) -> Result<String> {
        let decoded = percent_decode_str(self.path)
            .decode_utf8()
            .map_err(|_| invalid(self.url, "the path is not UTF-8"))?;
        let parts: Vec<&str> = decoded.split('/').filter(|part| !part.is_empty()).collect();
        let path = parts.join("/");
        super::path::check_directory(&path).map_err(|error| invalid(self.url, &error.to_string()))?;
        Ok(path)
    }

    fn take_endpoint(&mut self) -> Result<Option<String>> {
        let Some(given) = self.endpoint.take().or_else(|| self.query.remove("endpoint")) else {
            return Ok(None);
        };
        let url = if given.contains("://") {
            given
        } else {
            format!("https://{given}")
        };
        origin(&url).map(Some).ok_or_else(|| {
            invalid(
                self.url,
                "the endpoint must be the URL of a server, such as https://s3.example.org:9000, without credentials or parameters",
            )
        })
    }

    fn take_word(&mut self, name: &str) -> Result<Option<String>> {
        let value = self.take_text(name)?;
        if let Some(value) = &value {
            self.word(name, value)?;
        }
        Ok(value)
    }

    fn take_text(&mut self, name: &str) -> Result<Option<String>> {
        match self.query.remove(name) {
            Some(value) if value.is_empty() => Err(invalid(self.url, &format!("{name} is empty"))),
            value => Ok(value),
        }
    }

    fn word(&self, name: &str, value: &str) -> Result<()> {
        let fits = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if fits {
            Ok(())
        } else {
            Err(invalid(
                self.url,
                &format!("{name} is a word of letters, digits and -"),
            ))
        }
    }
}

/// A server's URL in its canonical form: scheme, host, port if not the usual one, and a path if there is one.
fn origin(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}

fn read_query(url: &str, query: &str) -> Result<Query> {
    let decode = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(|text| text.into_owned())
            .map_err(|_| invalid(url, "a parameter is not UTF-8"))
    };
    let mut read = Query::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid(url, "a parameter is written name=value"))?;
        let name = decode(name)?;
        if read.insert(name.clone(), decode(value)?).is_some() {
            return Err(invalid(url, &format!("the parameter {name:?} is given twice")));
        }
    }
    Ok(read)
}

fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

/// The refusal of a URL. What could be a password in it is not repeated.
fn invalid(url: &str, why: &str) -> StoreError {
    StoreError::Invalid(format!("destination {:?}: {why}", shown(url)))
}

/// A URL without what could be secret: parameters, and what is before an `@` if it has a colon.
fn shown(url: &str) -> String {
    let url = url.trim().split('?').next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("{scheme}://…@{host}{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(url: &str) -> String {
        Destination::parse(url, None)
            .unwrap_or_else(|error| panic!("{error}"))
            .url()
    }

    fn refusal(url: &str) -> String {
        Destination::parse(url, None)
            .expect_err("it was accepted")
            .to_string()
    }

    #[test]
    fn canonical_urls_stay_and_others_become_canonical() {
        for same in [
            "vfs:///var/backups",
            "vfs:///with%20blank%3F",
            "vfs:///latin%FF1",
            "s3://bucket@eu-west-1/a/b",
            "s3://bucket",
            "s3://bucket/a?endpoint=http://127.0.0.1:8333&style=virtual&profile=work",
            "gs://bucket/a",
            "az://container/a?account=name",
            "webdav://host:8080/a/b",
            "webdavs://host",
        ] {
            assert_eq!(canonical(same), same);
        }
        for (given, url) in [
            ("file:///var//backups/", "vfs:///var/backups"),
            ("vfs://localhost/b", "vfs:///b"),
            ("S3://bucket/a/?region=eu-west-1", "s3://bucket@eu-west-1/a"),
            ("s3://b?endpoint=minio:9000", "s3://b?endpoint=https://minio:9000"),
            (
                "s3://b?endpoint=http%3A%2F%2FMinio%3A80%2F",
                "s3://b?endpoint=http://minio",
            ),
            ("webdavs://HOST:443/", "webdavs://host"),
        ] {
            assert_eq!(canonical(given), url);
        }
    }

    #[test]
    fn the_endpoint_of_the_command_line_goes_first_and_stays_in_the_url() {
        let url = "s3://b/p?endpoint=http://old:1";
        let read = Destination::parse(url, Some("http://new:2")).expect("valid");
        assert_eq!(read.url(), "s3://b/p?endpoint=http://new:2");
        let refused = Destination::parse("vfs:///x", Some("http://new:2")).expect_err("a directory has none");
        assert!(refused.to_string().contains("endpoint"), "{refused}");
    }

    #[test]
    fn refusals_name_the_mistake_and_never_a_secret() {
        for (url, part) in [
            ("/var/backups", "vfs:///"),
            ("vfs://backups/x", "vfs:///backups/x"),
            ("vfs:///", "directory"),
            ("vfs:///a/../b", ".."),
            ("vfs:///a/%2e%2e/b", ".."),
            ("vfs:///a%00b", "zero"),
            ("s3:///path", "bucket"),
            ("s3://b/../c", ".."),
            ("s3://b@one/?region=two", "two regions"),
            ("s3://b@/", "region"),
            ("s3://b/?style=paht", "path or virtual"),
            ("s3://b/?regoin=x", "did you mean \"region\"?"),
            ("s3://b/?profile=", "empty"),
            ("s3://b/?a=1&a=2", "twice"),
            ("s3://b/?a", "name=value"),
            ("s3://b/?endpoint=ftp://x", "endpoint"),
            ("s4://b/", "valid: vfs, file, s3"),
            ("webdav:///x", "host"),
            ("webdav://a\\b", "host"),
            ("gs://b/#x", "%23"),
        ] {
            let said = refusal(url);
            assert!(said.contains(part), "{url}: {said}");
        }
        for url in [
            "s3://KEY:hunter2@bucket/path",
            "webdav://user:hunter2@host/",
            "s3://b/?endpoint=http://u:hunter2@h/",
            "s3://b/?secret_access_key=hunter2",
        ] {
            assert!(!refusal(url).contains("hunter2"), "{}", refusal(url));
        }
        assert!(refusal("s3://KEY:hunter2@bucket/path").contains("environment"));
    }

    #[test]
    fn what_is_not_its_own_is_handed_back_decoded_also_from_json() {
        let (destination, rest) = Destination::parse_with_query(
            "s3://b@r/p?backup=a%26b\\u0026volume=v\\u0026endpoint=http://h:1",
            None,
        )
        .expect("valid");
        assert_eq!(destination.url(), "s3://b@r/p?endpoint=http://h:1");
        assert_eq!(rest["backup"], "a&b");
        assert_eq!(rest["volume"], "v");
        assert_eq!(rest.len(), 2);
    }

    #[test]
    fn joins_go_one_down() {
        for (url, below) in [
            ("vfs:///a", "vfs:///a/v"),
            ("s3://b", "s3://b/v"),
            ("gs://b/p", "gs://b/p/v"),
        ] {
            let read = Destination::parse(url, None).expect("valid");
            assert_eq!(read.join("v").expect("a name").url(), below);
            assert!(read.join("..").is_err() && read.join("a/b").is_err());
        }
    }

    fn part() -> impl Strategy<Value = String> {
        "[^/\\\\\\p{C}]{1,12}".prop_filter("no part of a path", |part| {
            super::super::path::check(part).is_ok()
        })
    }

    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec(part(), 0..4).prop_map(|parts| parts.join("/"))
    }

    fn bucket() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9][a-zA-Z0-9_-]{0,20}(\\.[a-z]{1,3})?"
    }

    fn endpoint() -> impl Strategy<Value = Option<String>> {
        prop::option::of("https?://[a-z]{1,9}(:8[0-9]{3})?(/[a-z]{1,4})?")
    }

    fn any_destination() -> impl Strategy<Value = Destination> {
        let word = || prop::option::of("[a-z0-9-]{1,9}");
        let style = prop::option::of(prop_oneof![Just(Style::Path), Just(Style::Virtual)]);
        prop_oneof![
            prop::collection::vec("[^/\0]{1,9}".prop_filter("dots", |p| p != "." && p != ".."), 1..4)
                .prop_map(|parts| Destination::Directory {
                    path: PathBuf::from(format!("/{}", parts.join("/"))),
                }),
            (
                bucket(),
                word(),
                key(),
                endpoint(),
                style,
                prop::option::of("[^\\p{C}\\\\]{1,9}")
            )
                .prop_map(|(bucket, region, path, endpoint, style, profile)| {
                    Destination::S3(S3 {
                        bucket,
                        region,
                        path,
                        endpoint,
                        style,
                        profile,
                    })
                }),
            (bucket(), key(), endpoint()).prop_map(|(bucket, path, endpoint)| Destination::Gcs {
                bucket,
                path,
                endpoint,
            }),
            (bucket(), key(), word(), endpoint()).prop_map(|(container, path, account, endpoint)| {
                Destination::Azure {
                    container,
                    path,
                    account,
                    endpoint,
                }
            }),
            (any::<bool>(), "[a-z]{1,9}(:8[0-9]{3})?", key())
                .prop_map(|(tls, host, path)| { Destination::WebDav { tls, host, path } }),
        ]
    }

    proptest! {
        #[test]
        fn printing_and_reading_gives_the_same(destination in any_destination()) {
            let url = destination.url();
            prop_assert_eq!(Destination::parse(&url, None).map_err(|e| e.to_string()), Ok(destination));
        }

        #[test]
        fn nothing_that_is_typed_panics_and_what_is_read_prints_canonically(text in "((s3|vfs|gs|az|webdav)://)?\\PC{0,40}") {
            if let Ok(read) = Destination::parse(&text, None) {
                let url = read.url();
                let again = Destination::parse(&url, None).map_err(|e| e.to_string());
                prop_assert_eq!(again, Ok(read));
            }
        }
    }
}
