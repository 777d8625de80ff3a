//! A test that needs credentials of its own, or none, runs itself again in a child with that environment: a process' own
//! cannot be changed safely while threads run.

use std::process::Command;

use super::{ACCESS_KEY, SECRET_KEY, Server};

/// Variables that lead to credentials or to another server.
pub const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// Set in the child: what its parent tells it.
pub const CHILD: &str = "WINDLASS_TEST_S3_CHILD";

/// Runs the test of this name in a child with these variables, unless this is the child: then what it was told.
pub fn in_child(test: &str, told: &str, variables: &[(&str, &str)]) -> Option<String> {
    if let Ok(told) = std::env::var(CHILD) {
        return Some(told);
    }
    let mut child = Command::new(std::env::current_exe().expect("this test's program"));
    child.args(["--exact", test, "--nocapture"]);
    for name in VARIABLES {
        child.env_remove(name);
    }
    let home = tempfile::tempdir().expect("a scratch directory");
    child.env("HOME", home.path()).env(CHILD, told);
    let output = child
        .envs(variables.iter().copied())
        .output()
        .expect("the child runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "the child ran no test: {said}");
    None
}

/// The same, where the parent tells the address of the server, which has this bucket. None also where there is no server.
pub fn with_server(
    test: &str,
    bucket: &str,
    variables: &[(&str, &str)],
    address: impl Fn(&Server) -> &str,
) -> Option<String> {
    if let Ok(told) = std::env::var(CHILD) {
        return Some(told);
    }
    let server = Server::get()?;
    server.make_bucket(bucket);
    in_child(test, address(server), variables)
}

/// Those that the server accepts.
pub const KEYS: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
];
