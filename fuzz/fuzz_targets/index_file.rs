//! An index file, and the table that is made of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::index_file(data));
