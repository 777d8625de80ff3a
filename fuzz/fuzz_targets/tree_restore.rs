//! A made-up repository with a tree, restored as root would into a scratch directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| windlass::engine::fuzzing::tree_restore(data));
