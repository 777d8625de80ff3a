//! Extended headers of POSIX' pax format: what does not fit into a tar header, as `length key=value` records.
//!
//! (Source: POSIX.1-2017, pax; for `SCHILY.xattr` and `GNU.sparse` the manual of GNU tar.)

/// What extended headers say of the entry that follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<(i64, u32)>,
    pub(super) accessed: Option<(i64, u32)>,
    /// Extended attributes, in order; a later one of the same name counts.
    pub(super) extended: Vec<(Vec<u8>, Vec<u8>)>,
    /// GNU's format for sparse files: major and minor version, the real name and size.
    pub(super) sparse_major: Option<u64>,
    pub(super) sparse_minor: Option<u64>,
    pub(super) sparse_name: Option<Vec<u8>>,
    pub(super) sparse_size: Option<u64>,
    /// A key whose meaning must not be passed over, and is not known.
    pub(super) foreign: Option<String>,
}

impl Pax {
    /// Adds the records of one extended header. Unknown keys are passed over, as POSIX wants it, except for those that
    /// would change what the file holds or who may read it.
    pub(super) fn apply(&mut self, mut records: &[u8]) -> Result<(), String> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or("an extended header is malformed")?;
            self.set(key, value)
                .map_err(|()| format!("the extended header's {} is invalid", key.escape_ascii()))?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ()> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link_path = name(value)?,
            b"size" => self.size = unsigned(value)?,
            b"uid" => self.uid = unsigned(value)?,
            b"gid" => self.gid = unsigned(value)?,
            b"mtime" => self.modified = time(value)?,
            b"atime" => self.accessed = time(value)?,
            b"GNU.sparse.major" => self.sparse_major = unsigned(value)?,
            b"GNU.sparse.minor" => self.sparse_minor = unsigned(value)?,
            b"GNU.sparse.name" => self.sparse_name = name(value)?,
            b"GNU.sparse.realsize" => self.sparse_size = unsigned(value)?,
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    let attribute = attribute_name(attribute).ok_or(())?;
                    self.extended.push((attribute, value.to_owned()));
                } else if key.starts_with(b"SCHILY.acl.") || key.starts_with(b"GNU.sparse.") {
                    self.foreign = Some(key.escape_ascii().to_string());
                }
            }
        }
        Ok(())
    }
}

/// The first record's key and value, and what follows it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(digits(&records[..blank])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let content = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|byte| *byte == b'=')?;
    Some((&content[..equals], &content[equals + 1..], rest))
}

/// An empty value takes back what a global header said.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    if value.contains(&0) {
        return Err(());
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

fn unsigned(value: &[u8]) -> Result<Option<u64>, ()> {
    if value.is_empty() {
        return Ok(None);
    }
    digits(value).map(Some).ok_or(())
}

/// Seconds since 1970 with a fraction, perhaps before it; more than nine digits of the fraction are cut off.
fn time(value: &[u8]) -> Result<Option<(i64, u32)>, ()> {
    if value.is_empty() {
        return Ok(None);
    }
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let point = value.iter().position(|byte| *byte == b'.').unwrap_or(value.len());
    let secs = digits(&value[..point])
        .and_then(|secs| i64::try_from(secs).ok())
        .ok_or(())?;
    let fraction = value.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    let nanos = (0..9).fold(0, |nanos, place| {
        nanos * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'))
    });
    Ok(Some(match (negative, nanos) {
        (false, _) => (secs, nanos),
        (true, 0) => (-secs, 0),
        (true, _) => (-secs - 1, 1_000_000_000 - nanos),
    }))
}

/// A decimal number of digits alone.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// GNU tar writes `%3D` for `=` and `%25` for `%`, since a key ends at the first `=`.
fn attribute_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%3D") => (b'=', &rest[3..]),
            Some(b"%25") => (b'%', &rest[3..]),
            _ => (*first, after),
        };
        plain.push(byte);
        rest = after;
    }
    // 255 is the longest that Linux takes.
    (!plain.is_empty() && plain.len() <= 255 && !plain.contains(&0)).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(records: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        pax.apply(records).map(|()| pax)
    }

    #[test]
    fn records_are_counted_and_values_may_hold_anything() {
        let pax = parse(b"12 path=a\nb\n34 SCHILY.xattr.user.a%3Db%25=\0\n=\n12 unknown=\n").expect("valid");
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(pax.extended, [(b"user.a=b%".to_vec(), b"\0\n=".to_vec())]);
    }

    #[test]
    fn times_before_1970_and_fractions() {
        assert_eq!(time(b"12.5"), Ok(Some((12, 500_000_000))));
        assert_eq!(time(b"12.1234567899"), Ok(Some((12, 123_456_789))));
        assert_eq!(time(b"-0.25"), Ok(Some((-1, 750_000_000))));
        assert_eq!(time(b"-3"), Ok(Some((-3, 0))));
        for bad in [&b"-"[..], b".", b"1.x", b"1e3", b"99999999999999999999", b"+1"] {
            assert_eq!(time(bad), Err(()), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"path=a\n"[..],
            b"9 path=a",
            b"99 path=a\n",
            b"0 path=a\n",
            b" ",
            b"3 \n",
            b"7 path\n",
            b"11 size=-1\n",
            b"12 path=a\0b\n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn an_empty_value_takes_back_what_was_said() {
        assert_eq!(parse(b"10 path=a\n8 path=\n").expect("valid").path, None);
    }

    proptest! {
        #[test]
        fn nothing_panics(records in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&records);
        }
    }
}
