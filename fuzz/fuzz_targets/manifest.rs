//! `windlass.json`, and how an image with it would be cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::manifest(data));
