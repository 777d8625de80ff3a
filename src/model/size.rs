//! Sizes in bytes, as people write them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::InvalidValue;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads plain bytes or a number with K, M, G, T or P (powers of 1024, a trailing `B` or `iB` allowed): `100G`, `512m`, `4096`.
    ///
    /// # Errors
    /// [`InvalidValue::Value`], naming `option`, for anything else, for zero, and for what exceeds 2^63−1.
    pub fn parse(option: &str, text: &str) -> Result<Self, InvalidValue> {
        let refuse = || InvalidValue::Value {
            option: option.to_owned(),
            value: text.to_owned(),
            expected: "a size such as 512M, 20G or 1073741824 (bytes, or K/M/G/T with powers of 1024)"
                .to_owned(),
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| refuse())?;
        let unit = &text[digits..];
        // As it is shown: `20 MiB`.
        let unit = unit
            .strip_prefix(' ')
            .filter(|unit| unit.ends_with("iB"))
            .unwrap_or(unit);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(refuse()),
        };
        match number.checked_mul(1 << shift) {
            Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => Ok(Self(bytes)),
            _ => Err(refuse()),
        }
    }
}

/// Powers of 1024 with at most one decimal: `1.5 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let text = if unit == 0 || (value * 10.0).round() % 10.0 == 0.0 {
            format!("{value:.0} {}", UNITS[unit])
        } else {
            format!("{value:.1} {}", UNITS[unit])
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1k", 1024),
            ("10M", 10 << 20),
            ("100G", 100 << 30),
            ("2TiB", 2 << 40),
            ("20 MiB", 20 << 20),
        ] {
            assert_eq!(Bytes::parse("size", text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_by_name() {
        for bad in [
            "",
            "G",
            "0",
            "-1",
            "1.5G",
            "10X",
            "99999999999P",
            "18446744073709551616",
            "1 G",
        ] {
            let said = Bytes::parse("size", bad).expect_err(bad).to_string();
            assert!(said.starts_with("option size"), "{said}");
        }
    }

    #[test]
    fn shows_them_shortly() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1 GiB"),
            ((1 << 20) - 1, "1 MiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }
}
