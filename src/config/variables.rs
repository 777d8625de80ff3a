//! The process's environment, as far as it is text.

use std::ffi::OsString;

use super::ConfigError;

/// The process's environment, as text: what is no text is nobody's that we know, unless it is a variable of ours.
///
/// # Errors
/// [`ConfigError::NotText`] for a value of ours.
pub fn variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let names = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let texts = names.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok(Some((name, value))),
        Err(_) if name.starts_with("WINDLASS_") => Err(ConfigError::NotText { name }),
        Err(_) => Ok(None),
    });
    texts.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::super::PASSWORD_VARIABLE;
    use super::*;

    /// A variable of somebody else's in another encoding made the daemon panic.
    #[test]
    fn what_is_not_text_is_passed_over_unless_it_is_ours() {
        let bad = || OsString::from_vec(b"h\xe9las".to_vec());
        let of = |name: &str, value: OsString| (OsString::from(name), value);
        let all = [
            of("LEGACY", bad()),
            (bad(), "x".into()),
            of("WINDLASS_ROOT", "/r".into()),
        ];
        let read = variables(all.into_iter()).expect("ours is text");
        assert_eq!(read, [("WINDLASS_ROOT".to_owned(), "/r".to_owned())]);
        let said = variables([of(PASSWORD_VARIABLE, bad())].into_iter()).expect_err("ours is not");
        assert!(said.to_string().contains(PASSWORD_VARIABLE), "{said}");
    }
}
