//! A block of Convoy's, in gzip.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::convoy_block(data));
