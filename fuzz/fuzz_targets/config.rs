//! A repository's config, and the chunker that its polynomial makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::config(data));
