//! What a pool says of itself, and what may be done to it then.

use super::super::{DriverError, Result, Warning};
use super::NAME;

/// How much of the metadata is kept whatever the options say, in percent: a pool that has no more of them fails for every volume, and
/// its metadata must be repaired (thin-provisioning.rst).
const METADATA_RESERVE: u64 = 5;

/// A pool's status line (Documentation/admin-guide/device-mapper/thin-provisioning.rst), in types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) transaction: u64,
    /// Of 4 KiB each.
    pub(super) metadata: Blocks,
    /// Of the pool's own block size each.
    pub(super) data: Blocks,
    /// A metadata snapshot is held.
    pub(super) holds_metadata: bool,
    pub(super) mode: Mode,
    pub(super) needs_check: bool,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) used: u64,
    pub(super) total: u64,
}

impl Blocks {
    /// How much is used, in percent, rounded up.
    pub(super) fn percent(self) -> u64 {
        match self.total {
            0 => 100,
            total => (u128::from(self.used) * 100).div_ceil(u128::from(total)) as u64,
        }
    }
}

/// What the kernel still does with a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everything.
    ReadWrite,
    /// Everything but writes that need a new block.
    OutOfData,
    /// Nothing that changes the metadata.
    ReadOnly,
    /// Nothing at all.
    Failed,
}

impl Mode {
    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::OutOfData => "out of data space",
            Self::ReadOnly => "read-only",
            Self::Failed => "failed",
        }
    }
}

impl Status {
    /// Reads the line; `None` where it is none.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        if first == "Fail" || first == "Error" {
            return Some(Self {
                transaction: 0,
                metadata: Blocks { used: 0, total: 0 },
                data: Blocks { used: 0, total: 0 },
                holds_metadata: false,
                mode: Mode::Failed,
                needs_check: true,
            });
        }
        let transaction = first.parse().ok()?;
        let metadata = blocks(words.next()?)?;
        let data = blocks(words.next()?)?;
        let holds_metadata = words.next()? != "-";
        let rest: Vec<&str> = words.collect();
        let mode = match *rest.first()? {
            "rw" => Mode::ReadWrite,
            "ro" => Mode::ReadOnly,
            "out_of_data_space" => Mode::OutOfData,
            _ => return None,
        };
        Some(Self {
            transaction,
            metadata,
            data,
            holds_metadata,
            mode,
            needs_check: rest.contains(&"needs_check"),
        })
    }

    /// Refuses changes where the pool cannot make them, with what to do.
    pub(super) fn check_writable(&self, pool: &str) -> Result<()> {
        let why = match self.mode {
            Mode::ReadWrite | Mode::OutOfData => return Ok(()),
            Mode::ReadOnly if self.needs_check => format!(
                "the pool {pool} is read-only since its metadata need a check; what is in it can be read: end what uses its \
                 volumes, and start the daemon again, which has them checked (docs/devicemapper.md)"
            ),
            Mode::ReadOnly => format!(
                "the pool {pool} is read-only; what is in it can be read; the kernel's log says why, and docs/devicemapper.md what to \
                 do"
            ),
            Mode::Failed => format!(
                "the pool {pool} has failed, and the kernel does nothing with it; its log says why. Repair the metadata with \
                 thin_repair, as docs/devicemapper.md says"
            ),
        };
        Err(DriverError::Unavailable { driver: NAME, why })
    }

    /// What a person should know. `thresholds` are in percent, rising.
    pub(super) fn warnings(&self, pool: &str, thresholds: &[u64]) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Err(error) = self.check_writable(pool) {
            warnings.push(Warning {
                key: format!("mode-{}", self.mode.word()),
                text: error.to_string(),
            });
        }
        for (part, blocks, remedy) in [
            (
                "data",
                self.data,
                "extend the data device, remove snapshots or volumes, or run 'windlass trim'",
            ),
            (
                "metadata",
                self.metadata,
                "extend the metadata device, or remove snapshots",
            ),
        ] {
            let percent = blocks.percent();
            let passed = thresholds.iter().rev().find(|threshold| percent >= **threshold);
            if let (Some(threshold), true) = (passed, self.mode != Mode::Failed) {
                warnings.push(Warning {
                    key: format!("{part}-{threshold}"),
                    text: format!(
                        "the {part} space of the pool {pool} is used to {percent} percent; {remedy}"
                    ),
                });
            }
        }
        warnings
    }

    /// Refuses what would take the room that volumes need that are there already. `reserve` is in percent; of the metadata, at least
    /// [`METADATA_RESERVE`] are kept.
    pub(super) fn check_room(&self, pool: &str, reserve: u64, what: &str) -> Result<()> {
        let full = |part: &str, blocks: Blocks, reserve: u64, remedy: &str| DriverError::Unsupported {
            what: what.to_owned(),
            because: format!(
                "{part} of the pool {pool} {} used to {} percent, and {reserve} percent are kept for what is there already; \
                 {remedy}, remove snapshots or volumes, or run 'windlass trim'",
                if part == "metadata" { "are" } else { "is" },
                blocks.percent(),
            ),
        };
        if self.data.percent() > 100 - reserve || self.mode == Mode::OutOfData {
            let remedy = "extend the data device";
            return Err(full("the data space", self.data, reserve, remedy));
        }
        let reserve = reserve.max(METADATA_RESERVE);
        if self.metadata.percent() > 100 - reserve {
            let remedy = "extend the metadata device";
            return Err(full("the metadata space", self.metadata, reserve, remedy));
        }
        Ok(())
    }
}

fn blocks(text: &str) -> Option<Blocks> {
    let (used, total) = text.split_once('/')?;
    Some(Blocks {
        used: used.parse().ok()?,
        total: total.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "17 829/8192 15564/16384 - rw discard_passdown error_if_no_space - 1024";

    #[test]
    fn reads_what_kernels_write() {
        let status = Status::parse(LINE).expect("a status");
        let expected = Status {
            transaction: 17,
            metadata: Blocks {
                used: 829,
                total: 8192,
            },
            data: Blocks {
                used: 15_564,
                total: 16_384,
            },
            holds_metadata: false,
            mode: Mode::ReadWrite,
            needs_check: false,
        };
        assert_eq!(status, expected);
        assert_eq!((status.metadata.percent(), status.data.percent()), (11, 95));
        let held = "0 12/1024 0/100 42 ro no_discard_passdown queue_if_no_space needs_check 1024";
        let held = Status::parse(held).expect("a status");
        assert!(held.holds_metadata && held.needs_check && held.mode == Mode::ReadOnly);
        // Kernels before 4.20 end without the last words.
        assert!(Status::parse("1 1/2 3/4 - out_of_data_space discard_passdown error_if_no_space").is_some());
        assert_eq!(Status::parse("Fail").expect("a status").mode, Mode::Failed);
        for nonsense in ["", "x", "1 2 3", "1 1/2 3/4", "1 1/2 3/4 - up"] {
            assert_eq!(Status::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_threshold_is_one_warning_until_the_next() {
        let mut status = Status::parse(LINE).expect("a status");
        let mut keys = |used: u64, mode| {
            (status.data, status.mode) = (Blocks { used, total: 1_000 }, mode);
            let warnings = status.warnings("p", &[80, 90, 95]);
            warnings
                .into_iter()
                .map(|warning| warning.key)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(790, Mode::ReadWrite), [""; 0]);
        assert_eq!(keys(800, Mode::ReadWrite), ["data-80"]);
        assert_eq!(keys(890, Mode::ReadWrite), ["data-80"]);
        assert_eq!(keys(1_000, Mode::OutOfData), ["data-95"]);
        assert_eq!(keys(10, Mode::ReadOnly), ["mode-read-only"]);
        assert_eq!(keys(1_000, Mode::Failed), ["mode-failed"]);
    }

    #[test]
    fn what_a_pool_cannot_do_is_refused_with_what_to_do() {
        let mut status = Status::parse(LINE).expect("a status");
        status.check_writable("p").expect("it can be written to");
        status.check_room("p", 5, "a new volume").expect("room");
        let full = status
            .check_room("p", 6, "snapshot v@s")
            .expect_err("no room")
            .to_string();
        assert!(
            full.contains("snapshot v@s") && full.contains("95 percent") && full.contains("windlass trim"),
            "{full}"
        );
        status.data.used = 0;
        status.metadata.used = 8_000;
        let full = status
            .check_room("p", 5, "a new volume")
            .expect_err("no room")
            .to_string();
        assert!(full.contains("metadata space"), "{full}");
        // Of the data, all may be given away; of the metadata never.
        status.data.used = status.data.total;
        let full = status
            .check_room("p", 0, "a new volume")
            .expect_err("no room")
            .to_string();
        assert!(
            full.contains("metadata space") && full.contains("5 percent are kept"),
            "{full}"
        );
        for (mode, needs_check, remedy) in [
            (Mode::ReadOnly, false, "kernel's log"),
            (Mode::ReadOnly, true, "start the daemon again"),
            (Mode::Failed, true, "thin_repair"),
        ] {
            (status.mode, status.needs_check) = (mode, needs_check);
            let said = status.check_writable("p").expect_err("refused").to_string();
            assert!(said.contains(remedy) && said.contains('p'), "{said}");
        }
    }
}
