//! Exit codes: the one table from kinds of failure to what scripts test for.

use crate::api::types::Kind;

/// The exit code of wrong arguments, which clap uses as well.
pub(super) const USAGE: u8 = 2;

/// The exit code of a command that was interrupted: 128 and the number of SIGINT, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// The table as `--help` shows it. A macro, since clap's texts are joined at compile time.
macro_rules! table {
    () => {
        concat!(
            "Exit codes:\n",
            "  0  done\n",
            "  1  any other failure: the daemon's, the kernel's, the output's\n",
            "  2  wrong arguments\n",
            "  3  NotFound: no such volume, snapshot, driver, repository or backup\n",
            "  4  AlreadyExists: the name is taken\n",
            "  5  Busy: in use, or another operation is under way\n",
            "  6  Invalid: not with these values\n",
            "  7  Unsupported: it cannot be done here\n",
            "  8  Corrupt: a record, data or a repository is damaged\n",
            "  9  Unavailable: the daemon or the storage is not there\n",
            "130  interrupted"
        )
    };
}
pub(super) use table;

/// The exit code for a failure of this kind.
pub fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Internal => 1,
        Kind::NotFound => 3,
        Kind::AlreadyExists => 4,
        Kind::Busy => 5,
        Kind::Invalid => 6,
        Kind::Unsupported => 7,
        Kind::Corrupt => 8,
        Kind::Unavailable => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_says_what_the_table_does() {
        for kind in [
            Kind::NotFound,
            Kind::AlreadyExists,
            Kind::Busy,
            Kind::Invalid,
            Kind::Unsupported,
            Kind::Corrupt,
            Kind::Unavailable,
        ] {
            let line = format!("\n  {}  {kind:?}: ", exit_code(kind));
            assert!(table!().contains(&line), "{line}");
        }
        assert_eq!(exit_code(Kind::Internal), 1);
    }
}
