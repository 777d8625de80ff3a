//! An archive of Convoy's: tar, in gzip or bare.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::convoy_archive(data));
