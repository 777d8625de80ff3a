//! windlass: persistent volumes for Docker that cannot be lost and come back anywhere.
//!
//! The map of the rooms; each knows only those that stand after its arrow (a test holds the `use crate::` lines to it):
//!
//! - `cli → client → api::types → model`
//! - `daemon → config, api, service, driver, state`
//! - `api → service → driver, state`, `driver → sys`, `state → model`

pub mod api;
pub mod cli;
pub mod client;
pub mod driver;
pub mod model;
pub mod sys;
