//! Every file of the fixtures, truncated, bit-flipped, missing and swapped: a backup is restored as it was, or not at all.

use bytes::Bytes;

use super::*;

/// What all backups restore to: an image's digest, or a tree's listing, or that there was an error.
#[derive(Debug, Clone, PartialEq)]
enum Restored {
    Image(Vec<u8>),
    Tree(BTreeMap<Vec<u8>, Value>),
    Failed(String),
}

const BACKUPS: [(&str, &str); 4] = [
    (BLOCK_VOLUME, "backup-1a2b3c4d5e6f7081"),
    (BLOCK_VOLUME, "backup-2b3c4d5e6f708192"),
    (TREE_VOLUME, "backup-3c4d5e6f708192a3"),
    (TREE_VOLUME, "backup-4d5e6f708192a3b4"),
];

fn restore(objects: &Objects, volume: &str, name: &str) -> Restored {
    let attempt = || -> Result<Restored> {
        let reader = Reader::open(store_of(objects))?.expect("some object of it is left");
        let backup = reader.backup(volume, name)?;
        Ok(match backup.kind {
            Kind::Block => Restored::Image(Sha256::digest(image(&reader, &backup)?).to_vec()),
            Kind::Tree => {
                let dir = tempfile::tempdir().expect("a scratch directory");
                reader.restore_tree(&backup, dir.path(), &Progress::default())?;
                Restored::Tree(listing(dir.path()))
            }
        })
    };
    attempt().unwrap_or_else(|error| Restored::Failed(error.to_string()))
}

/// The fixtures, and what they restore to.
struct Good {
    objects: Objects,
    restored: Vec<Restored>,
}

impl Good {
    fn new() -> Self {
        let objects = fixture_objects();
        let all = BACKUPS
            .iter()
            .map(|(volume, name)| restore(&objects, volume, name));
        let restored: Vec<_> = all.collect();
        assert!(!restored.iter().any(|one| matches!(one, Restored::Failed(_))) || !is_root());
        Self { objects, restored }
    }

    /// The files of the repository; without root, only those of the images.
    fn files(&self) -> impl Iterator<Item = (&String, &Bytes)> {
        let all = is_root();
        self.objects
            .iter()
            .filter(move |(path, _)| all || !path.contains(TREE_VOLUME))
    }

    /// Restores the backups that the file can matter to: each as it was, or not at all. True where one was not.
    fn is_noticed(&self, bad: &Objects, path: &str, what: &str) -> bool {
        let mut noticed = false;
        for ((volume, name), good) in BACKUPS.iter().zip(&self.restored) {
            if !path.starts_with(&layout::volume_directory(volume).expect("a name")) {
                continue;
            }
            match restore(bad, volume, name) {
                Restored::Failed(why) => {
                    assert!(why.contains("memory:"), "{path} {what}: {why:?} names no place");
                    noticed = true;
                }
                other => assert_eq!(&other, good, "{path} {what}: {name}"),
            }
        }
        noticed
    }

    fn assert_noticed(&self, bad: &Objects, path: &str, what: &str) {
        assert!(self.is_noticed(bad, path, what), "{path} {what}: nobody noticed");
    }
}

fn with(good: &Objects, path: &str, bytes: Bytes) -> Objects {
    let mut bad = good.clone();
    bad.insert(path.to_owned(), bytes);
    bad
}

#[test]
fn truncated_files_are_noticed() {
    let good = Good::new();
    for (path, bytes) in good.files() {
        for length in [0, 1, 10, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
            let bad = with(&good.objects, path, bytes.slice(..length));
            good.assert_noticed(&bad, path, &format!("cut to {length}"));
        }
    }
}

#[test]
fn missing_files_are_noticed() {
    let good = Good::new();
    for path in good.objects.keys() {
        let mut bad = good.objects.clone();
        bad.remove(path);
        good.assert_noticed(&bad, path, "missing");
    }
}

#[test]
fn flipped_bits_are_noticed_or_do_not_matter() {
    let good = Good::new();
    for (path, bytes) in good.files() {
        // A third of a record, in a bit that differs from byte to byte; some of the rest.
        let step = if path.ends_with(".cfg") {
            3
        } else {
            bytes.len() / 24 + 1
        };
        let (mut tried, mut noticed) = (0, 0);
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 7);
            let bad = with(&good.objects, path, flipped.into());
            tried += 1;
            noticed += usize::from(good.is_noticed(&bad, path, &format!("flipped at {at}")));
        }
        // gzip's header has a time and the like, runs of one byte can be compressed in two ways, and a record has texts
        // that are not the volume's bytes.
        assert!(noticed * 4 > tried, "{path}: {noticed} of {tried}");
    }
}

#[test]
fn swapped_files_are_noticed() {
    let good = Good::new();
    for (path, bytes) in good.files() {
        for (other, replacement) in good.files() {
            if path >= other || bytes == replacement {
                continue;
            }
            let mut bad = with(&good.objects, path, replacement.clone());
            bad.insert(other.clone(), bytes.clone());
            good.assert_noticed(&bad, path, &format!("swapped with {other}"));
        }
    }
}

#[test]
fn what_follows_the_end_of_a_file_is_noticed() {
    let good = Good::new();
    for (path, bytes) in good.files() {
        let bad = with(&good.objects, path, [&bytes[..], b"x"].concat().into());
        good.assert_noticed(&bad, path, "with a tail");
    }
}

#[test]
fn a_block_is_not_believed_to_be_another_nor_larger() {
    let good = Good::new();
    let block = good
        .objects
        .keys()
        .find(|path| path.ends_with(".blk"))
        .expect("a block");
    let pack = |bytes: &[u8]| -> Bytes {
        use std::io::Write;
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).expect("compressed");
        writer.finish().expect("compressed").into()
    };
    // 256 MiB of zeros in 1 MiB: it is not decompressed.
    let contents = [
        vec![1; BLOCK_BYTES as usize],
        vec![0; 256 << 20],
        vec![0; 100],
        vec![],
    ];
    for content in contents {
        let what = format!("with {} bytes", content.len());
        good.assert_noticed(&with(&good.objects, block, pack(&content)), block, &what);
    }
    let huge = Bytes::from(vec![0; 3 << 20]);
    good.assert_noticed(&with(&good.objects, block, huge), block, "3 MiB long");
}
