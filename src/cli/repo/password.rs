//! Where a repository's password comes from when it is not asked for. Never from an argument: everybody sees those.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Error;
use crate::engine::{EngineError, Password};

/// What is read of a password file at most, in bytes: a wrong file must not fill the memory.
const LONGEST: u64 = 64 << 10;

/// Where the password is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// There is to be none.
    None,
    /// In a file; and what named it.
    File(PathBuf, &'static str),
    /// In this variable.
    Variable(OsString, &'static str),
    /// Nobody said.
    Nowhere,
}

/// The first that is given; an empty variable gives nothing.
pub(super) fn source(file: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Source {
    if let Some(file) = file {
        return Source::File(file.to_owned(), "--password-file");
    }
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    for (name_of_file, name) in [
        ("WINDLASS_BACKUP_PASSWORD_FILE", "WINDLASS_BACKUP_PASSWORD"),
        ("RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD"),
    ] {
        if let Some(file) = variable(name_of_file) {
            return Source::File(file.into(), name_of_file);
        }
        if let Some(password) = variable(name) {
            return Source::Variable(password, name);
        }
    }
    Source::Nowhere
}

impl Source {
    /// The password.
    ///
    /// # Errors
    /// A file that cannot be read, or what cannot be a password.
    pub fn read(self) -> Result<Password, Error> {
        match self {
            Self::None => Ok(Password::none()),
            Self::File(path, given_by) => Ok(of_file(&path, given_by)?),
            Self::Variable(text, name) => match text.into_string() {
                Ok(text) => Ok(Password::new(text)?),
                Err(_) => Err(EngineError::Password(format!("{name} is not UTF-8, as passwords are")).into()),
            },
            Self::Nowhere => Err(nowhere()),
        }
    }
}

/// There is no password, and nobody to ask.
pub(super) fn nowhere() -> Error {
    EngineError::Password(
        "there is no password, and no terminal to ask for it; give it by --password-file or \
         WINDLASS_BACKUP_PASSWORD_FILE, or say --encrypt none where the repository has none"
            .to_owned(),
    )
    .into()
}

fn of_file(path: &Path, given_by: &str) -> Result<Password, EngineError> {
    let failed = |why: String| {
        let path = path.display();
        EngineError::Password(format!(
            "cannot read the password from {path} ({given_by}): {why}"
        ))
    };
    let mut line = Vec::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    BufReader::new(file.take(LONGEST))
        .read_until(b'\n', &mut line)
        .map_err(|error| failed(error.to_string()))?;
    let line = String::from_utf8(line).map_err(|_| failed("its first line is not UTF-8".to_owned()))?;
    match line.trim_end_matches(['\n', '\r']) {
        "" => Err(failed("its first line is empty".to_owned())),
        password => Password::new(password.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)]) -> Source {
        source(None, |name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        })
    }

    #[test]
    fn the_first_that_is_given_counts() {
        let all = [
            ("WINDLASS_BACKUP_PASSWORD_FILE", "/f"),
            ("WINDLASS_BACKUP_PASSWORD", "p"),
            ("RESTIC_PASSWORD_FILE", "/r"),
            ("RESTIC_PASSWORD", "q"),
        ];
        let file = |path: &str, by| Source::File(path.into(), by);
        assert_eq!(given(&all), file("/f", "WINDLASS_BACKUP_PASSWORD_FILE"));
        assert_eq!(
            given(&all[1..]),
            Source::Variable("p".into(), "WINDLASS_BACKUP_PASSWORD")
        );
        assert_eq!(given(&all[2..]), file("/r", "RESTIC_PASSWORD_FILE"));
        assert_eq!(given(&all[3..]), Source::Variable("q".into(), "RESTIC_PASSWORD"));
        assert_eq!(given(&[("RESTIC_PASSWORD", "")]), Source::Nowhere);
        assert_eq!(
            source(Some(Path::new("/g")), |_| Some("p".into())),
            file("/g", "--password-file")
        );
    }

    #[test]
    fn a_file_s_first_line_is_the_password() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("password");
        let same = |text: &str, password: &str| {
            std::fs::write(&path, text).expect("written");
            of_file(&path, "--password-file").expect(text) == Password::new(password.to_owned()).expect("one")
        };
        assert!(same("correct horse\nsecond\n", "correct horse"));
        assert!(same(" battery \r\n", " battery "));
        assert!(!same("staple", "Staple"));
        for bad in ["", "\n", "\r\nsecond"] {
            std::fs::write(&path, bad).expect("written");
            let said = of_file(&path, "--password-file").expect_err("empty").to_string();
            assert!(
                said.contains("is empty") && said.contains("--password-file"),
                "{said}"
            );
        }
        let said = of_file(Path::new("/nowhere/at/all"), "X")
            .expect_err("missing")
            .to_string();
        assert!(said.contains("/nowhere/at/all (X): No such file"), "{said}");
    }
}
