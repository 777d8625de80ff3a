//! What volumes' policies ask for, done in time: [`due`] says what, [`runner`] has it done.

pub mod due;
pub mod runner;
