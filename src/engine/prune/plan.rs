//! What a prune is to do with each pack: keep it, copy what is used out of it, or delete it. Pure: figures in, lists out.

use crate::engine::Id;
use crate::engine::pack::PACK_TARGET;

/// Packs below this many bytes are small: four fifths of a full one.
const SMALL: u64 = PACK_TARGET as u64 / 5 * 4;

/// Packs in no index that are younger than this stay, in seconds. Nobody who keeps to the locks can be writing them while
/// prune has the repository for itself; but a host that was asleep and lost its lock may be, and what an interrupted
/// backup uploaded is of use to its next attempt. An hour is twice the time after which a lock is stale.
pub const YOUNG_SECONDS: i64 = 3600;

/// A pack, and what is in it for the backups that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Its name.
    pub id: Id,
    /// As stored, in bytes; `None` where the index names it and it is not there.
    pub size: Option<u64>,
    /// How long ago it was written, in seconds, where the store says.
    pub age: Option<i64>,
    /// Blobs that the index places in it.
    pub entries: u64,
    /// Those of them that are used, each counted in one pack only.
    pub used: u64,
    /// Their bytes, with their entries in the header.
    pub used_bytes: u64,
    /// Whether there are trees in it.
    pub trees: bool,
}

impl Figures {
    fn size(&self) -> u64 {
        self.size.unwrap_or(0)
    }

    fn unused_bytes(&self) -> u64 {
        self.size().saturating_sub(self.used_bytes)
    }
}

/// How thorough a prune is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneOptions {
    /// How many percent of what is left may be unused: the less, the more is copied.
    pub max_unused_percent: u8,
    /// Whether small packs are made into full ones.
    pub repack_small: bool,
    /// Whether packs in no index go however young they are.
    pub all: bool,
    /// Whether nothing is done but to say what would be.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused_percent: 5,
            repack_small: false,
            all: false,
            dry_run: false,
        }
    }
}

/// What becomes of the packs. Each list is in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// They stay as they are.
    pub keep: Vec<Id>,
    /// What is used of them is copied, then they go.
    pub repack: Vec<Id>,
    /// Nothing in them is used.
    pub unused: Vec<Id>,
    /// They are in no index.
    pub unindexed: Vec<Id>,
    /// They are in no index, but too young to judge.
    pub young: Vec<Id>,
    /// The index names them, nothing in them is used, and they are not there.
    pub gone: Vec<Id>,
    /// The bytes that go: whole packs, and what is unused of those that are repacked.
    pub freed_bytes: u64,
    /// The bytes that are copied.
    pub repacked_bytes: u64,
    /// The unused bytes that stay.
    pub unused_bytes: u64,
}

/// Decides. The packs that are used and not there are refused before.
pub fn plan(packs: &[Figures], options: &PruneOptions) -> Plan {
    let mut plan = Plan::default();
    let mut in_part = Vec::new();
    for pack in packs {
        if pack.size.is_none() {
            plan.gone.push(pack.id);
        } else if pack.entries == 0 {
            if !options.all && pack.age.is_some_and(|age| age < YOUNG_SECONDS) {
                plan.young.push(pack.id);
            } else {
                plan.unindexed.push(pack.id);
                plan.freed_bytes += pack.size();
            }
        } else if pack.used == 0 {
            plan.unused.push(pack.id);
            plan.freed_bytes += pack.size();
        } else {
            in_part.push(*pack);
        }
    }
    for (pack, repack) in choose(in_part, options) {
        if repack {
            plan.repack.push(pack.id);
            plan.repacked_bytes += pack.used_bytes;
            plan.freed_bytes += pack.unused_bytes();
        } else {
            plan.keep.push(pack.id);
            plan.unused_bytes += pack.unused_bytes();
        }
    }
    let lists = [
        &mut plan.keep,
        &mut plan.repack,
        &mut plan.unused,
        &mut plan.unindexed,
        &mut plan.young,
        &mut plan.gone,
    ];
    lists.into_iter().for_each(|list| list.sort_unstable());
    plan
}

/// Which of the packs that are used in part, or whole, are repacked: those where the least copying frees the most, until
/// what stays unused is within the limit; at equal shares trees first, which every backup reads.
fn choose(mut packs: Vec<Figures>, options: &PruneOptions) -> Vec<(Figures, bool)> {
    let used: u64 = packs.iter().map(|pack| pack.used_bytes).sum();
    let mut unused: u64 = packs.iter().map(Figures::unused_bytes).sum();
    // Of all that is left, used and unused, the share is at most so much: unused ≤ used · p / (100 - p).
    let percent = u128::from(options.max_unused_percent.min(99));
    let mut limit = (u128::from(used) * percent / (100 - percent)) as u64;
    // A pack's header is for no blob and goes with no repacking.
    limit = limit.saturating_add(packs.len() as u64 * crate::engine::pack::PACK_OVERHEAD);
    if options.max_unused_percent >= 100 {
        limit = u64::MAX;
    }
    let few = |trees: bool| {
        let small = packs
            .iter()
            .filter(|pack| pack.trees == trees && pack.size() < SMALL);
        !options.repack_small || small.count() < 2
    };
    let (few_data, few_trees) = (few(false), few(true));
    packs.sort_by_key(|pack| {
        let share = u128::from(pack.unused_bytes()) * 1_000_000 / u128::from(pack.size().max(1));
        (std::cmp::Reverse(share), !pack.trees, pack.id)
    });
    packs
        .into_iter()
        .map(|pack| {
            let garbage = pack.entries > pack.used;
            let small = pack.size() < SMALL && !(if pack.trees { few_trees } else { few_data });
            let repack = small || (garbage && unused > limit);
            if repack {
                unused -= pack.unused_bytes();
            }
            (pack, repack)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn id(number: u8) -> Id {
        Id([number; 32])
    }

    /// A pack of 16 MiB with so many of its 16 blobs in use.
    fn pack(number: u8, used: u64) -> Figures {
        Figures {
            id: id(number),
            size: Some(16 * MIB),
            age: Some(100_000),
            entries: 16,
            used,
            used_bytes: used * MIB,
            trees: false,
        }
    }

    fn planned(packs: &[Figures], percent: u8) -> Plan {
        let options = PruneOptions {
            max_unused_percent: percent,
            ..PruneOptions::default()
        };
        plan(packs, &options)
    }

    #[test]
    fn nothing_to_do_is_nothing_done() {
        assert_eq!(planned(&[], 0), Plan::default());
        let plan = planned(&[pack(1, 16), pack(2, 16)], 0);
        assert_eq!((plan.keep, plan.freed_bytes), (vec![id(1), id(2)], 0));
    }

    #[test]
    fn what_is_unused_goes_and_what_is_used_never_does() {
        let plan = planned(&[pack(1, 0), pack(2, 1), pack(3, 16)], 100);
        assert_eq!(plan.unused, [id(1)]);
        assert_eq!(
            plan.keep,
            [id(2), id(3)],
            "with a limit of 100 percent nothing is copied"
        );
        assert_eq!((plan.freed_bytes, plan.unused_bytes), (16 * MIB, 15 * MIB));
    }

    #[test]
    fn the_emptiest_packs_are_copied_first_until_the_limit_is_kept() {
        let packs = [pack(1, 15), pack(2, 4), pack(3, 14), pack(4, 16)];
        // 49 MiB are used, 15 are not.
        assert_eq!(planned(&packs, 0).repack, [id(1), id(2), id(3)]);
        let plan = planned(&packs, 6);
        assert_eq!(plan.repack, [id(2)], "3 of 52 MiB are 5.8 percent");
        assert_eq!((plan.repacked_bytes, plan.unused_bytes), (4 * MIB, 3 * MIB));
        assert_eq!(planned(&packs, 5).repack, [id(2), id(3)], "1 of 50 MiB");
        assert_eq!(planned(&packs, 24).repack, []);
    }

    #[test]
    fn packs_in_no_index_go_unless_they_are_young() {
        let orphan = |number, age| Figures {
            entries: 0,
            age,
            ..pack(number, 0)
        };
        let packs = [
            orphan(1, Some(YOUNG_SECONDS)),
            orphan(2, Some(YOUNG_SECONDS - 1)),
            orphan(3, None),
            orphan(4, Some(-5)),
        ];
        let careful = planned(&packs, 5);
        assert_eq!(careful.unindexed, [id(1), id(3)]);
        assert_eq!(
            careful.young,
            [id(2), id(4)],
            "a clock that is ahead does not make a pack old"
        );
        let all = plan(
            &packs,
            &PruneOptions {
                all: true,
                ..PruneOptions::default()
            },
        );
        assert_eq!((all.unindexed.len(), all.young.len()), (4, 0));
    }

    #[test]
    fn packs_that_are_not_there_are_struck_from_the_index() {
        let plan = planned(
            &[Figures {
                size: None,
                ..pack(1, 0)
            }],
            5,
        );
        assert_eq!((plan.gone, plan.freed_bytes), (vec![id(1)], 0));
    }

    #[test]
    fn small_packs_are_joined_on_request_where_there_are_several() {
        let small = |number, trees| Figures {
            size: Some(MIB),
            entries: 1,
            trees,
            ..pack(number, 1)
        };
        let packs = [small(1, false), small(2, false), small(3, true), pack(4, 16)];
        assert_eq!(planned(&packs, 5).repack, []);
        let options = PruneOptions {
            repack_small: true,
            ..PruneOptions::default()
        };
        assert_eq!(
            plan(&packs, &options).repack,
            [id(1), id(2)],
            "one of trees has nothing to join"
        );
        let one = plan(&packs[1..], &options);
        assert_eq!(one.repack, [], "what was joined is not copied again and again");
    }
}
