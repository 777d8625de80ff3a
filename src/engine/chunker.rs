//! Where files are cut: content-defined chunks, at the same places where restic cuts them.
//!
//! A Rabin fingerprint over the last 64 bytes rolls through the data; where its lowest 20 bits are zero, a chunk ends, though
//! not before 512 KiB and at 8 MiB at the latest. The fingerprint is a remainder modulo the repository's own irreducible
//! polynomial of degree 53 over GF(2), so that sizes of chunks tell a stranger nothing. The constants and the order of steps
//! are facts of the chunker that restic's design document names.

use super::{EngineError, Result};

/// No chunk but a file's last is smaller.
pub const MIN_BYTES: usize = 512 << 10;
/// No chunk is larger.
pub const MAX_BYTES: usize = 8 << 20;
/// The bytes that a fingerprint is of.
const WINDOW_BYTES: usize = 64;
/// Chunks of 1 MiB, beyond the smallest, on the average.
const CUT_MASK: u64 = (1 << 20) - 1;
/// The degree of all polynomials that restic makes.
const DEGREE: u32 = 53;

/// A repository's polynomial, ready for use: tables that take in and drop a byte each in one step.
pub struct Chunker {
    /// What a byte adds to the fingerprint when it is about to leave the window.
    out: [u64; 256],
    /// What the eight bits above the degree are replaced by, themselves included.
    reduce: [u64; 256],
}

/// How far a chunk has been looked through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    at: usize,
    digest: u64,
}

impl Chunker {
    /// # Errors
    /// [`EngineError::Invalid`] where the polynomial is not one for a repository.
    pub fn new(polynomial: u64) -> Result<Self> {
        if degree(polynomial) != Some(DEGREE) || !is_irreducible(polynomial) {
            return Err(EngineError::Invalid(format!(
                "the chunker's polynomial {polynomial:x} is not irreducible of degree {DEGREE}"
            )));
        }
        let mut chunker = Self {
            out: [0; 256],
            reduce: [0; 256],
        };
        for byte in 0..256 {
            let above = (byte as u64) << DEGREE;
            chunker.reduce[byte] = remainder(above, polynomial) | above;
        }
        for byte in 0..256 {
            let zeros = [0; WINDOW_BYTES - 1];
            chunker.out[byte] = zeros
                .iter()
                .fold(byte as u64, |digest, zero| chunker.take_in(digest, *zero));
        }
        Ok(chunker)
    }

    /// Where the chunk ends whose bytes so far are `chunk`; None if more are needed to tell, or all of the file is there.
    ///
    /// The cursor belongs to the chunk, and is new for each; the bytes only ever become more.
    pub fn cut(&self, cursor: &mut Cursor, chunk: &[u8]) -> Option<usize> {
        if chunk.len() < MIN_BYTES {
            return None;
        }
        if cursor.at == 0 {
            let window = &chunk[MIN_BYTES - WINDOW_BYTES..MIN_BYTES];
            cursor.digest = window.iter().fold(0, |digest, byte| self.take_in(digest, *byte));
            cursor.at = MIN_BYTES;
            if cursor.digest & CUT_MASK == 0 {
                return Some(cursor.at);
            }
        }
        let end = chunk.len().min(MAX_BYTES);
        let leaving = &chunk[cursor.at - WINDOW_BYTES..end - WINDOW_BYTES];
        let entering = &chunk[cursor.at..end];
        let mut digest = cursor.digest;
        for (n, (old, new)) in leaving.iter().zip(entering).enumerate() {
            digest = self.take_in(digest ^ self.out[usize::from(*old)], *new);
            if digest & CUT_MASK == 0 {
                return Some(cursor.at + n + 1);
            }
        }
        *cursor = Cursor { at: end, digest };
        (end == MAX_BYTES).then_some(MAX_BYTES)
    }

    fn take_in(&self, digest: u64, byte: u8) -> u64 {
        let above = (digest >> (DEGREE - 8)) as u8;
        (digest << 8 | u64::from(byte)) ^ self.reduce[usize::from(above)]
    }
}

/// A new repository's polynomial: irreducible, and random beyond that.
pub fn random_polynomial() -> u64 {
    // One in 27 of those with a constant term is irreducible.
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the kernel has random bytes");
        let candidate = u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return candidate;
        }
    }
}

/// Whether the polynomial, a bit for each coefficient, has no factor of a lower degree but 1 (Ben-Or's test).
///
/// x^(2^i) − x is the product of all irreducible polynomials whose degree divides i.
fn is_irreducible(polynomial: u64) -> bool {
    let Some(degree) = degree(polynomial).filter(|degree| *degree > 0) else {
        return false;
    };
    let x = remainder(2, polynomial);
    let mut power = x;
    (0..degree / 2).all(|_| {
        power = multiply(power, power, polynomial);
        greatest_common_divisor(polynomial, power ^ x) == 1
    })
}

fn degree(polynomial: u64) -> Option<u32> {
    polynomial.checked_ilog2()
}

fn remainder(mut dividend: u64, divisor: u64) -> u64 {
    let below = degree(divisor).expect("nobody divides by zero");
    while let Some(above) = degree(dividend).filter(|above| *above >= below) {
        dividend ^= divisor << (above - below);
    }
    dividend
}

/// The product of two remainders, modulo a polynomial of degree 62 at most.
fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    let top = degree(modulus).expect("nobody divides by zero");
    (0..=top).rev().fold(0, |product, bit| {
        let mut product = product << 1;
        if product >> top & 1 == 1 {
            product ^= modulus;
        }
        product ^ (a * (b >> bit & 1))
    })
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, remainder(a, b));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Irreducible; it stands in the examples of restic's chunker.
    const POLYNOMIAL: u64 = 0x003D_A335_8B4D_C173;

    /// Bytes that are always the same, by a linear congruential generator.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 23_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    /// The lengths of all chunks, when the bytes come in steps of this size.
    fn lengths(chunker: &Chunker, data: &[u8], step: usize) -> Vec<usize> {
        let (mut lengths, mut start) = (Vec::new(), 0);
        while start < data.len() {
            let mut cursor = Cursor::default();
            let mut end = start;
            let length = loop {
                if end == data.len() {
                    break end - start;
                }
                end = data.len().min(end + step);
                if let Some(length) = chunker.cut(&mut cursor, &data[start..end]) {
                    break length;
                }
            };
            lengths.push(length);
            start += length;
        }
        lengths
    }

    /// The definition: the remainder of the window's bytes, taken as one polynomial.
    fn fingerprint(window: &[u8]) -> u64 {
        window.iter().fold(0, |digest, byte| {
            remainder(digest << 8 | u64::from(*byte), POLYNOMIAL)
        })
    }

    #[test]
    fn cuts_are_where_the_definition_puts_them_however_the_bytes_come() {
        let chunker = Chunker::new(POLYNOMIAL).expect("irreducible");
        let data = noise(4 << 20);
        let found = lengths(&chunker, &data, 256 << 10);
        assert!(found.len() > 2, "{found:?}");
        assert_eq!(found.iter().sum::<usize>(), data.len());
        let mut start = 0;
        for length in &found[..found.len() - 1] {
            let cut = start + length;
            assert_eq!(fingerprint(&data[cut - WINDOW_BYTES..cut]) & CUT_MASK, 0);
            for at in (start + MIN_BYTES..cut).step_by(997) {
                assert_ne!(
                    fingerprint(&data[at - WINDOW_BYTES..at]) & CUT_MASK,
                    0,
                    "cut late"
                );
            }
            start = cut;
        }
        for step in [1 << 20, 8 << 20, 100_001] {
            assert_eq!(lengths(&chunker, &data, step), found, "{step}");
        }
    }

    #[test]
    fn zeros_are_cut_as_soon_as_may_be_and_a_single_bit_pattern_as_late() {
        let chunker = Chunker::new(POLYNOMIAL).expect("irreducible");
        assert_eq!(
            lengths(&chunker, &vec![0; (1 << 20) + 1], 64 << 10),
            [MIN_BYTES, MIN_BYTES, 1]
        );
        assert_ne!(fingerprint(&[7; WINDOW_BYTES]) & CUT_MASK, 0);
        assert_eq!(
            lengths(&chunker, &vec![7; MAX_BYTES + 5], 1 << 20),
            [MAX_BYTES, 5]
        );
        for short in [0, 1, MIN_BYTES - 1] {
            assert_eq!(chunker.cut(&mut Cursor::default(), &vec![0; short]), None);
        }
    }

    #[test]
    fn irreducible_is_what_nothing_divides() {
        let divided = |f: u64| (2..1 << (degree(f).expect("not zero") / 2 + 1)).any(|g| remainder(f, g) == 0);
        for f in 2..1 << 11 {
            assert_eq!(is_irreducible(f), !divided(f), "{f:b}");
        }
        assert!(is_irreducible(POLYNOMIAL));
        for made in [random_polynomial(), random_polynomial()] {
            assert_eq!(degree(made), Some(DEGREE));
            Chunker::new(made).expect("what we make we take");
        }
        for bad in [0, 1, 2, POLYNOMIAL ^ 1, POLYNOMIAL << 1, u64::MAX] {
            assert!(
                matches!(Chunker::new(bad), Err(EngineError::Invalid(_))),
                "{bad:x}"
            );
        }
    }
}
