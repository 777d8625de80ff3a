//! Restores: what a backup holds, written to a target.

pub mod block;
pub mod clear;
mod fetch;
mod fill;
mod gather;
mod plan;
#[cfg(test)]
mod tests;
pub mod tree;

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RestoreReport {
    /// Bytes of the volume.
    pub bytes: u64,
    /// Bytes that were written; the rest was a hole, or right already.
    pub written_bytes: u64,
    /// Files, of a tree.
    pub files: u64,
}

impl From<tree::TreeReport> for RestoreReport {
    fn from(report: tree::TreeReport) -> Self {
        Self {
            bytes: report.bytes,
            written_bytes: report.written_bytes,
            files: report.files,
        }
    }
}
