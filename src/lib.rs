//! windlass: persistent volumes for Docker that cannot be lost and come back anywhere.
//!
//! The map of the rooms. Each knows only those after its arrow (`tests/house.rs` holds the `use crate::` lines to it):
//!
//! - `cli → client → api::types → model`; `cli::daemon → config, daemon`, `cli::error → daemon`,
//!   `cli::repo → engine, store`
//! - `daemon → config, api, scheduler, service, driver, state, sys`
//! - `scheduler → service`, and `service → scheduler::due` (what is due is asked in answers too)
//! - `api → service, driver, state`; `service → driver, engine, store, state, sys`
//! - `engine → store, sys`; `store → sys`
//! - `driver → sys`, `state → driver` (the operations that it records), and everybody may use `model`

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod driver;
pub mod engine;
pub mod model;
pub mod notify;
pub mod scheduler;
pub mod service;
pub mod state;
pub mod store;
pub mod sys;
