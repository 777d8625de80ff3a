//! Convoy's volume.cfg and the record of a backup.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::convoy_records(data));
