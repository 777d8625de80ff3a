//! The reader on metadata made by tests: trees that share, damage, hostile blocks, and what thin_restore writes.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::block::{Block, Kind, checksum};
use super::*;
use crate::sys::testing;

/// Virtual block → data block.
type Mappings = BTreeMap<u64, u64>;

/// Keys of one leaf lie in one stretch of so many, so that equal stretches become one block.
const STRETCH: u64 = 64;
const FANOUT: u64 = 16;

/// Writes metadata as the kernel does, sharing whatever is equal.
struct Maker {
    blocks: Vec<[u8; BLOCK_BYTES]>,
    known: HashMap<Vec<u8>, u64>,
}

impl Maker {
    fn new() -> Self {
        Self {
            blocks: vec![[0; BLOCK_BYTES]],
            known: HashMap::new(),
        }
    }

    fn node(&mut self, is_leaf: bool, entries: &[(u64, Vec<u8>)], value_bytes: usize) -> u64 {
        let room = (BLOCK_BYTES - 32) / (8 + value_bytes) / 3 * 3;
        assert!(entries.len() <= room);
        let mut block = [0; BLOCK_BYTES];
        block[4..8].copy_from_slice(&(if is_leaf { 2u32 } else { 1 }).to_le_bytes());
        block[16..20].copy_from_slice(&(entries.len() as u32).to_le_bytes());
        block[20..24].copy_from_slice(&(room as u32).to_le_bytes());
        block[24..28].copy_from_slice(&(value_bytes as u32).to_le_bytes());
        for (at, (key, value)) in entries.iter().enumerate() {
            block[32 + 8 * at..][..8].copy_from_slice(&key.to_le_bytes());
            block[32 + 8 * room + value_bytes * at..][..value_bytes].copy_from_slice(value);
        }
        if let Some(place) = self.known.get(&block[..]) {
            return *place;
        }
        let place = self.blocks.len() as u64;
        self.known.insert(block.to_vec(), place);
        block[8..16].copy_from_slice(&place.to_le_bytes());
        self.blocks.push(sealed(block, Kind::Node));
        place
    }

    fn tree(&mut self, entries: &[(u64, Vec<u8>)], value_bytes: usize) -> u64 {
        if entries.is_empty() {
            return self.node(true, &[], value_bytes);
        }
        let mut level: Vec<(u64, u64)> = entries
            .chunk_by(|a, b| a.0 / STRETCH == b.0 / STRETCH)
            .map(|leaf| (leaf[0].0, self.node(true, leaf, value_bytes)))
            .collect();
        let mut stretch = STRETCH;
        while level.len() > 1 {
            stretch *= FANOUT;
            level = level
                .chunk_by(|a, b| a.0 / stretch == b.0 / stretch)
                .map(|children| {
                    let entries: Vec<_> = children
                        .iter()
                        .map(|(key, place)| (*key, place.to_le_bytes().to_vec()))
                        .collect();
                    (children[0].0, self.node(false, &entries, 8))
                })
                .collect();
        }
        level[0].1
    }

    /// The image: a superblock over these devices.
    fn finish(mut self, devices: &BTreeMap<u32, Mappings>) -> Image {
        let mut tops = Vec::new();
        let mut details = Vec::new();
        for (id, mappings) in devices {
            let entries: Vec<_> = mappings
                .iter()
                .map(|(key, data)| (*key, (data << 24 | 5).to_le_bytes().to_vec()))
                .collect();
            let root = self.tree(&entries, 8);
            tops.push((u64::from(*id), root.to_le_bytes().to_vec()));
            let mut detail = (mappings.len() as u64).to_le_bytes().to_vec();
            detail.extend(7u64.to_le_bytes());
            detail.extend(3u32.to_le_bytes());
            detail.extend(4u32.to_le_bytes());
            details.push((u64::from(*id), detail));
        }
        let (mapping_root, details_root) = (self.tree(&tops, 8), self.tree(&details, 24));
        let mut block = [0; BLOCK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(32, &27_022_010u64.to_le_bytes());
        put(40, &2u32.to_le_bytes());
        put(44, &9u32.to_le_bytes());
        put(48, &42u64.to_le_bytes());
        put(320, &mapping_root.to_le_bytes());
        put(328, &details_root.to_le_bytes());
        put(336, &128u32.to_le_bytes());
        put(340, &8u32.to_le_bytes());
        put(344, &(self.blocks.len() as u64).to_le_bytes());
        self.blocks[0] = sealed(block, Kind::Superblock);
        Image {
            file: tempfile::NamedTempFile::new().expect("a file"),
            blocks: self.blocks,
        }
    }
}

fn sealed(mut block: [u8; BLOCK_BYTES], kind: Kind) -> [u8; BLOCK_BYTES] {
    let sum = checksum(&block, kind);
    block[..4].copy_from_slice(&sum.to_le_bytes());
    block
}

struct Image {
    file: tempfile::NamedTempFile,
    blocks: Vec<[u8; BLOCK_BYTES]>,
}

impl Image {
    fn of(devices: &BTreeMap<u32, Mappings>) -> Self {
        Maker::new().finish(devices)
    }

    fn open(&self) -> Result<Metadata> {
        let bytes = self.blocks.concat();
        self.file.as_file().write_all_at(&bytes, 0).expect("written");
        Metadata::open(self.file.path(), View::Current)
    }
}

fn covers(found: &Collected) -> Vec<u64> {
    found.ranges().iter().cloned().flatten().collect()
}

fn differing(one: &Mappings, other: &Mappings) -> Vec<u64> {
    let mut keys: Vec<u64> = one.keys().chain(other.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| one.get(key) != other.get(key));
    keys
}

fn two(one: Mappings, other: Mappings) -> BTreeMap<u32, Mappings> {
    BTreeMap::from([(1, one), (16_000_000, other)])
}

#[test]
fn the_superblock_and_the_devices_are_read() {
    let devices = two((0..1_000).map(|at| (at * 3, at)).collect(), Mappings::new());
    let metadata = Image::of(&devices).open().expect("opened");
    let superblock = metadata.superblock();
    assert_eq!(
        (
            superblock.transaction,
            superblock.time,
            superblock.data_block_sectors
        ),
        (42, 9, 128)
    );
    assert!(!superblock.needs_check && superblock.held_root == 0 && superblock.version == 2);
    let expected = Details {
        mapped_blocks: 1_000,
        transaction: 7,
        created: 3,
        snapshotted: 4,
    };
    let found = metadata.devices().expect("devices");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 16_000_000]);
    assert_eq!(found[&1], expected);
    assert_eq!(
        covers(&metadata.mapped(1).expect("mapped")),
        devices[&1].keys().copied().collect::<Vec<_>>()
    );
    assert_eq!(metadata.mapped(16_000_000).expect("mapped").ranges(), []);
    assert!(matches!(
        metadata.mapped(2),
        Err(MetadataError::NoDevice { thin: 2, .. })
    ));
}

/// 1 TiB in blocks of 64 KiB, 200,000 of them mapped, 100 changed.
#[test]
fn a_difference_costs_what_differs() {
    let one: Mappings = (0..200_000).map(|at| (at * 83, at)).collect();
    let mut other = one.clone();
    for at in 0..100 {
        other.insert(at * 2_000 * 83, 500_000 + at);
    }
    let expected = differing(&one, &other);
    assert_eq!(expected.len(), 100);
    let image = Image::of(&two(one, other));
    let metadata = image.open().expect("opened");
    let before = metadata.blocks_read();
    let found = metadata.difference(1, 16_000_000).expect("compared");
    let read = metadata.blocks_read() - before;
    assert_eq!(covers(&found), expected);
    assert!(read < image.blocks.len() as u64 / 10, "{read} blocks read");
    let same = metadata.difference(1, 1).expect("compared");
    assert_eq!(same.ranges(), []);
}

#[test]
fn the_held_state_is_not_the_current_one() {
    let mut image = Image::of(&two(Mappings::from([(5, 5)]), Mappings::new()));
    assert!(matches!(
        image
            .open()
            .map(|_| Metadata::open(image.file.path(), View::Held)),
        Ok(Err(MetadataError::NoSnapshot { .. }))
    ));
    // A copy of the superblock, as a metadata snapshot is; then the current one goes on.
    let place = image.blocks.len() as u64;
    let mut copy = image.blocks[0];
    copy[8..16].copy_from_slice(&place.to_le_bytes());
    copy[344..352].copy_from_slice(&(place + 1).to_le_bytes());
    image.blocks.push(sealed(copy, Kind::Superblock));
    let mut current = image.blocks[0];
    current[48..56].copy_from_slice(&43u64.to_le_bytes());
    current[56..64].copy_from_slice(&place.to_le_bytes());
    image.blocks[0] = sealed(current, Kind::Superblock);
    assert_eq!(image.open().expect("opened").superblock().transaction, 43);
    let held = Metadata::open(image.file.path(), View::Held).expect("opened");
    assert_eq!(held.superblock().transaction, 42);
    assert_eq!(covers(&held.mapped(1).expect("mapped")), [5]);
}

#[test]
fn what_is_no_metadata_is_told_apart() {
    let empty = tempfile::NamedTempFile::new().expect("a file");
    empty.as_file().set_len(1 << 20).expect("sparse");
    let refused = Metadata::open(empty.path(), View::Current).map(drop);
    assert!(matches!(refused, Err(MetadataError::Empty { .. })), "{refused:?}");
    empty.as_file().write_all_at(&[1; 4096], 0).expect("written");
    let refused = Metadata::open(empty.path(), View::Current).map(drop);
    assert!(
        matches!(refused, Err(MetadataError::Damaged { block: 0, .. })),
        "{refused:?}"
    );
    let short = tempfile::NamedTempFile::new().expect("a file");
    assert!(Metadata::open(short.path(), View::Current).is_err());
}

/// A tree that leads back into itself: read for ever, had nobody counted.
#[test]
fn a_circle_comes_to_an_end() {
    let mut image = Image::of(&two((0..50_000).map(|at| (at, at)).collect(), Mappings::new()));
    let mut changed = 0;
    for place in 1..image.blocks.len() {
        let mut block = image.blocks[place];
        if block[4] == 1 {
            // All children become this very node.
            for at in 0..u16::from_le_bytes([block[16], block[17]]) as usize {
                let room = u16::from_le_bytes([block[20], block[21]]) as usize;
                block[32 + 8 * room + 8 * at..][..8].copy_from_slice(&(place as u64).to_le_bytes());
            }
            image.blocks[place] = sealed(block, Kind::Node);
            changed += 1;
        }
    }
    assert!(changed > 1);
    let metadata = image.open().expect("opened");
    let refused = metadata.mapped(1).expect_err("it never ends");
    assert!(matches!(refused, MetadataError::Damaged { .. }), "{refused}");
    metadata.difference(1, 16_000_000).expect_err("it never ends");
}

#[test]
fn ranges_in_bytes_end_with_the_device() {
    assert_eq!(in_bytes(&[0..2, 7..9, 20..21], 100, 850), [0..200, 700..850]);
    assert_eq!(
        in_bytes(std::slice::from_ref(&(u64::MAX - 1..u64::MAX)), 1 << 16, 1 << 40),
        []
    );
}

/// thin-provisioning-tools write the same format, and are not our code.
#[test]
fn what_thin_restore_writes_is_read() {
    if !testing::has_program("thin_restore") {
        return;
    }
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (xml, image) = (dir.path().join("xml"), dir.path().join("image"));
    let text = r#"<superblock uuid="" time="4" transaction="17" flags="0" version="2" data_block_size="256" nr_data_blocks="100000">
  <device dev_id="3" mapped_blocks="20002" transaction="5" creation_time="1" snap_time="2">
    <range_mapping origin_begin="100" data_begin="0" length="20000" time="1"/>
    <single_mapping origin_block="70000" data_block="50000" time="1"/>
    <single_mapping origin_block="90000" data_block="50001" time="2"/>
  </device>
  <device dev_id="4" mapped_blocks="20001" transaction="6" creation_time="2" snap_time="2">
    <range_mapping origin_begin="100" data_begin="0" length="19999" time="1"/>
    <single_mapping origin_block="20099" data_block="60000" time="2"/>
    <single_mapping origin_block="70000" data_block="50000" time="1"/>
  </device>
  <device dev_id="9" mapped_blocks="0" transaction="6" creation_time="2" snap_time="2"/>
</superblock>
"#;
    std::fs::write(&xml, text).expect("written");
    let (xml, image) = (xml.display(), image.display());
    testing::sh(&format!(
        "truncate -s 8M {image}; thin_restore -q -i {xml} -o {image}; thin_check -q {image}"
    ));
    let metadata = Metadata::open(Path::new(&image.to_string()), View::Current).expect("opened");
    let superblock = metadata.superblock();
    assert_eq!((superblock.transaction, superblock.data_block_sectors), (17, 256));
    let devices = metadata.devices().expect("devices");
    assert_eq!(devices.keys().copied().collect::<Vec<_>>(), [3, 4, 9]);
    assert_eq!((devices[&3].mapped_blocks, devices[&3].transaction), (20_002, 5));
    assert_eq!(
        metadata.mapped(3).expect("mapped").ranges(),
        [100..20_100, 70_000..70_001, 90_000..90_001]
    );
    assert_eq!(metadata.mapped(9).expect("mapped").ranges(), []);
    assert_eq!(
        metadata.difference(3, 4).expect("compared").ranges(),
        [20_099..20_100, 90_000..90_001]
    );
    assert_eq!(metadata.difference(9, 4).expect("compared").blocks(), 20_001);
}

fn histories() -> impl Strategy<Value = (Mappings, Mappings)> {
    let mappings = prop::collection::btree_map(0..6_000u64, 0..9_000u64, 0..900);
    let writes = prop::collection::vec((0..6_000u64, prop::option::of(9_000..20_000u64)), 0..40);
    (mappings.clone(), mappings, any::<bool>(), writes).prop_map(|(one, strange, related, writes)| {
        let mut other = if related { one.clone() } else { strange };
        for (key, data) in writes {
            match data {
                Some(data) => drop(other.insert(key, data)),
                None => drop(other.remove(&key)),
            }
        }
        (one, other)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn differences_are_those_of_the_maps((one, other) in histories()) {
        let expected = differing(&one, &other);
        let mapped: Vec<u64> = other.keys().copied().collect();
        let metadata = Image::of(&two(one, other)).open().expect("opened");
        prop_assert_eq!(covers(&metadata.difference(1, 16_000_000).expect("compared")), expected.clone());
        prop_assert_eq!(covers(&metadata.difference(16_000_000, 1).expect("compared")), expected);
        prop_assert_eq!(covers(&metadata.mapped(16_000_000).expect("mapped")), mapped);
    }

    #[test]
    fn no_flipped_byte_goes_unnoticed(
        (one, other) in histories(), place in any::<prop::sample::Index>(), at in 0..BLOCK_BYTES, flip in 1..=255u8,
    ) {
        let expected = differing(&one, &other);
        let mut image = Image::of(&two(one, other));
        let place = place.index(image.blocks.len());
        image.blocks[place][at] ^= flip;
        // Either it is seen, or the block was not needed.
        if let Ok(metadata) = image.open()
            && let Ok(found) = metadata.difference(1, 16_000_000)
        {
            prop_assert_eq!(covers(&found), expected);
        }
    }

    /// Blocks with sound checksums and whatever else in them.
    #[test]
    fn hostile_blocks_neither_panic_nor_run_for_ever(
        (one, other) in histories(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 4..BLOCK_BYTES - 8, any::<u64>()), 1..12),
        head in any::<bool>(),
    ) {
        let mut image = Image::of(&two(one, other));
        for (place, at, value) in changes {
            let place = place.index(image.blocks.len());
            let at = if head { at % 40 + 4 } else { at };
            image.blocks[place][at..at + 8].copy_from_slice(&value.to_le_bytes());
            let kind = if place == 0 { Kind::Superblock } else { Kind::Node };
            image.blocks[place] = sealed(image.blocks[place], kind);
        }
        if let Ok(metadata) = image.open() {
            let _ = metadata.devices();
            let _ = metadata.mapped(1);
            let _ = metadata.difference(1, 16_000_000);
        }
    }
}

#[test]
fn a_block_is_aligned_for_direct_reading() {
    assert_eq!(
        (align_of::<Block>(), size_of::<Block>()),
        (BLOCK_BYTES, BLOCK_BYTES)
    );
}
