//! Every decoder on any bytes and on damaged ones, and that `fuzz/` has a target for each.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::{DECODERS, Decoder};

/// A slow machine under load takes tenths of a second for what takes a millisecond elsewhere.
const LONGEST: Duration = Duration::from_secs(20);

/// What is put into bytes: edges of numbers, and what means something in JSON, in tar and in URLs.
const TOKENS: &[&[u8]] = &[
    b"",
    b"0",
    b"-1",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967295",
    b"1e400",
    b"0.1",
    b"null",
    b"[]",
    b"{}",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"../",
    b"/",
    b"%2f",
    b"&volume=..",
    b"9999-12-31T23:59:59.999999999-23:59",
    b"-009999-01-01T00:00:00Z",
    &[0; 8],
    &[0xff; 8],
    &[0, 0, 0, 0x80],
    b"\x7f",
    b"\n",
];

/// One change.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u32),
    Remove(Index, usize),
    Double(Index, usize),
    Insert(Index, &'static [u8]),
    /// In the place of the digits that come next.
    Number(Index, &'static [u8]),
    CutOff(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let tokens = || prop::sample::select(TOKENS);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        (any::<Index>(), 0..8_u32).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<Index>(), 1..64_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), 1..600_usize).prop_map(|(at, length)| Damage::Double(at, length)),
        (any::<Index>(), tokens()).prop_map(|(at, token)| Damage::Insert(at, token)),
        (any::<Index>(), tokens()).prop_map(|(at, token)| Damage::Number(at, token)),
        any::<Index>().prop_map(Damage::CutOff),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let end = |at: usize, length: usize| (at + length).min(bytes.len());
    match damage {
        Damage::Set(at, value) => *at.get_mut(bytes) = *value,
        Damage::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
        Damage::Remove(at, length) => {
            let at = at.index(bytes.len());
            bytes.drain(at..end(at, *length));
        }
        Damage::Double(at, length) => {
            let at = at.index(bytes.len());
            let part = bytes[at..end(at, *length)].to_vec();
            bytes.splice(at..at, part);
        }
        Damage::Insert(at, token) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, token.iter().copied());
        }
        Damage::Number(at, token) => {
            let at = at.index(bytes.len());
            let first = bytes[at..].iter().position(u8::is_ascii_digit);
            if let Some(first) = first.map(|first| at + first) {
                let digits = bytes[first..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                bytes.splice(first..first + digits, token.iter().copied());
            }
        }
        Damage::CutOff(at) => bytes.truncate(at.index(bytes.len())),
    }
}

fn run(decoder: &Decoder, bytes: &[u8]) {
    let begin = Instant::now();
    (decoder.run)(bytes);
    assert!(
        begin.elapsed() < LONGEST,
        "{}: {:?}",
        decoder.name,
        begin.elapsed()
    );
}

/// So many cases of a strategy's values; where one fails, the smallest that does.
fn all<S: Strategy>(decoder: &Decoder, cases: u32, strategy: &S, bytes: impl Fn(&S::Value) -> Vec<u8>) {
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(strategy, |value| {
        run(decoder, &bytes(&value));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{}: {error}", decoder.name);
    }
}

/// The test of one decoder, so that they run side by side and a failure names it.
fn try_out(name: &str) {
    let decoder = DECODERS.iter().find(|decoder| decoder.name == name);
    let decoder = decoder.expect("there is one");
    let examples = (decoder.examples)();
    for example in &examples {
        run(decoder, example);
    }
    let any_bytes = prop::collection::vec(any::<u8>(), 0..700);
    all(decoder, 60, &any_bytes, Vec::clone);
    let damaged = (0..examples.len(), prop::collection::vec(damage(), 1..6));
    all(decoder, 200, &damaged, |(number, changes)| {
        let mut bytes = examples[*number].clone();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        bytes
    });
}

macro_rules! decoders {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            try_out(stringify!($name));
        })*

        #[test]
        fn every_decoder_is_tried_out() {
            let names: Vec<&str> = DECODERS.iter().map(|decoder| decoder.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

decoders! {
    pack_header index_file index_table sealed_blob sealed_file snapshot manifest config key_file lock_file tree
    tree_restore image backup_url destination convoy_records convoy_block convoy_archive
}

#[test]
fn every_decoder_has_a_fuzz_target() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("fuzz/ is a package");
    for Decoder { name, .. } in DECODERS {
        let path = format!("fuzz_targets/{name}.rs");
        let target = std::fs::read_to_string(fuzz.join(&path)).expect("it has a file");
        assert!(target.contains(&format!("fuzzing::{name}(data)")), "{path}");
        assert!(
            manifest.contains(&format!("path = \"{path}\"")),
            "fuzz/Cargo.toml has no {path}"
        );
    }
    let files = std::fs::read_dir(fuzz.join("fuzz_targets")).expect("it is there");
    assert_eq!(files.count(), DECODERS.len(), "and no other");
}
