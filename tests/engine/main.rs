//! The plugin in a real Docker engine: what users do with it, what engines do to it, and what a crash of either leaves.
//!
//! Each test makes a plugin of its own, under its own name and with its own state directory, from the root filesystem
//! that `WINDLASS_TEST_PLUGIN_ROOTFS` names, and takes it away again whatever happens. `make test` builds what they need.
//! Where that or an engine is missing, each says `SKIPPED: <why>`; with `CI=true` that is a failure.

mod docker;
mod life;
mod own_engine;
mod plugin;
mod restart;
mod service;
mod state;
mod survival;
mod thin;
mod tour;

#[path = "../s3/mod.rs"]
mod s3;

/// Ends a test that cannot run here. Where `CI` says that everything must run, it fails.
macro_rules! skip_unless {
    ($found:expr) => {
        match $found {
            Ok(found) => found,
            Err(why) => {
                let why: String = why;
                assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run: {why}");
                println!("SKIPPED: {why}");
                return;
            }
        }
    };
}
pub(crate) use skip_unless;
