//! Ranges of blocks, gathered in order and bounded in number.

use std::ops::Range;

/// So many ranges at most, 16 bytes each. Beyond it, the smallest gaps between them are taken in.
const MOST: usize = 1 << 20;

/// Ranges in order, without overlap. Neighbours are one range.
///
/// A device whose every second block is mapped would have millions. Then small gaps count as part of the ranges, so that the
/// answer covers all that was gathered, and perhaps more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    ranges: Vec<Range<u64>>,
    /// Gaps up to this many blocks are taken in.
    slack: u64,
    /// Blocks that were gathered, without gaps.
    blocks: u64,
}

impl Collected {
    /// Adds a block behind all that are there.
    pub(super) fn push(&mut self, block: u64) {
        self.blocks += 1;
        match self.ranges.last_mut() {
            Some(last) if block <= last.end.saturating_add(self.slack) => {
                last.end = last.end.max(block.saturating_add(1));
            }
            _ => {
                self.ranges.push(block..block.saturating_add(1));
                if self.ranges.len() > MOST {
                    self.shrink();
                }
            }
        }
    }

    /// The ranges.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// How many blocks were gathered; the ranges may cover more.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Halves the ranges at least, by doubling the gaps that are taken in.
    fn shrink(&mut self) {
        while self.ranges.len() > MOST / 2 {
            self.slack = (self.slack * 2).max(1);
            let slack = self.slack;
            self.ranges.dedup_by(|next, last| {
                let joins = next.start <= last.end.saturating_add(slack);
                if joins {
                    last.end = last.end.max(next.end);
                }
                joins
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        let mut ranges = Collected::default();
        [0, 1, 2, 7, 9, 10]
            .into_iter()
            .for_each(|block| ranges.push(block));
        assert_eq!(ranges.ranges(), [0..3, 7..8, 9..11]);
        assert_eq!(ranges.blocks(), 6);
    }

    #[test]
    fn millions_of_ranges_become_fewer_that_cover_them_all() {
        let mut ranges = Collected::default();
        let blocks = 3 * MOST as u64;
        (0..blocks).for_each(|block| ranges.push(block * 2));
        assert!(ranges.ranges().len() <= MOST);
        assert_eq!(ranges.blocks(), blocks);
        assert_eq!(
            (ranges.ranges()[0].start, ranges.ranges().last().map(|r| r.end)),
            (0, Some(blocks * 2 - 1))
        );
        let sorted = ranges.ranges().windows(2).all(|pair| pair[0].end < pair[1].start);
        assert!(sorted);
    }
}
