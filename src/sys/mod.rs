//! The kernel, as the rest of the house sees it: mounts, quotas, clones of trees, durable writes, locks, commands.
//!
//! This room holds all the unsafe code of the project and depends on no other room. Its functions are synchronous and
//! may block for as long as a disk does: asynchronous callers run them on blocking threads. It decides nothing about
//! volumes; it does what it is told, safely against a power cut and against a container that changes a tree meanwhile.

pub mod boot;
pub mod btrfs;
pub mod detached;
pub mod devices;
pub mod direct;
pub mod durable;
pub mod error;
pub mod exec;
pub mod fault;
pub mod filesystem;
pub mod holders;
pub mod lock;
pub mod loops;
pub mod memory;
pub mod mount;
pub mod mount_points;
pub mod mountinfo;
pub mod poll;
pub mod priority;
pub mod quota;
pub mod reflink;
pub mod socket;
pub mod sparse;
pub mod tree;

mod handle;
mod ioctl;
#[cfg(test)]
pub(crate) mod testing;

pub use error::SysError;
