//! Every decoder of bytes that somebody else may have written, as a function that a fuzzer can call.
//!
//! Each takes any bytes, gets them past what would stop a fuzzer (seals them with a key of its own, signs headers), decodes
//! them, and panics where a decoder breaks its word: where it panics itself, gives more than it was allowed to, or, for
//! what we also write, where writing and reading once more gives something else. `fuzz/` has a target for each; the
//! tests here run all of them on any bytes and on sound ones that were damaged. In no build but those two.

mod plant;
mod records;
mod stored;
#[cfg(test)]
mod tests;
mod trees;
mod urls;

pub use super::convoy::fuzzing::{convoy_archive, convoy_block, convoy_records};
use super::crypto::Key;
pub use records::{config, key_file, lock_file, manifest, snapshot};
pub use stored::{index_file, index_table, pack_header, sealed_blob, sealed_file};
pub use trees::{image, tree, tree_restore};
pub use urls::{backup_url, destination};

/// A decoder: its name, which is that of the fuzz target too, what runs it, and sound bytes to begin with.
pub struct Decoder {
    /// As in `fuzz/fuzz_targets/<name>.rs`.
    pub name: &'static str,
    /// Panics where the decoder breaks its word.
    pub run: fn(&[u8]),
    /// Bytes that it decodes, to be damaged.
    pub examples: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "pack_header",
        run: pack_header,
        examples: stored::pack_headers,
    },
    Decoder {
        name: "index_file",
        run: index_file,
        examples: stored::index_files,
    },
    Decoder {
        name: "index_table",
        run: index_table,
        examples: stored::index_tables,
    },
    Decoder {
        name: "sealed_blob",
        run: sealed_blob,
        examples: stored::sealed_blobs,
    },
    Decoder {
        name: "sealed_file",
        run: sealed_file,
        examples: stored::sealed_files,
    },
    Decoder {
        name: "snapshot",
        run: snapshot,
        examples: records::snapshots,
    },
    Decoder {
        name: "manifest",
        run: manifest,
        examples: records::manifests,
    },
    Decoder {
        name: "config",
        run: config,
        examples: records::configs,
    },
    Decoder {
        name: "key_file",
        run: key_file,
        examples: records::key_files,
    },
    Decoder {
        name: "lock_file",
        run: lock_file,
        examples: records::lock_files,
    },
    Decoder {
        name: "tree",
        run: tree,
        examples: trees::trees,
    },
    Decoder {
        name: "tree_restore",
        run: tree_restore,
        examples: trees::planted_trees,
    },
    Decoder {
        name: "image",
        run: image,
        examples: trees::planted_images,
    },
    Decoder {
        name: "backup_url",
        run: backup_url,
        examples: urls::backup_urls,
    },
    Decoder {
        name: "destination",
        run: destination,
        examples: urls::destinations,
    },
    Decoder {
        name: "convoy_records",
        run: convoy_records,
        examples: super::convoy::fuzzing::records_examples,
    },
    Decoder {
        name: "convoy_block",
        run: convoy_block,
        examples: super::convoy::fuzzing::blocks,
    },
    Decoder {
        name: "convoy_archive",
        run: convoy_archive,
        examples: super::convoy::fuzzing::archives,
    },
];

/// The key under which everything is sealed here: an attacker who has the password can do the same.
fn key() -> Key {
    Key::from_bytes(&[7; 64])
}
