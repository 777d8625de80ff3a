//! Ids of everything in a repository: the SHA-256 of what it names.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// 32 bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 32]);

impl Id {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The id that is written in these digits, and nothing else than 64 of them.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut id = [0; 32];
        // What is no digit has high bits, which are looked at once: an image's segment has a thousand ids.
        let mut bad = 0;
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            *byte = high << 4 | low;
            bad |= high | low;
        }
        (bad < 16).then_some(Self(id))
    }

    /// The first eight digits, as people and restic use them.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }

    /// Whether the written id begins with these digits.
    pub fn starts_with(&self, digits: &str) -> bool {
        self.to_string().starts_with(digits)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What a byte stands for as a digit; 255 where it is none.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

/// Takes the digits where they stand: a string of its own for each id would cost more than reading it.
struct Digits;

impl Visitor<'_> for Digits {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id of 64 lower-case hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
        Id::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sha_256_and_are_written_both_ways() {
        let id = Id::of(b"abc");
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(id.to_string(), digits);
        assert_eq!(Id::parse(digits), Some(id));
        assert_eq!(
            serde_json::to_string(&id).expect("it can be written"),
            format!("\"{digits}\"")
        );
        for bad in [
            "",
            "ba78",
            &digits.to_uppercase(),
            &format!("{digits}0"),
            &digits.replace('b', "g"),
            &digits.replacen('b', "\u{7f}", 1),
            &digits.replacen("ba", "é", 1),
        ] {
            assert_eq!(Id::parse(bad), None, "{bad}");
            let json = serde_json::to_string(bad).expect("text");
            assert!(serde_json::from_str::<Id>(&json).is_err(), "{bad}");
        }
        // Escaped digits are digits, and no borrowed text.
        let escaped = format!("\"\\u0062{}\"", &digits[1..]);
        assert_eq!(serde_json::from_str::<Id>(&escaped).ok(), Some(id));
    }
}
