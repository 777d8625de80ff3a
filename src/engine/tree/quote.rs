//! Names of any bytes as text: Go's `strconv.Quote` without the quotes, which restic puts names through.
//!
//! What is printable stays as it is; the rest becomes escapes, bytes that are no UTF-8 as `\xNN`. Unquoting takes every
//! escape that Go takes.

/// The name as restic writes it, before JSON's own escapes.
pub(super) fn quote(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        for c in part.valid().chars() {
            push_quoted(&mut text, c);
        }
        for byte in part.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn push_quoted(text: &mut String, c: char) {
    match c {
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0c' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x0b' => text.push_str("\\v"),
        '"' | '\\' => text.extend(['\\', c]),
        ' '..='~' => text.push(c),
        '\0'..='\x7f' => text.push_str(&format!("\\x{:02x}", u32::from(c))),
        _ if is_printable(c) => text.push(c),
        '\u{80}'..='\u{ffff}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
        _ => text.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// Letters, marks, numbers, punctuation and symbols, as Go's `strconv.IsPrint` has them.
///
/// Rust escapes just the other categories when it debugs a string, after a first character that may be a mark's base.
fn is_printable(c: char) -> bool {
    let mut bytes = [b'a', 0, 0, 0, 0];
    c.encode_utf8(&mut bytes[1..]);
    let text = std::str::from_utf8(&bytes[..1 + c.len_utf8()]).expect("two characters");
    text.escape_debug().nth(1) != Some('\\')
}

/// The bytes of a quoted name; None where Go would find no sense in it.
pub(super) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        name.extend_from_slice(&rest.as_bytes()[..at]);
        rest = unescape(&mut name, rest[at..].strip_prefix('\\')?)?;
    }
    name.extend_from_slice(rest.as_bytes());
    Some(name)
}

/// Takes the escape that `text` begins with, after its backslash; what follows it.
fn unescape<'a>(name: &mut Vec<u8>, text: &'a str) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let digits = |from: &'a str, count, radix| {
        let digits = from.get(..count)?;
        let all = digits.bytes().all(|digit| char::from(digit).is_digit(radix));
        let value = all.then(|| u32::from_str_radix(digits, radix).ok())??;
        Some((value, &from[count..]))
    };
    let (byte, rest) = match kind {
        'a' => (0x07, rest),
        'b' => (0x08, rest),
        'f' => (0x0c, rest),
        'n' => (b'\n', rest),
        'r' => (b'\r', rest),
        't' => (b'\t', rest),
        'v' => (0x0b, rest),
        '\\' | '"' => (kind as u8, rest),
        'x' => {
            let (value, rest) = digits(rest, 2, 16)?;
            (value as u8, rest)
        }
        '0'..='7' => {
            let (value, rest) = digits(text, 3, 8)?;
            (u8::try_from(value).ok()?, rest)
        }
        'u' | 'U' => {
            let (value, rest) = digits(rest, if kind == 'u' { 4 } else { 8 }, 16)?;
            name.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    name.push(byte);
    Some(rest)
}
