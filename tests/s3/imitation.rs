//! Imitations of the services at Amazon that give out credentials for a time: a machine's metadata (IMDS, version 2) and the
//! token service (STS), and of the storage that takes those: the test server takes no session's. They say what the real ones'
//! documentation shows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is given out.
const ACCESS_KEY: &str = "ASIAFORATIME";
const SECRET_KEY: &str = "made-up-secret";

/// A service on loopback, as long as the process lives.
pub struct Imitation {
    /// `http://127.0.0.1:…`.
    pub address: String,
    /// What it was asked: method and path, headers in lower case, and the body.
    pub asked: Arc<Mutex<Vec<String>>>,
}

/// Status and body for a request.
type Answer = dyn Fn(&str) -> (u16, String) + Send;

impl Imitation {
    /// A machine whose role is `backup-role`, with sessions of that many seconds.
    pub fn of_metadata(seconds: i64) -> Self {
        Self::start(move |request| {
            let first = request.lines().next().unwrap_or_default();
            let has_token = request.contains("x-aws-ec2-metadata-token: made-up-token");
            let role = "/latest/meta-data/iam/security-credentials/";
            match first.split_once(' ') {
                Some(("PUT", "/latest/api/token")) if request.contains("token-ttl-seconds") => {
                    (200, "made-up-token".to_owned())
                }
                Some(("GET", path)) if path == role && has_token => (200, "backup-role".to_owned()),
                Some(("GET", path)) if path == format!("{role}backup-role") && has_token => {
                    let keys = serde_json::json!({
                        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-11-20T08:00:00Z",
                        "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "for-a-time",
                        "Expiration": jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds),
                    });
                    (200, keys.to_string())
                }
                Some(("GET", _)) if !has_token => (401, "Unauthorized".to_owned()),
                _ => (404, "Not Found".to_owned()),
            }
        })
    }

    /// A token service that believes the token `who-i-am`.
    pub fn of_tokens() -> Self {
        Self::start(|request| {
            let asks = |what: &str| request.contains(what);
            if !asks("Action=AssumeRoleWithWebIdentity") || !asks("Version=2011-06-15") {
                return (400, "<ErrorResponse/>".to_owned());
            }
            if !asks("WebIdentityToken=who-i-am") {
                let body = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>Nobody knows \
                            you</Message></Error><RequestId>1</RequestId></ErrorResponse>";
                return (400, body.to_owned());
            }
            let body = format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId>\
                 <SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>for-a-time</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
                 </AssumeRoleWithWebIdentityResponse>"
            );
            (200, body)
        })
    }

    /// Storage that has three objects and takes requests that are signed with the session's key, the session itself included.
    pub fn of_storage() -> Self {
        Self::start(|request| {
            let signed = request.lines().any(|line| {
                line.starts_with(
                    &format!("authorization: aws4-hmac-sha256 credential={ACCESS_KEY}/").to_lowercase(),
                ) && line.contains("x-amz-security-token")
            });
            if !signed || !request.contains("x-amz-security-token: for-a-time") {
                let refused = "<Error><Code>AccessDenied</Code><Message>no session</Message></Error>";
                return (403, refused.to_owned());
            }
            let first = request.lines().next().unwrap_or_default();
            if first.starts_with("PUT ") {
                return (200, String::new());
            }
            if !first.contains("list-type=2") {
                return (200, "x".to_owned());
            }
            let object = |n: u8| {
                format!(
                    "<Contents><Key>p/a{n}</Key><LastModified>2026-11-20T08:00:00.000Z</LastModified><ETag>\"e\"</ETag>\
                     <Size>1</Size></Contents>"
                )
            };
            let objects: String = (0..3).map(object).collect();
            (
                200,
                format!("<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"),
            )
        })
    }

    /// How often it was asked for something that contains this.
    pub fn heard(&self, what: &str) -> usize {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|request| request.contains(what)).count()
    }

    fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("it has one"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &answer, &heard);
            }
        });
        Self { address, asked }
    }
}

/// One request on a connection.
fn serve(mut stream: TcpStream, answer: &Answer, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        let line = match request.is_empty() {
            true => line.trim_end_matches(" HTTP/1.1\r\n").to_owned(),
            false => line.trim().to_lowercase(),
        };
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().unwrap_or(0);
        }
        request += &line;
        request.push('\n');
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request += &String::from_utf8_lossy(&body);
    let (status, said) = answer(&request);
    heard.lock().expect("no panic").push(request);
    write!(
        stream,
        "HTTP/1.1 {status} said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
        said.len()
    )
}
