//! The repository format's cipher: AES-256 in counter mode, authenticated by Poly1305-AES.
//!
//! What is sealed is `nonce (16) || ciphertext || tag (16)`; the tag is over the ciphertext, under a one-time key of the
//! long-lived `r` and of the nonce encrypted with AES-128 under `k` (restic's design document, "Keys, Encryption and
//! MAC"). Nonces are random: with 128 bits, a collision under one key is out of reach.

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use poly1305::Poly1305;
use zeroize::{Zeroize, ZeroizeOnDrop};

const NONCE: usize = 16;
const TAG: usize = 16;

/// An encryption key with its authentication key; forgotten when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    /// For AES-256.
    pub(super) encrypt: [u8; 32],
    /// For the AES-128 that encrypts the nonce.
    pub(super) mac_k: [u8; 16],
    /// Poly1305's `r`, clamped at use.
    pub(super) mac_r: [u8; 16],
}

impl Key {
    /// How many bytes sealing adds.
    pub const OVERHEAD: usize = NONCE + TAG;

    /// A key from the kernel's random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 64];
        random(&mut bytes);
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        key
    }

    /// The key in these 64 bytes: encryption, then `k`, then `r`, as scrypt gives them.
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let part = |at: usize| {
            let mut half = [0; 16];
            half.copy_from_slice(&bytes[at..at + 16]);
            half
        };
        let mut encrypt = [0; 32];
        encrypt.copy_from_slice(&bytes[..32]);
        Self {
            encrypt,
            mac_k: part(32),
            mac_r: part(48),
        }
    }

    /// Appends `plain`, sealed, to `out`.
    pub fn seal_into(&self, plain: &[u8], out: &mut Vec<u8>) {
        let mut nonce = [0; NONCE];
        random(&mut nonce);
        out.reserve(plain.len() + Self::OVERHEAD);
        out.extend_from_slice(&nonce);
        let begin = out.len();
        out.extend_from_slice(plain);
        self.stream(&nonce).apply_keystream(&mut out[begin..]);
        let tag = self.tag(&nonce, &out[begin..]);
        out.extend_from_slice(&tag);
    }

    /// `plain`, sealed.
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.seal_into(plain, &mut out);
        out
    }

    /// What was sealed, or `None` if this is not exactly what this key sealed.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        self.open_into(sealed, &mut plain).then_some(plain)
    }

    /// The same, in the place of what `plain` holds; whether it is what this key sealed.
    pub fn open_into(&self, sealed: &[u8], plain: &mut Vec<u8>) -> bool {
        let parts = sealed.split_first_chunk::<NONCE>();
        let Some((nonce, (cipher, tag))) =
            parts.and_then(|(nonce, rest)| Some((nonce, rest.split_last_chunk::<TAG>()?)))
        else {
            return false;
        };
        if !same(&self.tag(nonce, cipher), tag) {
            return false;
        }
        plain.resize(cipher.len(), 0);
        self.stream(nonce).apply_keystream_b2b(cipher, plain);
        true
    }

    fn stream(&self, nonce: &[u8; NONCE]) -> ctr::Ctr128BE<Aes256> {
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), &(*nonce).into())
    }

    fn tag(&self, nonce: &[u8; NONCE], cipher: &[u8]) -> [u8; TAG] {
        let mut pad = (*nonce).into();
        Aes128::new(&self.mac_k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.mac_r);
        key[16..].copy_from_slice(&pad);
        let tag = Poly1305::new(&key.into()).compute_unpadded(cipher);
        key.zeroize();
        tag.into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// Fills `bytes` from the kernel.
pub(super) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("Linux gives random bytes to everybody since 3.17");
}

/// Compares in a time that does not depend on where the difference is.
fn same(a: &[u8; TAG], b: &[u8; TAG]) -> bool {
    a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let key = Key::random();
        for length in [0, 1, 15, 16, 17, 4096, 100_000] {
            let plain: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let sealed = key.seal(&plain);
            assert_eq!(sealed.len(), plain.len() + Key::OVERHEAD);
            assert_eq!(key.open(&sealed).expect("it is ours"), plain);
            for at in [0, 16, sealed.len() / 2, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at.min(sealed.len() - 1)] ^= 1;
                assert!(key.open(&changed).is_none(), "a flipped bit at {at} of {length}");
            }
            assert!(key.open(&sealed[..sealed.len() - 1]).is_none());
            assert!(Key::random().open(&sealed).is_none());
        }
        assert!(key.open(&[]).is_none() && key.open(&[0; 31]).is_none());
    }

    /// The example of RFC 8439, 2.5.2, shows that the tag is Poly1305; the pad is checked against real restic elsewhere.
    #[test]
    fn the_tag_is_poly1305() {
        let key: [u8; 32] = [
            0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33, 0x7f, 0x44, 0x52, 0xfe, 0x42, 0xd5, 0x06, 0xa8,
            0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d, 0xb2, 0xfd, 0x4a, 0xbf, 0xf6, 0xaf, 0x41, 0x49, 0xf5, 0x1b,
        ];
        let tag: [u8; 16] = Poly1305::new(&key.into())
            .compute_unpadded(b"Cryptographic Forum Research Group")
            .into();
        assert_eq!(tag[..4], [0xa8, 0x06, 0x1d, 0xc1]);
    }
}
