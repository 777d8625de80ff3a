//! The URL of a backup.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::backup_url(data));
