//! Maps of sparse files in archives: which stretches of the file the stored data are.
//!
//! Convoy's own archives have none (it calls tar without `--sparse`); archives that were put in their place may. GNU's old
//! format and version 1.0 of its pax format are read; versions 0.0 and 0.1 are not. (Source: the manual of GNU tar.)

/// More stretches than this are refused: 16 MiB of memory.
const COUNT_LIMIT: usize = 1 << 20;

/// A sparse file's stretches of data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Map {
    /// Offset and length in bytes, in order and apart from each other.
    pub(super) stretches: Vec<(u64, u64)>,
}

impl Map {
    /// Adds a stretch behind all others; lengths of 0 mark the end and are left out.
    pub(super) fn push(&mut self, offset: u64, length: u64) -> Result<(), String> {
        let end = self
            .stretches
            .last()
            .map_or(0, |(offset, length)| offset + length);
        if offset < end || offset.checked_add(length).is_none() || self.stretches.len() == COUNT_LIMIT {
            return Err("its map of a sparse file makes no sense".to_owned());
        }
        if length > 0 {
            self.stretches.push((offset, length));
        }
        Ok(())
    }

    /// Checks it against the file's size and the stored bytes.
    pub(super) fn check(&self, size: u64, stored: u64) -> Result<(), String> {
        let end = self
            .stretches
            .last()
            .map_or(0, |(offset, length)| offset + length);
        // No overflow: they are apart, and end below 2^64.
        let sum: u64 = self.stretches.iter().map(|(_, length)| length).sum();
        if end > size || sum != stored {
            return Err(format!(
                "its map of a sparse file has {sum} bytes up to {end}, and the file {stored} up to {size}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_in_order_within_the_file_and_as_long_as_the_data() {
        let mut map = Map::default();
        map.push(512, 512).expect("first");
        map.push(4096, 1).expect("second");
        map.push(8192, 0).expect("the end");
        assert_eq!(map.stretches, [(512, 512), (4096, 1)]);
        assert!(map.check(8192, 513).is_ok());
        assert!(map.check(4096, 513).is_err() && map.check(8192, 512).is_err());
        assert!(map.push(4096, 1).is_err() && map.push(u64::MAX, 1).is_err());
    }
}
