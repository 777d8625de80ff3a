//! A made-up repository with an image, read at random and restored into memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::image(data));
