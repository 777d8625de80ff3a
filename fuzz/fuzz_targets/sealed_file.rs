//! An index, snapshot or lock: opened, and decompressed within its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::sealed_file(data));
