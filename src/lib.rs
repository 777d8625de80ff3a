//! windlass: persistent volumes for Docker that cannot be lost and come back anywhere.

pub mod sys;
