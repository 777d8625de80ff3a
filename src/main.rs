//! The windlass binary: parse, call, print the error, exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use windlass::cli::{self, Cli};

/// Every allocation goes through mimalloc: musl's own allocator is slow under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is gone too, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "windlass: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
