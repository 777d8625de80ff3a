//! Lists of byte ranges.

use std::ops::Range;

/// Widens the ranges to whole units, cuts them off at `size`, and puts them in order without overlaps or empty ones.
pub fn round(ranges: &mut Vec<Range<u64>>, unit: u64, size: u64) {
    for range in ranges.iter_mut() {
        range.start = range.start / unit * unit;
        range.end = range.end.min(size).div_ceil(unit).saturating_mul(unit).min(size);
    }
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_become_whole_and_join() {
        let mut ranges = vec![5..6, 0..1, 17..17, 12..15, 9..300];
        round(&mut ranges, 4, 22);
        assert_eq!(ranges, vec![0..22]);
        let mut apart = vec![30..31, 5..6, 0..0];
        round(&mut apart, 4, 32);
        assert_eq!(apart, vec![4..8, 28..32]);
    }

    proptest! {
        #[test]
        fn what_was_in_a_range_still_is(list in proptest::collection::vec((0_u64..5000, 0_u64..300), 0..20)) {
            let given: Vec<Range<u64>> = list.into_iter().map(|(start, length)| start..start + length).collect();
            let mut rounded = given.clone();
            round(&mut rounded, 64, 4000);
            for pair in rounded.windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
            for range in given {
                for at in range.start..range.end.min(4000) {
                    prop_assert!(rounded.iter().any(|range| range.contains(&at)), "{at}");
                }
            }
            for range in rounded {
                prop_assert!(range.start % 64 == 0 && range.start < range.end && range.end <= 4000);
            }
        }
    }
}
