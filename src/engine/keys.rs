//! Key files: the repository's master key, sealed under a password. A repository has one or several.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::crypto::{Key, random};
use super::{EngineError, Result};

/// scrypt's cost for new keys: 128 · N · r = 64 MiB, a quarter of a second. restic calibrates to half a second.
const LOG_N: u8 = 16;
/// The same for no password, which nobody has to guess: the least that scrypt allows.
const NO_COST: u8 = 1;
const R: u32 = 8;
const P: u32 = 1;

/// What a key file may ask of us: a hostile one must not take all memory or hours. 128 · r · (N + p) bytes.
const MOST_MEMORY: u64 = 1 << 30;
const MOST_P: u32 = 16;

/// The password to a repository; forgotten when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// # Errors
    /// [`EngineError::Password`] for an empty one.
    pub fn new(text: String) -> Result<Self> {
        if text.is_empty() {
            let why = "the backup password is empty; give one, or say encrypt=none to go without";
            return Err(EngineError::Password(why.to_owned()));
        }
        Ok(Self(Zeroizing::new(text)))
    }

    /// No protection: restic's empty password. Whoever can read the destination can read the data.
    pub fn none() -> Self {
        Self(Zeroizing::new(String::new()))
    }

    /// Whether this is [`Password::none`].
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_none() {
            "Password(none)"
        } else {
            "Password(secret)"
        })
    }
}

/// A key file, as it lies in `keys/`. Its name is the SHA-256 of its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyFile {
    /// When it was made, RFC 3339.
    pub created: String,
    /// By whom.
    #[serde(default)]
    pub username: String,
    /// Where.
    #[serde(default)]
    pub hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The master key inside.
#[derive(Serialize, Deserialize)]
struct Secret {
    mac: Mac,
    encrypt: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
struct Mac {
    k: Zeroizing<String>,
    r: Zeroizing<String>,
}

impl KeyFile {
    /// The largest key file that is read, in bytes.
    pub const LIMIT: u64 = 64 << 10;

    /// `master` under a password.
    pub fn new(master: &Key, password: &Password, hostname: &str, username: &str) -> Self {
        let mut salt = [0; 64];
        random(&mut salt);
        let log_n = if password.is_none() { NO_COST } else { LOG_N };
        let params = scrypt::Params::new(log_n, R, P).expect("the constants are valid");
        let sealed = derive(password, &salt, params).seal(&Secret::write(master));
        Self {
            created: super::now().to_string(),
            username: username.to_owned(),
            hostname: hostname.to_owned(),
            kdf: "scrypt".to_owned(),
            n: 1 << log_n,
            r: R,
            p: P,
            salt: BASE64_STANDARD.encode(salt),
            data: BASE64_STANDARD.encode(sealed),
        }
    }

    /// The master key, or `None` where the password is not this file's.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file.
    pub fn open(&self, password: &Password) -> std::result::Result<Option<Key>, String> {
        let salt = BASE64_STANDARD
            .decode(&self.salt)
            .map_err(|error| format!("its salt: {error}"))?;
        let data = BASE64_STANDARD
            .decode(&self.data)
            .map_err(|error| format!("its data: {error}"))?;
        let params = self.params()?;
        let Some(mut plain) = derive(password, &salt, params).open(&data) else {
            return Ok(None);
        };
        let key = Secret::read(&plain);
        plain.zeroize();
        key.map(Some)
    }

    /// What trying a password costs: of acceptable files alone.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn cost(&self) -> std::result::Result<Cost, String> {
        let params = self.params()?;
        Ok(Cost {
            memory_bytes: 128 * u64::from(params.r()) * ((1 << params.log_n()) + u64::from(params.p())),
            rounds: params.p(),
        })
    }

    fn params(&self) -> std::result::Result<scrypt::Params, String> {
        if self.kdf != "scrypt" {
            return Err(format!(
                "its key derivation is {:?}, and only scrypt is known",
                self.kdf
            ));
        }
        let memory = self
            .n
            .checked_add(u64::from(self.p))
            .and_then(|rows| rows.checked_mul(u64::from(self.r)))
            .and_then(|blocks| blocks.checked_mul(128));
        if !self.n.is_power_of_two()
            || self.n < 2
            || memory.is_none_or(|bytes| bytes > MOST_MEMORY)
            || self.p > MOST_P
        {
            return Err(format!(
                "its scrypt parameters N={} r={} p={} are not acceptable",
                self.n, self.r, self.p
            ));
        }
        scrypt::Params::new(self.n.ilog2() as u8, self.r, self.p).map_err(|error| error.to_string())
    }
}

/// See [`KeyFile::cost`].
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) memory_bytes: u64,
    pub(super) rounds: u32,
}

/// Whether these are the words of a master key.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn is_secret(plain: &[u8]) -> bool {
    Secret::read(plain).is_ok()
}

impl Secret {
    fn write(key: &Key) -> Zeroizing<Vec<u8>> {
        let text = |bytes: &[u8]| Zeroizing::new(BASE64_STANDARD.encode(bytes));
        let secret = Self {
            mac: Mac {
                k: text(&key.mac_k),
                r: text(&key.mac_r),
            },
            encrypt: text(&key.encrypt),
        };
        Zeroizing::new(serde_json::to_vec(&secret).expect("text can be written as JSON"))
    }

    fn read(plain: &[u8]) -> std::result::Result<Key, String> {
        let secret: Self =
            serde_json::from_slice(plain).map_err(|error| format!("its master key: {error}"))?;
        let mut bytes = Zeroizing::new([0; 64]);
        let parts = [
            (0..32, &secret.encrypt),
            (32..48, &secret.mac.k),
            (48..64, &secret.mac.r),
        ];
        for (range, text) in parts {
            let part = Zeroizing::new(
                BASE64_STANDARD
                    .decode(text.as_bytes())
                    .map_err(|_| "its master key is not base64")?,
            );
            if part.len() != range.len() {
                return Err("its master key has the wrong length".to_owned());
            }
            bytes[range].copy_from_slice(&part);
        }
        Ok(Key::from_bytes(&bytes))
    }
}

fn derive(password: &Password, salt: &[u8], params: scrypt::Params) -> Key {
    let mut bytes = Zeroizing::new([0; 64]);
    scrypt::scrypt(password.bytes(), salt, &params, bytes.as_mut_slice())
        .expect("64 bytes are a valid length");
    Key::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_costs_nothing_and_opens_with_none_alone() {
        let master = Key::random();
        let file = KeyFile::new(&master, &Password::none(), "host", "root");
        assert_eq!(file.n, 2);
        let other = Password::new("correct horse".to_owned()).expect("not empty");
        assert!(file.open(&Password::none()).expect("readable").is_some());
        assert!(file.open(&other).expect("readable").is_none());
    }

    #[test]
    fn a_key_file_opens_with_its_password_alone() {
        let master = Key::random();
        let password = Password::new("correct horse".to_owned()).expect("not empty");
        let file = KeyFile::new(&master, &password, "host", "root");
        let written = serde_json::to_string(&file).expect("JSON");
        let file: KeyFile = serde_json::from_str(&written).expect("JSON");
        let opened = file.open(&password).expect("valid").expect("the password fits");
        assert_eq!(opened.encrypt, master.encrypt);
        assert_eq!((opened.mac_k, opened.mac_r), (master.mac_k, master.mac_r));
        let wrong = Password::new("battery staple".to_owned()).expect("not empty");
        assert!(file.open(&wrong).expect("valid").is_none());
        assert!(Password::new(String::new()).is_err());
    }

    #[test]
    fn absurd_costs_are_refused_before_they_are_paid() {
        let file = KeyFile::new(&Key::random(), &Password::none(), "", "");
        for (n, r, p) in [
            (1 << 40, 8, 1),
            (65_535, 8, 1),
            (0, 8, 1),
            (1, 8, 1),
            (65_536, 1 << 30, 1),
            (65_536, 8, 1 << 20),
            (2, 0, 1),
            // What N asks for is little, but p asks for eight times the limit.
            (2, 1 << 22, 16),
        ] {
            let hostile = KeyFile {
                n,
                r,
                p,
                ..file.clone()
            };
            assert!(hostile.open(&Password::none()).is_err(), "N={n} r={r} p={p}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let password = Password::new("correct horse".to_owned()).expect("not empty");
        assert_eq!(
            format!("{password:?} {:?}", Key::random()),
            "Password(secret) Key(secret)"
        );
    }
}
