//! Holds docs/openapi.json to the code: the same routes, the same bodies, and every answer of a real daemon as described.
//!
//! Each operation is called at least once, and each answer is checked against the schema of its status. A key that the
//! file does not mention is a failure here, although clients have to accept such keys: it means that the file is behind
//! the code. What the daemon does is not judged here beyond that. The file is long because the table of operations is, and a
//! table is looked through more easily in one place.

mod daemon;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use daemon::Home;
use serde_json::{Value, json};
use windlass::api::admin::ROUTES;
use windlass::api::error::status;
use windlass::api::types::{
    CloneCheckpoint, CopyBackup, CreateBackup, CreateCheckpoint, CreateSnapshot, CreateVolume, ExtendPool,
    ImportConvoy, Kind, MountVolume, PruneBackups, ResizeVolume, UndeleteVolume, UnmountVolume,
    VerifyBackups,
};

/// The document.
struct Document(Value);

impl Document {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let text = std::fs::read_to_string(&path).expect("docs/openapi.json is there");
        Self(serde_json::from_str(&text).expect("docs/openapi.json is JSON"))
    }

    /// Method, path and description of every operation.
    fn operations(&self) -> Vec<(String, String, &Value)> {
        let paths = self.0["paths"].as_object().expect("an object of paths");
        let of_path = |(path, methods): (&String, &'static [&'static str])| -> Vec<(String, String, &Value)> {
            let item = &self.0["paths"][path];
            methods
                .iter()
                .filter(|method| !item[method].is_null())
                .map(|method| (method.to_ascii_uppercase(), path.clone(), &item[method]))
                .collect()
        };
        const METHODS: &[&str] = &[
            "get", "put", "post", "delete", "patch", "head", "options", "trace",
        ];
        for (path, item) in paths {
            for key in item.as_object().expect("an object of methods").keys() {
                assert!(METHODS.contains(&key.as_str()), "{path}: {key} is no method");
            }
        }
        paths.keys().flat_map(|path| of_path((path, METHODS))).collect()
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let found = &self.0["paths"][path][method.to_ascii_lowercase()];
        assert!(!found.is_null(), "docs/openapi.json has no {method} {path}");
        found
    }

    /// What `$ref` points at, or the value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            None => value,
            Some(target) => {
                let pointer = target.strip_prefix('#').expect("references stay in the document");
                self.0
                    .pointer(pointer)
                    .unwrap_or_else(|| panic!("{target} is not in docs/openapi.json"))
            }
        }
    }

    fn schema(&self, name: &str) -> &Value {
        self.0
            .pointer(&format!("/components/schemas/{name}"))
            .unwrap_or_else(|| panic!("no schema {name}"))
    }

    /// Media type and schema of an operation's answer with this status.
    fn answer(&self, operation: &Value, status: u16) -> (String, Value) {
        let response = &operation["responses"][status.to_string()];
        assert!(
            !response.is_null(),
            "{}: the status {status} is not described",
            operation["operationId"]
        );
        let content = self.resolve(response)["content"]
            .as_object()
            .expect("an answer has content");
        let (media, description) = content.iter().next().expect("of one media type");
        (media.clone(), description["schema"].clone())
    }
}

/// What is wrong with `value` by `schema`: the subset of JSON Schema that the document uses, and closed objects.
fn faults(document: &Document, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema_here = document.resolve(schema);
    let mut faults = Vec::new();
    let types: Vec<&str> = match &schema_here["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&found) {
        return vec![format!("{at} is of type {found}, not {types:?}: {value}")];
    }
    if let Some(allowed) = schema_here["enum"].as_array()
        && !allowed.contains(value)
    {
        faults.push(format!("{at} is {value}, not one of {allowed:?}"));
    }
    if let (Some(least), Some(number)) = (schema_here["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        faults.push(format!("{at} is {number}, less than {least}"));
    }
    if let (Some(format), Some(text)) = (schema_here["format"].as_str(), value.as_str()) {
        let fits = match format {
            "uuid" => text.parse::<uuid::Uuid>().is_ok(),
            "date-time" => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
            other => panic!("{at}: this test does not know the format {other}"),
        };
        if !fits {
            faults.push(format!("{at} is no {format}: {text}"));
        }
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            faults.extend(self::faults(
                document,
                &schema_here["items"],
                item,
                &format!("{at}[{index}]"),
            ));
        }
    }
    if let Some(entries) = value.as_object() {
        let required = schema_here["required"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for key in required
            .iter()
            .filter_map(Value::as_str)
            .filter(|key| !entries.contains_key(*key))
        {
            faults.push(format!("{at}.{key} is missing"));
        }
        for (key, entry) in entries {
            let known = match &schema_here["properties"][key] {
                Value::Null => &schema_here["additionalProperties"],
                known => known,
            };
            match known {
                Value::Null | Value::Bool(false) => faults.push(format!("{at}.{key} is not described")),
                known => faults.extend(self::faults(document, known, entry, &format!("{at}.{key}"))),
            }
        }
    }
    faults
}

#[track_caller]
fn assert_fits(document: &Document, schema: &Value, value: &Value, what: &str) {
    let faults = faults(document, schema, value, "$");
    assert!(faults.is_empty(), "{what}: {}", faults.join("; "));
}

#[test]
fn the_document_has_the_routes_of_the_code() {
    let document = Document::read();
    let described: BTreeSet<(String, String)> = document
        .operations()
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|(method, path)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    let missing: Vec<_> = served.difference(&described).collect();
    let invented: Vec<_> = described.difference(&served).collect();
    assert!(missing.is_empty(), "docs/openapi.json lacks {missing:?}");
    assert!(invented.is_empty(), "the code does not serve {invented:?}");
}

#[test]
fn every_operation_says_what_it_takes_and_answers() {
    let document = Document::read();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in document.operations() {
        let what = format!("{method} {path}");
        assert!(operation["summary"].is_string(), "{what} has no summary");
        let id = operation["operationId"].as_str().expect("an operationId");
        assert!(ids.insert(id.to_owned()), "{what}: the operationId {id} is taken");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path: BTreeSet<String> = parameters
            .iter()
            .map(|parameter| document.resolve(parameter))
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| {
                assert_eq!(
                    parameter["required"], true,
                    "{what}: a part of the path is required"
                );
                parameter["name"].as_str().expect("a name").to_owned()
            })
            .collect();
        let named: BTreeSet<String> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(str::to_owned)
            .collect();
        assert_eq!(in_path, named, "{what}: parameters in the path");
        let responses = operation["responses"].as_object().expect("responses");
        assert_eq!(
            responses.keys().filter(|s| s.starts_with('2')).count(),
            1,
            "{what}: one success"
        );
        for code in responses.keys().filter(|status| !status.starts_with('2')) {
            let (_, schema) = document.answer(operation, code.parse().expect("a status"));
            assert_eq!(schema["$ref"], "#/components/schemas/Failure", "{what}: {code}");
        }
        for code in ["400", "500", "503"] {
            assert!(responses.contains_key(code), "{what}: {code} is always possible");
        }
    }
}

#[test]
fn every_schema_is_used_described_and_made_of_words_that_this_test_knows() {
    const WORDS: &[&str] = &[
        "$ref",
        "additionalProperties",
        "default",
        "description",
        "enum",
        "examples",
        "format",
        "items",
        "minimum",
        "properties",
        "required",
        "type",
    ];
    fn walk(document: &Document, schema: &Value, at: &str) {
        for (word, inner) in schema.as_object().unwrap_or_else(|| panic!("{at} is no schema")) {
            assert!(
                WORDS.contains(&word.as_str()),
                "{at}: {word} would not be checked"
            );
            match word.as_str() {
                "properties" => {
                    for (key, property) in inner.as_object().expect("properties by name") {
                        let described = !property["description"].is_null() || property["$ref"].is_string();
                        assert!(described, "{at}.{key} has no description");
                        walk(document, property, &format!("{at}.{key}"));
                    }
                }
                "items" => walk(document, inner, at),
                "additionalProperties" if inner.is_object() => walk(document, inner, at),
                _ => {}
            }
        }
        document.resolve(schema);
    }
    let document = Document::read();
    let text = document.0.to_string();
    for (name, schema) in document.0["components"]["schemas"].as_object().expect("schemas") {
        assert!(schema["description"].is_string(), "{name} has no description");
        assert!(
            text.contains(&format!("\"#/components/schemas/{name}\"")),
            "{name} is not used"
        );
        walk(&document, schema, name);
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_fits(&document, schema, example, &format!("example of {name}"));
        }
    }
    for (name, response) in document.0["components"]["responses"]
        .as_object()
        .expect("responses")
    {
        let content = &response["content"]["application/json"];
        assert_fits(
            &document,
            &content["schema"],
            &content["example"],
            &format!("example of {name}"),
        );
    }
}

/// The kinds and their statuses. A new kind does not compile here before it is written down.
#[test]
fn the_kinds_and_their_statuses_are_those_of_the_code() {
    let all = [
        Kind::NotFound,
        Kind::AlreadyExists,
        Kind::Busy,
        Kind::Invalid,
        Kind::Unsupported,
        Kind::Corrupt,
        Kind::Unavailable,
        Kind::Internal,
    ];
    for kind in all {
        match kind {
            Kind::NotFound | Kind::AlreadyExists | Kind::Busy | Kind::Invalid => {}
            Kind::Unsupported | Kind::Corrupt | Kind::Unavailable | Kind::Internal => {}
        }
    }
    let document = Document::read();
    let schema = document.schema("Kind");
    let described: BTreeSet<&str> = schema["enum"]
        .as_array()
        .expect("kinds")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        described,
        all.iter()
            .map(|kind| word(*kind))
            .collect::<BTreeSet<_>>()
            .iter()
            .map(String::as_str)
            .collect()
    );
    // "`Invalid` is answered with 400, `NotFound` with 404, `AlreadyExists` and `Busy` with 409, …"
    let sentence = schema["description"].as_str().expect("a description");
    for kind in all {
        let after = sentence
            .split(&format!("`{}`", word(kind)))
            .nth(1)
            .unwrap_or_default();
        let code = after
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take(3)
            .collect::<String>();
        assert_eq!(code, status(kind).as_u16().to_string(), "{kind:?} in {sentence}");
    }
}

fn word(kind: Kind) -> String {
    serde_json::to_value(kind)
        .expect("a word")
        .as_str()
        .expect("a word")
        .to_owned()
}

#[test]
fn the_bodies_have_the_fields_of_the_code() {
    let document = Document::read();
    let bodies = [
        ("CreateVolume", serde_json::to_value(CreateVolume::default())),
        ("MountVolume", serde_json::to_value(MountVolume::default())),
        ("UnmountVolume", serde_json::to_value(UnmountVolume::default())),
        ("CreateSnapshot", serde_json::to_value(CreateSnapshot::default())),
        (
            "CreateCheckpoint",
            serde_json::to_value(CreateCheckpoint::default()),
        ),
        (
            "CloneCheckpoint",
            serde_json::to_value(CloneCheckpoint::default()),
        ),
        ("ExtendPool", serde_json::to_value(ExtendPool::default())),
        ("ImportConvoy", serde_json::to_value(ImportConvoy::default())),
        ("ResizeVolume", serde_json::to_value(ResizeVolume::default())),
        ("UndeleteVolume", serde_json::to_value(UndeleteVolume::default())),
        ("CreateBackup", serde_json::to_value(CreateBackup::default())),
        ("VerifyBackups", serde_json::to_value(VerifyBackups::default())),
        ("PruneBackups", serde_json::to_value(PruneBackups::default())),
        ("CopyBackup", serde_json::to_value(CopyBackup::default())),
    ];
    for (name, body) in bodies {
        let (schema, body) = (document.schema(name), body.expect("JSON"));
        let keys = |value: &Value| {
            value
                .as_object()
                .expect(name)
                .keys()
                .cloned()
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(keys(&schema["properties"]), keys(&body), "{name}");
        assert_eq!(
            schema["additionalProperties"], false,
            "{name} refuses unknown fields"
        );
        assert_fits(&document, schema, &body, name);
    }
}

/// Status, content type and body of one request on a connection of its own.
fn request(home: &Home, method: &str, target: &str, body: &str) -> (u16, String, Vec<u8>) {
    let mut stream = UnixStream::connect(home.admin_socket()).expect("the daemon listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a time limit");
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer ends");
    let split = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("headers and a body");
    let (head, body) = (
        String::from_utf8_lossy(&answer[..split]).to_ascii_lowercase(),
        &answer[split + 4..],
    );
    let header = |name: &str| {
        let line = head.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim().to_owned())
    };
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let body = match header("transfer-encoding").as_deref() {
        Some("chunked") => unchunked(body),
        _ => body.to_vec(),
    };
    (code, header("content-type").unwrap_or_default(), body)
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("the length of a chunk");
        let length =
            usize::from_str_radix(&String::from_utf8_lossy(&body[..end]), 16).expect("in hexadecimal");
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + length]);
        body = &body[end + 2 + length + 2..];
    }
}

/// Calls operations, checks each answer, and remembers which succeeded.
struct Caller<'a> {
    document: &'a Document,
    home: &'a Home,
    succeeded: BTreeSet<(&'static str, &'static str)>,
}

impl Caller<'_> {
    /// Calls an operation with the segments and parameters that follow its route, and checks the answer. Gives status and
    /// JSON; lines of JSON come as an array.
    fn call(
        &mut self,
        method: &'static str,
        route: &'static str,
        target: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let operation = self.document.operation(method, route);
        let what = format!("{method} {target}");
        if body.is_some() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(schema["$ref"].is_string(), "{what}: its body is not described");
        }
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let (code, media, bytes) = request(self.home, method, target, &text);
        let (described, schema) = self.document.answer(operation, code);
        assert_eq!(media, described, "{what}: the media type");
        let parse = |bytes: &[u8]| -> Value {
            serde_json::from_slice(bytes)
                .unwrap_or_else(|error| panic!("{what}: {error}: {}", String::from_utf8_lossy(bytes)))
        };
        let answer = if media == "application/x-ndjson" {
            let lines: Vec<Value> = bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(parse)
                .collect();
            assert!(!lines.is_empty(), "{what}: no line to look at");
            for line in &lines {
                assert_fits(self.document, &schema, line, &what);
            }
            Value::Array(lines)
        } else if media.starts_with("application/openmetrics-text") {
            let answer = Value::String(String::from_utf8(bytes).expect("text"));
            assert_fits(self.document, &schema, &answer, &what);
            answer
        } else {
            let answer = parse(&bytes);
            assert_fits(self.document, &schema, &answer, &what);
            answer
        };
        if code < 400 {
            self.succeeded.insert((method, route));
        } else {
            let kind: Kind = serde_json::from_value(answer["Kind"].clone()).expect("a kind of the code");
            assert_eq!(status(kind).as_u16(), code, "{what}: {answer}");
        }
        (code, answer)
    }

    #[track_caller]
    fn good(
        &mut self,
        method: &'static str,
        route: &'static str,
        target: &str,
        body: Option<Value>,
    ) -> Value {
        let (code, answer) = self.call(method, route, target, body);
        assert!(code < 400, "{method} {target}: {answer}");
        answer
    }

    #[track_caller]
    fn bad(
        &mut self,
        expected: (u16, &str),
        method: &'static str,
        route: &'static str,
        target: &str,
        body: Option<Value>,
    ) {
        let (code, answer) = self.call(method, route, target, body);
        assert_eq!(
            (code, answer["Kind"].as_str()),
            (expected.0, Some(expected.1)),
            "{method} {target}: {answer}"
        );
    }
}

const VOLUMES: &str = "/v1/volumes";
const VOLUME: &str = "/v1/volumes/{volume}";
const MOUNT: &str = "/v1/volumes/{volume}/mount";
const UMOUNT: &str = "/v1/volumes/{volume}/umount";
const SNAPSHOTS: &str = "/v1/volumes/{volume}/snapshots";
const SNAPSHOT: &str = "/v1/snapshots/{snapshot}";
const REVERT: &str = "/v1/snapshots/{snapshot}/revert";
const RESIZE: &str = "/v1/volumes/{volume}/resize";
const TRIM: &str = "/v1/volumes/{volume}/trim";
const POOL: &str = "/v1/pool";
const TRASHED: &str = "/v1/trash/{volume}";
const UNDELETE: &str = "/v1/trash/{volume}/undelete";

#[test]
fn every_operation_of_a_real_daemon_answers_as_described() {
    let document = Document::read();
    // Snapshots whatever the machine's own filesystem is.
    let home = Home::on("btrfs");
    let _daemon = home.start_with(|command| {
        command.env("WINDLASS_BACKUP_PASSWORD", "correct horse");
    });
    let mut caller = Caller {
        document: &document,
        home: &home,
        succeeded: BTreeSet::new(),
    };
    volumes(&mut caller);
    snapshots(&mut caller);
    checkpoints(&mut caller);
    policies(&mut caller);
    backups(&mut caller);
    removal(&mut caller);
    // Directories share no pool.
    caller.bad((422, "Unsupported"), "GET", POOL, POOL, None);
    for route in [
        "/v1/pool/check",
        "/v1/pool/repair",
        "/v1/pool/extend",
        "/v1/pool/trim",
    ] {
        caller.bad((422, "Unsupported"), "POST", route, route, None);
    }
    let much = json!({"Size": "much"});
    caller.bad(
        (400, "Invalid"),
        "POST",
        "/v1/pool/extend",
        "/v1/pool/extend",
        Some(much),
    );
    import(&mut caller);
    caller.good("GET", "/v1/info", "/v1/info", None);
    caller.good("GET", "/metrics", "/metrics", None);
    caller.good("GET", "/v1/events", "/v1/events?follow=false", None);
    let events = caller.good("GET", "/v1/events", "/v1/events?follow=false&since=3", None);
    assert_eq!(events[0]["Sequence"], 4, "since");
    let all: BTreeSet<(&str, &str)> = ROUTES.iter().copied().collect();
    // What only thin devices, or quotas, can do: tests/devicemapper.rs sees it.
    let elsewhere = [
        ("POST", RESIZE),
        ("POST", TRIM),
        ("GET", POOL),
        ("POST", "/v1/pool/check"),
        ("POST", "/v1/pool/repair"),
        ("POST", "/v1/pool/extend"),
        ("POST", "/v1/pool/trim"),
    ];
    let left: Vec<_> = all
        .difference(&caller.succeeded)
        .filter(|route| !elsewhere.contains(route))
        .collect();
    assert!(left.is_empty(), "no success was seen of {left:?}");
}

/// Convoy's directories, in the directory that is the driver's.
fn import(caller: &mut Caller) {
    const CONVOY: &str = "/v1/import/convoy";
    let root = caller.home.path().join("convoy");
    let ask = |dry| Some(json!({"Root": root, "DryRun": dry}));
    caller.bad((400, "Invalid"), "POST", CONVOY, CONVOY, ask(true));
    std::fs::create_dir_all(root.join("vfs")).expect("a directory");
    caller.bad((404, "NotFound"), "POST", CONVOY, CONVOY, ask(true));
    let path = caller.home.volumes();
    for dir in ["config", "old"] {
        std::fs::create_dir(path.join(dir)).expect("a directory");
    }
    let put = |at: &Path, what: Value| std::fs::write(at, what.to_string()).expect("written");
    put(
        &root.join("vfs/vfs.cfg"),
        json!({"Root": root.join("vfs"), "Path": path, "ConfigPath": path.join("config"), "DefaultVolumeSize": 0}),
    );
    for name in ["old", "gone"] {
        put(
            &path.join(format!("config/vfs_volume_{name}.json")),
            json!({"Name": name, "Size": 0, "Path": path.join(name), "MountPoint": "", "PrepareForVM": false,
                "CreatedTime": "Fri Nov 20 08:00:00 +0000 2026",
                "Snapshots": {"s": {"Name": "s", "FilePath": "/x"}}}),
        );
    }
    std::fs::write(path.join("old/f"), "kept").expect("written");
    let planned = caller.good("POST", CONVOY, CONVOY, ask(true));
    assert_eq!(planned["Adopted"][0]["Name"], "old", "{planned}");
    assert_eq!(
        planned["Skipped"].as_array().map(Vec::len),
        Some(2),
        "the one that is gone, and an archive: {planned}"
    );
    caller.bad((404, "NotFound"), "GET", VOLUME, "/v1/volumes/none", None);
    let done = caller.good("POST", CONVOY, CONVOY, ask(false));
    assert_eq!(done["Adopted"], planned["Adopted"]);
    let mounted = caller.good("POST", MOUNT, "/v1/volumes/old/mount", None);
    let at = Path::new(mounted["MountPoint"].as_str().expect("a path"));
    assert_eq!(std::fs::read_to_string(at.join("f")).expect("read"), "kept");
    caller.good("POST", UMOUNT, "/v1/volumes/old/umount", None);
    let again = caller.good("POST", CONVOY, CONVOY, ask(false));
    assert_eq!(again["Adopted"], json!([]), "{again}");
}

/// Makes `a` and two others.
fn volumes(caller: &mut Caller) {
    caller.good("GET", VOLUMES, "/v1/volumes", None);
    let wish = json!({"Name": "a", "Options": {"on-remove": "trash", "uid": "33", "mode": "0750"}});
    caller.good("POST", VOLUMES, "/v1/volumes", Some(wish.clone()));
    let random = caller.good("POST", VOLUMES, "/v1/volumes", None);
    let name = random["Volume"]["Name"].as_str().expect("a name").to_owned();
    let id = random["Volume"]["UUID"].as_str().expect("an id").to_owned();
    caller.good(
        "POST",
        VOLUMES,
        "/v1/volumes",
        Some(json!({"Name": null, "Options": {}})),
    );
    caller.bad((409, "AlreadyExists"), "POST", VOLUMES, "/v1/volumes", Some(wish));
    caller.bad(
        (400, "Invalid"),
        "POST",
        VOLUMES,
        "/v1/volumes",
        Some(json!({"Nam": "b"})),
    );
    caller.bad(
        (400, "Invalid"),
        "POST",
        VOLUMES,
        "/v1/volumes",
        Some(json!({"Name": "../b"})),
    );
    caller.bad(
        (400, "Invalid"),
        "POST",
        VOLUMES,
        "/v1/volumes",
        Some(json!({"Options": {"sise": "1G"}})),
    );
    caller.bad(
        (404, "NotFound"),
        "POST",
        VOLUMES,
        "/v1/volumes",
        Some(json!({"Options": {"driver": "none"}})),
    );
    caller.good("GET", VOLUMES, "/v1/volumes?driver=vfs", None);
    caller.bad((404, "NotFound"), "GET", VOLUMES, "/v1/volumes?driver=none", None);
    caller.bad((400, "Invalid"), "GET", VOLUMES, "/v1/volumes?drivr=vfs", None);
    // With what it holds: Get waits for that.
    let shown = caller.good("GET", VOLUME, &format!("/v1/volumes/{}", &id[..13]), None);
    assert_eq!(shown["Name"], name.as_str(), "by the beginning of its id");
    caller.bad((404, "NotFound"), "GET", VOLUME, "/v1/volumes/none", None);
    caller.bad((400, "Invalid"), "GET", VOLUME, "/v1/volumes/a?x=1", None);
    caller.bad((400, "Invalid"), "GET", VOLUME, "/v1/volumes/%FF", None);

    caller.good("POST", MOUNT, "/v1/volumes/a/mount", None);
    let mounted = caller.good("GET", VOLUME, "/v1/volumes/a", None);
    assert_eq!(
        mounted["Mounts"].as_array().map(Vec::len),
        Some(1),
        "its mount is shown"
    );
    caller.good("GET", VOLUMES, "/v1/volumes", None);
    caller.bad((409, "Busy"), "DELETE", VOLUME, "/v1/volumes/a", None);
    caller.bad(
        (400, "Invalid"),
        "POST",
        MOUNT,
        "/v1/volumes/a/mount",
        Some(json!({"MountPoint": "nowhere"})),
    );
    caller.bad(
        (400, "Invalid"),
        "POST",
        MOUNT,
        "/v1/volumes/a/mount",
        Some(json!({"At": "/mnt"})),
    );
    caller.bad((404, "NotFound"), "POST", MOUNT, "/v1/volumes/none/mount", None);
    caller.good(
        "POST",
        UMOUNT,
        "/v1/volumes/a/umount",
        Some(json!({"Force": true})),
    );
    caller.good("POST", UMOUNT, "/v1/volumes/a/umount", None);
    caller.bad((404, "NotFound"), "POST", UMOUNT, "/v1/volumes/none/umount", None);
}

/// Of `a` and a volume of its own, which goes again.
fn checkpoints(caller: &mut Caller) {
    const ALL: &str = "/v1/checkpoints";
    const ONE: &str = "/v1/checkpoints/{checkpoint}";
    const BACK: &str = "/v1/checkpoints/{checkpoint}/revert";
    const CLONE: &str = "/v1/checkpoints/{checkpoint}/clone";
    let wish = |volumes: &[&str]| Some(json!({"Name": "point", "Volumes": volumes, "NoHooks": true}));
    caller.good("POST", VOLUMES, "/v1/volumes", Some(json!({"Name": "part"})));
    caller.bad((404, "NotFound"), "POST", ALL, ALL, wish(&["a", "none"]));
    caller.bad((400, "Invalid"), "POST", ALL, ALL, wish(&[]));
    let project = json!({"Name": "point", "Volumes": [], "ComposeProject": "shop"});
    caller.bad((503, "Unavailable"), "POST", ALL, ALL, Some(project));
    let made = caller.good("POST", ALL, ALL, wish(&["part", "a"]));
    assert_eq!(made["Snapshots"], json!(["a@point", "part@point"]));
    assert_eq!(made["Moment"], "one", "nobody uses them");
    caller.bad((409, "AlreadyExists"), "POST", ALL, ALL, wish(&["a"]));
    let listed = caller.good("GET", ALL, ALL, None);
    assert_eq!(listed, json!([made]));
    let id = made["UUID"].as_str().expect("an id").to_owned();
    let shown = caller.good("GET", ONE, &format!("{ALL}/{id}"), None);
    assert_eq!(shown, made);
    caller.bad((404, "NotFound"), "GET", ONE, "/v1/checkpoints/none", None);
    caller.good("POST", BACK, "/v1/checkpoints/point/revert", None);
    caller.good("POST", MOUNT, "/v1/volumes/part/mount", None);
    caller.bad((409, "Busy"), "POST", BACK, "/v1/checkpoints/point/revert", None);
    caller.good("POST", UMOUNT, "/v1/volumes/part/umount", None);
    let suffix = |text: &str| Some(json!({"Suffix": text}));
    caller.bad(
        (400, "Invalid"),
        "POST",
        CLONE,
        "/v1/checkpoints/point/clone",
        suffix(""),
    );
    let cloned = caller.good("POST", CLONE, "/v1/checkpoints/point/clone", suffix("-2"));
    assert_eq!(cloned["Volumes"], json!(["a-2", "part-2"]));
    caller.bad(
        (409, "AlreadyExists"),
        "POST",
        CLONE,
        "/v1/checkpoints/point/clone",
        suffix("-2"),
    );
    caller.good("DELETE", SNAPSHOT, "/v1/snapshots/part@point", None);
    let shown = caller.good("GET", ONE, "/v1/checkpoints/point", None);
    assert_eq!(shown["Missing"], json!(["part"]));
    caller.bad(
        (404, "NotFound"),
        "POST",
        BACK,
        "/v1/checkpoints/point/revert",
        None,
    );
    caller.good("DELETE", ONE, "/v1/checkpoints/point", None);
    assert_eq!(caller.good("GET", ALL, ALL, None), json!([]));
    for volume in ["part", "a-2", "part-2"] {
        caller.good("DELETE", VOLUME, &format!("{VOLUMES}/{volume}?how=delete"), None);
    }
}

fn snapshots(caller: &mut Caller) {
    caller.good("GET", SNAPSHOTS, "/v1/volumes/a/snapshots", None);
    caller.bad(
        (404, "NotFound"),
        "GET",
        SNAPSHOTS,
        "/v1/volumes/none/snapshots",
        None,
    );
    caller.bad((404, "NotFound"), "GET", SNAPSHOT, "/v1/snapshots/a@none", None);
    caller.bad(
        (404, "NotFound"),
        "DELETE",
        SNAPSHOT,
        "/v1/snapshots/a%40none",
        None,
    );
    caller.bad(
        (404, "NotFound"),
        "POST",
        REVERT,
        "/v1/snapshots/none/revert",
        None,
    );
    caller.bad(
        (404, "NotFound"),
        "POST",
        SNAPSHOTS,
        "/v1/volumes/none/snapshots",
        None,
    );
    caller.bad(
        (400, "Invalid"),
        "POST",
        SNAPSHOTS,
        "/v1/volumes/a/snapshots",
        Some(json!({"Nam": "s"})),
    );
    let wish = json!({"Name": "s"});
    caller.good("POST", SNAPSHOTS, "/v1/volumes/a/snapshots", Some(wish.clone()));
    caller.bad(
        (409, "AlreadyExists"),
        "POST",
        SNAPSHOTS,
        "/v1/volumes/a/snapshots",
        Some(wish),
    );
    caller.good("POST", SNAPSHOTS, "/v1/volumes/a/snapshots", None);
    caller.good("GET", SNAPSHOTS, "/v1/volumes/a/snapshots", None);
    caller.good("GET", SNAPSHOT, "/v1/snapshots/s", None);
    caller.good("GET", SNAPSHOT, "/v1/snapshots/a@s", None);
    caller.good("GET", VOLUME, "/v1/volumes/a", None);
    let clone = json!({"Name": "b", "Options": {"from": "a@s"}});
    caller.good("POST", VOLUMES, "/v1/volumes", Some(clone));
    caller.good(
        "POST",
        SNAPSHOTS,
        "/v1/volumes/b/snapshots",
        Some(json!({"Name": "s"})),
    );
    caller.bad((400, "Invalid"), "GET", SNAPSHOT, "/v1/snapshots/s", None);
    const LOOK: &str = "/v1/snapshots/{snapshot}/mount";
    const LOOK_AWAY: &str = "/v1/snapshots/{snapshot}/umount";
    let shown = caller.good("POST", LOOK, "/v1/snapshots/a@s/mount", None);
    let at = Path::new(shown["MountPoint"].as_str().expect("a path")).to_owned();
    assert!(
        at.ends_with("a@s") && std::fs::write(at.join("f"), "no").is_err(),
        "{shown}"
    );
    caller.good("POST", LOOK, "/v1/snapshots/a@s/mount", None);
    caller.bad((409, "Busy"), "DELETE", SNAPSHOT, "/v1/snapshots/a@s", None);
    caller.bad((409, "Busy"), "DELETE", VOLUME, "/v1/volumes/a", None);
    caller.good("POST", LOOK_AWAY, "/v1/snapshots/a@s/umount", None);
    assert!(!at.exists(), "its mount point goes too");
    let nowhere = caller.good("POST", LOOK_AWAY, "/v1/snapshots/a@s/umount", None);
    assert_eq!(nowhere["Notes"].as_array().map(Vec::len), Some(1));
    caller.bad((404, "NotFound"), "POST", LOOK, "/v1/snapshots/none/mount", None);
    caller.good("POST", REVERT, "/v1/snapshots/a@s/revert", None);
    caller.good("POST", MOUNT, "/v1/volumes/a/mount", None);
    caller.bad((409, "Busy"), "POST", REVERT, "/v1/snapshots/a@s/revert", None);
    caller.good("POST", UMOUNT, "/v1/volumes/a/umount", None);
    caller.good("DELETE", SNAPSHOT, "/v1/snapshots/b@s", None);
}

fn policies(caller: &mut Caller) {
    const POLICY: &str = "/v1/volumes/{volume}/policy";
    let at = "/v1/volumes/a/policy";
    let wish = json!({"Set": {"snapshot.schedule": "@yearly"}, "Unset": ["trash-ttl"]});
    let shown = caller.good("POST", POLICY, at, Some(wish));
    assert_eq!(shown["Policy"]["snapshot.schedule"], "@yearly");
    assert_eq!(shown["Health"], "waiting");
    let listed = caller.good("GET", VOLUMES, VOLUMES, None);
    assert_eq!(listed["a"]["Schedules"]["snapshot"]["Health"], "waiting");
    const TASK: &str = "/v1/volumes/{volume}/tasks/{task}";
    let shown = caller.good("POST", TASK, "/v1/volumes/a/tasks/snapshot", None);
    assert_eq!(shown["Schedules"]["snapshot"]["AtWork"], true);
    caller.bad((400, "Invalid"), "POST", TASK, "/v1/volumes/a/tasks/backup", None);
    caller.bad(
        (404, "NotFound"),
        "POST",
        TASK,
        "/v1/volumes/none/tasks/snapshot",
        None,
    );
    const RETENTION: &str = "/v1/volumes/{volume}/retention";
    let kept = caller.good("GET", RETENTION, "/v1/volumes/a/retention", None);
    assert!(kept["Snapshots"].is_array(), "{kept}");
    caller.bad(
        (404, "NotFound"),
        "GET",
        RETENTION,
        "/v1/volumes/none/retention",
        None,
    );
    for wish in [
        json!({"Set": {"snapshot.schedule": "soon"}}),
        json!({"Set": {"snapshot.schedule": "@daily"}, "Unset": ["snapshot.schedule"]}),
        json!({"Unset": ["colour"]}),
    ] {
        caller.bad((400, "Invalid"), "POST", POLICY, at, Some(wish));
    }
    let none = Some(json!({"Unset": ["protect"]}));
    caller.bad((404, "NotFound"), "POST", POLICY, "/v1/volumes/none/policy", none);
    caller.good("POST", POLICY, at, Some(json!({"Unset": ["snapshot.schedule"]})));
}

fn backups(caller: &mut Caller) {
    const BACKUPS: &str = "/v1/backups";
    const JOB: &str = "/v1/jobs/{job}";
    const PROGRESS: &str = "/v1/jobs/{job}/progress";
    let directory = |name: &str| {
        let dir = caller.home.path().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        format!("vfs://{}", daemon::text(&dir))
    };
    let (here, there) = (directory("here"), directory("there"));
    let escaped = |url: &str| url.replace('?', "%3F").replace('&', "%26").replace('=', "%3D");
    let end = |caller: &mut Caller, job: &Value| -> Value {
        let id = job["ID"].as_i64().expect("a number");
        let lines = caller.good("GET", PROGRESS, &format!("/v1/jobs/{id}/progress"), None);
        let last = lines.as_array().and_then(|lines| lines.last()).cloned();
        last.expect("at least one line")
    };
    caller.good("GET", BACKUPS, &format!("/v1/backups?dest={here}"), None);
    caller.bad((400, "Invalid"), "GET", BACKUPS, "/v1/backups", None);
    let wish = json!({"Snapshot": "a@s", "Destination": here});
    let job = caller.good("POST", BACKUPS, "/v1/backups", Some(wish));
    let done = end(caller, &job);
    assert_eq!(done["State"], "done", "{done}");
    let url = done["Result"]["BackupURL"].as_str().expect("a URL").to_owned();
    let wish = json!({"Snapshot": "none", "Destination": here});
    caller.bad((404, "NotFound"), "POST", BACKUPS, "/v1/backups", Some(wish));
    caller.good("GET", BACKUPS, &format!("/v1/backups?dest={here}&volume=a"), None);
    caller.bad(
        (404, "NotFound"),
        "GET",
        BACKUPS,
        &format!("/v1/backups?dest={here}&volume=x"),
        None,
    );
    let inspect = "/v1/backups/inspect";
    caller.good("GET", inspect, &format!("{inspect}?url={}", escaped(&url)), None);
    caller.bad((400, "Invalid"), "GET", inspect, inspect, None);
    let wish = json!({"URL": url, "Destination": there});
    let job = caller.good("POST", "/v1/backups/copy", "/v1/backups/copy", Some(wish));
    assert_eq!(end(caller, &job)["State"], "done");
    for (route, wish) in [
        ("/v1/backups/verify", json!({"Target": here, "Percent": 100})),
        ("/v1/backups/prune", json!({"Target": there})),
    ] {
        let job = caller.good("POST", route, route, Some(wish));
        let done = end(caller, &job);
        assert_eq!(done["State"], "done", "{done}");
    }
    const DRILL: &str = "/v1/volumes/{volume}/drill";
    const TIMELINE: &str = "/v1/volumes/{volume}/timeline";
    caller.bad((400, "Invalid"), "POST", DRILL, "/v1/volumes/a/drill", None);
    caller.bad((404, "NotFound"), "POST", DRILL, "/v1/volumes/none/drill", None);
    let policy = |set: Value, unset: Value| Some(json!({"Set": set, "Unset": unset}));
    let (route, at) = ("/v1/volumes/{volume}/policy", "/v1/volumes/a/policy");
    caller.good("POST", route, at, policy(json!({"backup.dest": here}), json!([])));
    let job = caller.good("POST", DRILL, "/v1/volumes/a/drill", None);
    assert_eq!(end(caller, &job)["State"], "done");
    let history = caller.good("GET", TIMELINE, "/v1/volumes/a/timeline", None);
    let kinds: BTreeSet<&str> = history["Marks"]
        .as_array()
        .expect("marks")
        .iter()
        .filter_map(|mark| mark["Kind"].as_str())
        .collect();
    let all = ["backup", "created", "drill", "snapshot", "verification"];
    assert_eq!(kinds, all.into_iter().collect(), "{history}");
    caller.good("GET", TIMELINE, "/v1/volumes/a/timeline?since=0s", None);
    caller.bad(
        (400, "Invalid"),
        "GET",
        TIMELINE,
        "/v1/volumes/a/timeline?since=then",
        None,
    );
    caller.bad(
        (404, "NotFound"),
        "GET",
        TIMELINE,
        "/v1/volumes/none/timeline",
        None,
    );
    caller.good("GET", VOLUME, "/v1/volumes/a", None);
    caller.good("POST", route, at, policy(json!({}), json!(["backup.dest"])));
    const DIFF: &str = "/v1/diff";
    let lines = caller.good("GET", DIFF, "/v1/diff?from=a@s", None);
    assert_eq!(
        lines
            .as_array()
            .and_then(|lines| lines.last())
            .expect("a summary")["Change"],
        "summary"
    );
    caller.bad((400, "Invalid"), "GET", DIFF, DIFF, None);
    caller.bad((404, "NotFound"), "GET", DIFF, "/v1/diff?from=a@none", None);
    caller.bad(
        (422, "Unsupported"),
        "GET",
        DIFF,
        "/v1/diff?from=a@s&ranges=true",
        None,
    );
    let restored = json!({"Name": "restored", "Options": {"backup": url}});
    caller.good("POST", VOLUMES, "/v1/volumes", Some(restored));
    let job = caller.good(
        "DELETE",
        BACKUPS,
        &format!("/v1/backups?url={}", escaped(&url)),
        None,
    );
    end(caller, &job);
    caller.good("GET", "/v1/jobs", "/v1/jobs", None);
    caller.good("GET", JOB, "/v1/jobs/1", None);
    caller.good("DELETE", JOB, "/v1/jobs/1", None);
    caller.bad((404, "NotFound"), "GET", JOB, "/v1/jobs/999", None);
    caller.bad((404, "NotFound"), "DELETE", JOB, "/v1/jobs/999", None);
    caller.bad((400, "Invalid"), "GET", JOB, "/v1/jobs/first", None);
    caller.bad((404, "NotFound"), "GET", PROGRESS, "/v1/jobs/999/progress", None);
}

fn removal(caller: &mut Caller) {
    caller.good(
        "POST",
        "/v1/volumes/{volume}/protect",
        "/v1/volumes/a/protect",
        None,
    );
    caller.bad((409, "Busy"), "DELETE", VOLUME, "/v1/volumes/a", None);
    caller.good(
        "POST",
        "/v1/volumes/{volume}/unprotect",
        "/v1/volumes/a/unprotect",
        None,
    );
    caller.bad(
        (404, "NotFound"),
        "POST",
        "/v1/volumes/{volume}/protect",
        "/v1/volumes/none/protect",
        None,
    );
    caller.bad(
        (404, "NotFound"),
        "POST",
        "/v1/volumes/{volume}/unprotect",
        "/v1/volumes/none/unprotect",
        None,
    );
    for (expected, at, size) in [
        ((404, "NotFound"), "/v1/volumes/none/resize", "1G"),
        ((400, "Invalid"), "/v1/volumes/a/resize", "much"),
        // A directory without a quota has no size.
        ((422, "Unsupported"), "/v1/volumes/a/resize", "1G"),
    ] {
        caller.bad(expected, "POST", RESIZE, at, Some(json!({"Size": size})));
    }
    caller.bad((404, "NotFound"), "POST", TRIM, "/v1/volumes/none/trim", None);
    caller.bad((422, "Unsupported"), "POST", TRIM, "/v1/volumes/a/trim", None);
    caller.bad((400, "Invalid"), "DELETE", VOLUME, "/v1/volumes/a?how=burn", None);
    caller.bad(
        (400, "Invalid"),
        "DELETE",
        VOLUME,
        "/v1/volumes/a?how=trash&reference=true",
        None,
    );
    caller.bad((404, "NotFound"), "DELETE", VOLUME, "/v1/volumes/none", None);
    caller.good("GET", "/v1/trash", "/v1/trash", None);
    caller.good("DELETE", VOLUME, "/v1/volumes/a", None);
    let trash = caller.good("GET", "/v1/trash", "/v1/trash", None);
    assert_eq!(trash[0]["Name"], "a", "it is in the trash");
    caller.bad(
        (404, "NotFound"),
        "POST",
        UNDELETE,
        "/v1/trash/none/undelete",
        None,
    );
    caller.bad(
        (400, "Invalid"),
        "POST",
        UNDELETE,
        "/v1/trash/a/undelete",
        Some(json!({"As": "c"})),
    );
    caller.good("POST", VOLUMES, "/v1/volumes", Some(json!({"Name": "a"})));
    caller.bad(
        (409, "AlreadyExists"),
        "POST",
        UNDELETE,
        "/v1/trash/a/undelete",
        None,
    );
    caller.good(
        "POST",
        UNDELETE,
        "/v1/trash/a/undelete",
        Some(json!({"Name": "c"})),
    );
    caller.good("DELETE", VOLUME, "/v1/volumes/c?how=trash", None);
    caller.good("DELETE", TRASHED, "/v1/trash/c", None);
    caller.bad((404, "NotFound"), "DELETE", TRASHED, "/v1/trash/c", None);
    caller.good("DELETE", VOLUME, "/v1/volumes/a?reference=true", None);
    let again = caller.good("POST", VOLUMES, "/v1/volumes", Some(json!({"Name": "a"})));
    assert_eq!(
        again["Notes"].as_array().map(Vec::len),
        Some(1),
        "it was taken up again"
    );
}

/// Failures that belong to no operation.
#[test]
fn what_is_no_operation_is_a_failure_as_described() {
    let document = Document::read();
    let home = Home::new();
    let _daemon = home.start();
    for (method, target, body, expected) in [
        ("GET", "/", "", 404),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/v2/volumes", "", 404),
        ("PUT", "/v1/volumes", "", 400),
        ("DELETE", "/v1/events", "", 400),
        ("GET", "/metrics?volume=v", "", 400),
        ("GET", "/v1/events?since=soon", "", 400),
        ("GET", "/v1/events?follow=perhaps", "", 400),
        ("GET", "/v1/info?x", "", 400),
        ("POST", "/v1/volumes", "{", 400),
        ("POST", "/v1/volumes", "7", 400),
        ("POST", "/v1/volumes", r#"{"Options": {"size": 1}}"#, 400),
    ] {
        let (code, media, bytes) = request(&home, method, target, body);
        let what = format!("{method} {target}");
        let answer: Value = serde_json::from_slice(&bytes).expect(&what);
        assert_eq!(
            (code, media.as_str()),
            (expected, "application/json"),
            "{what}: {answer}"
        );
        assert_fits(&document, document.schema("Failure"), &answer, &what);
    }
}
