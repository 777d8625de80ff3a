//! The list of blobs at a pack's end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::pack_header(data));
