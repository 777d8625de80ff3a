//! The two HTTP faces of the daemon: Docker's protocol and the admin API.

pub mod types;
