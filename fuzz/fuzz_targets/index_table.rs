//! A file of the index' cache on disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::index_table(data));
