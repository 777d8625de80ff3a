//! A file or device made to read as zeros, for restores that write only what is not zero.

use std::fs::File;
use std::path::Path;

use crate::engine::{EngineError, Progress, Result};
use crate::sys::sparse;

/// Bytes that are zeroed between two looks at whether to go on.
const STEP: u64 = 256 << 20;

/// Makes the first `size` bytes zeros, by holes where there can be some.
///
/// # Errors
/// [`EngineError::Invalid`] where the file or device is shorter.
pub fn clear(file: &File, path: &Path, size: u64, progress: &Progress) -> Result<()> {
    let failed = |doing, source| EngineError::Target {
        doing,
        path: path.to_owned(),
        source,
    };
    let room = sparse::size(file).map_err(|source| failed("find the size of", source))?;
    if room < size {
        let why = format!("{} has {room} bytes, and the backup needs {size}", path.display());
        return Err(EngineError::Invalid(why));
    }
    progress.phase("clearing the target");
    let mut at = 0;
    while at < size {
        progress.check()?;
        let end = (at + STEP).min(size);
        sparse::zero(file, at..end).map_err(|source| failed("clear", source))?;
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_was_there_is_gone_and_what_is_beyond_stays() {
        let named = tempfile::NamedTempFile::new().expect("a file");
        let (file, path) = (named.as_file(), named.path());
        file.write_all_at(&[7; 100_000], 0).expect("written");
        clear(file, path, 90_000, &Progress::default()).expect("cleared");
        let mut bytes = vec![1; 100_000];
        file.read_exact_at(&mut bytes, 0).expect("read");
        assert!(
            bytes[..90_000].iter().all(|byte| *byte == 0) && bytes[90_000..].iter().all(|byte| *byte == 7)
        );
        let said = clear(file, path, 1 << 20, &Progress::default())
            .expect_err("too short")
            .to_string();
        assert!(said.contains("has 100000 bytes"), "{said}");
    }
}
