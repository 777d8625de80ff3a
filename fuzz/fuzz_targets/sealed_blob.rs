//! A blob: opened, and decompressed to exactly the length that it is said to have.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::sealed_blob(data));
