//! Archives that were made to lead astray, and those that other tars write: built here byte by byte, or by tar(1).

use std::io::Write;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// A tar header with these fields, and its checksum.
fn header(path: &[u8], kind: u8, link: &[u8], size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    header[..path.len()].copy_from_slice(path);
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(format!("{:07o}", nix::unistd::Uid::effective().as_raw()).as_bytes());
    header[116..123].copy_from_slice(format!("{:07o}", nix::unistd::Gid::effective().as_raw()).as_bytes());
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(b"00000000001");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link);
    header[257..265].copy_from_slice(b"ustar\x0000");
    sign(&mut header);
    header
}

fn sign(header: &mut [u8; 512]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn entry(path: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = header(path.as_bytes(), kind, link.as_bytes(), data.len() as u64).to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzip(bytes: &[u8]) -> bytes::Bytes {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).expect("compressed");
    writer.finish().expect("compressed").into()
}

/// Unpacks entries with an end mark behind them into `target`, in place of a fixture's archive.
fn unpack(entries: &[Vec<u8>], target: &Path) -> Result<Unpacked> {
    unpack_raw(&[entries.concat(), vec![0; 1024]].concat(), target)
}

fn unpack_raw(tar: &[u8], target: &Path) -> Result<Unpacked> {
    let mut objects = fixture_objects();
    let archive = objects
        .keys()
        .find(|path| path.ends_with("a3.bak"))
        .expect("an archive")
        .clone();
    objects.insert(archive, gzip(tar));
    let reader = reader(&objects);
    let backup = reader.backup(TREE_VOLUME, "backup-3c4d5e6f708192a3")?;
    reader.restore_tree(&backup, target, &Progress::default())
}

/// A scratch directory with `root` to unpack into, and `outside` with a file that must stay as it is.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir(dir.path().join("root")).expect("made");
        std::fs::create_dir(dir.path().join("outside")).expect("made");
        std::fs::write(dir.path().join("outside/secret"), "secret").expect("written");
        Self(dir)
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }

    fn assert_untouched(&self, what: &str) {
        let outside = listing(&self.0.path().join("outside"));
        assert_eq!(outside.len(), 2, "{what}: {outside:?}");
        let secret = self.0.path().join("outside/secret");
        assert_eq!(std::fs::read(&secret).expect("read"), b"secret", "{what}");
        assert_eq!(secret.metadata().expect("there").nlink(), 1, "{what}");
    }
}

fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), &rest].concat()
}

#[test]
fn no_entry_leads_out_of_the_volume() {
    let scene = Scene::new();
    let outside = scene.0.path().join("outside");
    let absolute = format!("{}/new", outside.display());
    let long = |kind, name: &str| entry("././@LongLink", kind, "", format!("{name}\0").as_bytes());
    let file = |path: &str| entry(path, b'0', "", b"evil");
    let link = |path: &str, to: &str| entry(path, b'2', to, b"");
    let way = link("way", "../outside");
    let cases = [
        ("up", vec![file("../outside/new")]),
        ("up later", vec![file("a/../../outside/new")]),
        ("absolute", vec![file(&absolute)]),
        ("absolute in a long name", vec![long(b'L', &absolute), file("x")]),
        (
            "up in a pax header",
            vec![entry("p", b'x', "", &pax("path", b"../outside/new")), file("x")],
        ),
        (
            "up in a global header",
            vec![entry("p", b'g', "", &pax("path", b"../outside/new")), file("x")],
        ),
        ("through a link", vec![way.clone(), file("way/new")]),
        (
            "through an absolute link",
            vec![link("way", outside.to_str().expect("ASCII")), file("way/secret")],
        ),
        (
            "through two links",
            vec![link("a", "b"), link("b", "../outside"), file("a/new")],
        ),
        (
            "a directory through a link",
            vec![way.clone(), entry("way/new", b'5', "", b"")],
        ),
        ("a link through a link", vec![way.clone(), link("way/new", "x")]),
        (
            "a node through a link",
            vec![way.clone(), entry("way/new", b'6', "", b"")],
        ),
        (
            "a hard link up",
            vec![entry("h", b'1', "../outside/secret", b""), file("h")],
        ),
        (
            "a hard link through a link",
            vec![way.clone(), entry("h", b'1', "way/secret", b"")],
        ),
        (
            "a hard link to an absolute path",
            vec![entry("h", b'1', &format!("{}/secret", outside.display()), b"")],
        ),
        ("a hard link to the root", vec![entry("h", b'1', "./", b"")]),
        (
            "a long hard link",
            vec![long(b'K', "../outside/secret"), entry("h", b'1', "x", b"")],
        ),
        ("the root as a link", vec![link(".", "../outside"), file("new")]),
        (
            "the root as a file",
            vec![file("./")[..512].to_vec(), file("new")],
        ),
        ("no path", vec![file("")]),
    ];
    for (what, entries) in cases {
        let target = tempfile::tempdir_in(scene.0.path()).expect("a target");
        // `..` of the target has `outside` in it.
        let result = unpack(&entries, target.path());
        assert!(
            result.is_err() || what == "the root as a file",
            "{what}: {result:?}"
        );
        scene.assert_untouched(what);
    }
}

#[test]
fn a_link_that_is_replaced_takes_nothing_with_it() {
    let scene = Scene::new();
    // A directory, a file, and attributes over what was a link.
    let entries = [
        entry("a", b'2', "../outside", b""),
        entry("a", b'5', "", b""),
        entry("a/f", b'0', "", b"inside"),
        entry("b", b'2', "../outside/secret", b""),
        entry("b", b'0', "", b"mine"),
        // A hard link to a link is another name of the link, not of what it leads to.
        entry("c", b'2', "../outside/secret", b""),
        entry("d", b'1', "c", b""),
        entry("d", b'0', "", b"mine"),
    ];
    unpack(&entries, &scene.root()).expect("unpacked");
    scene.assert_untouched("replaced");
    assert_eq!(std::fs::read(scene.root().join("a/f")).expect("read"), b"inside");
    assert_eq!(std::fs::read(scene.root().join("b")).expect("read"), b"mine");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let scene = Scene::new();
    let good = entry("f", b'0', "", b"data");
    let mut flipped = good.clone();
    flipped[0] = b'g';
    let mut negative = header(b"f", b'0', b"", 0);
    negative[124..136].fill(0xff);
    sign(&mut negative);
    let mut huge = header(b"f", b'0', b"", 0);
    huge[124..136].fill(0xff);
    huge[124] = 0x80;
    sign(&mut huge);
    let whole = |entries: &[u8]| [entries, &[0; 1024]].concat();
    let cases = [
        ("a wrong checksum", whole(&flipped)),
        ("a negative size", whole(&negative)),
        ("a huge size", whole(&huge)),
        ("no end mark", good.clone()),
        ("half an end mark", [&good[..], &[0; 512]].concat()),
        (
            "an entry after the end mark",
            [whole(&good), good.clone()].concat(),
        ),
        ("cut in a header", good[..300].to_vec()),
        ("cut in the data", header(b"f", b'0', b"", 5000).to_vec()),
        ("nothing", Vec::new()),
        ("text", b"no tar".repeat(1000)),
        ("a directory with data", whole(&entry("d", b'5', "", b"data"))),
        ("an unknown kind", whole(&entry("f", b'Q', "", b""))),
        ("an empty link", whole(&entry("l", b'2', "", b""))),
        ("a pax header of 1 GiB", whole(&header(b"p", b'x', b"", 1 << 30))),
        ("a long name of 1 GiB", whole(&header(b"p", b'L', b"", 1 << 30))),
        (
            "a pax header at the end",
            whole(&entry("p", b'x', "", &pax("path", b"a"))),
        ),
        (
            "a malformed pax header",
            whole(&[entry("p", b'x', "", b"99 a=b\n"), good.clone()].concat()),
        ),
        (
            "a pax size beyond all",
            whole(
                &[
                    entry("p", b'x', "", &pax("size", b"18446744073709551615")),
                    good.clone(),
                ]
                .concat(),
            ),
        ),
        (
            "an owner that is none",
            whole(&[entry("p", b'x', "", &pax("uid", b"4294967295")), good.clone()].concat()),
        ),
        ("a hard link to nothing", whole(&entry("h", b'1', "absent", b""))),
        ("a hard link to itself", whole(&entry("h", b'1', "h", b""))),
        (
            "a file in place of a directory",
            whole(&[entry("f", b'5', "", b""), good.clone()].concat()),
        ),
        (
            "an ACL in words",
            whole(
                &[
                    entry("p", b'x', "", &pax("SCHILY.acl.access", b"user::rwx")),
                    good.clone(),
                ]
                .concat(),
            ),
        ),
    ];
    for (what, tar) in cases {
        let target = tempfile::tempdir_in(scene.0.path()).expect("a target");
        let result = unpack_raw(&tar, target.path());
        assert!(result.is_err(), "{what}: {result:?}");
        scene.assert_untouched(what);
    }
}

#[test]
fn sparse_files_that_lie_are_refused() {
    let scene = Scene::new();
    let numbers = |values: &[u64]| -> Vec<u8> {
        let mut text: Vec<u8> = values
            .iter()
            .flat_map(|value| format!("{value}\n").into_bytes())
            .collect();
        text.resize(text.len().next_multiple_of(512), 0);
        text
    };
    let sparse = |map: &[u64], size: &[u8], data: usize| {
        let keys = [
            pax("GNU.sparse.major", b"1"),
            pax("GNU.sparse.minor", b"0"),
            pax("GNU.sparse.name", b"s"),
            pax("GNU.sparse.realsize", size),
        ];
        let body = [numbers(map), vec![7; data]].concat();
        vec![entry("p", b'x', "", &keys.concat()), entry("x", b'0', "", &body)]
    };
    let good = unpack(&sparse(&[2, 512, 512, 4096, 100], b"9000", 612), &scene.root());
    good.expect("a good one is unpacked");
    let content = std::fs::read(scene.root().join("s")).expect("read");
    assert_eq!(content.len(), 9000);
    let data: Vec<usize> = (0..9000).filter(|at| content[*at] == 7).collect();
    assert_eq!(
        (data.len(), data[0], data[512], data[611]),
        (612, 512, 4096, 4195)
    );
    let cases = [
        ("beyond the size", sparse(&[1, 8999, 2], b"9000", 2)),
        ("backwards", sparse(&[2, 512, 512, 100, 100], b"9000", 612)),
        ("too little data", sparse(&[1, 0, 600], b"9000", 100)),
        ("too much data", sparse(&[1, 0, 100], b"9000", 600)),
        ("more stretches than lines", sparse(&[1 << 40], b"9000", 0)),
        ("overflow", sparse(&[1, u64::MAX, 2], b"9000", 2)),
        ("a size beyond all", sparse(&[0], b"18446744073709551615", 0)),
        (
            "another version",
            vec![
                entry("p", b'x', "", &pax("GNU.sparse.major", b"2")),
                entry("x", b'0', "", b""),
            ],
        ),
        (
            "the oldest version",
            vec![
                entry("p", b'x', "", &pax("GNU.sparse.map", b"0,1")),
                entry("x", b'0', "", b""),
            ],
        ),
    ];
    for (what, entries) in cases {
        let target = tempfile::tempdir_in(scene.0.path()).expect("a target");
        assert!(unpack(&entries, target.path()).is_err(), "{what}");
    }
}

/// What tar itself unpacks to is what we unpack to, in all formats that GNU tar writes.
#[test]
fn archives_of_tar_unpack_as_tar_does() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let source = scene.0.path().join("source");
    std::fs::create_dir_all(source.join("d/e")).expect("made");
    let long = "n".repeat(200);
    std::fs::write(source.join("d").join(&long), "long").expect("written");
    std::os::unix::fs::symlink("x".repeat(300), source.join("d/link")).expect("a link");
    std::fs::hard_link(source.join("d").join(&long), source.join("hard")).expect("a link");
    let sparse = std::fs::File::create(source.join("sparse")).expect("made");
    sparse.set_len(40 << 20).expect("grown");
    for at in 0..30 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", at << 20).expect("written");
    }
    nix::unistd::chown(&source.join("sparse"), Some(70000.into()), Some(3_000_000.into())).expect("owned");
    let attributes = xattr::set(source.join("hard"), "user.note", b"a\0=b").is_ok();
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse"],
        &["--format=posix", "--xattrs"],
    ] {
        let output = Command::new("tar")
            .arg("-c")
            .args(options)
            .arg("-C")
            .arg(&source)
            .arg(".")
            .output();
        let output = output.expect("tar runs");
        assert!(output.status.success(), "{output:?}");
        let target = tempfile::tempdir_in(scene.0.path()).expect("a target");
        unpack_raw(&output.stdout, target.path()).expect("unpacked");
        assert_eq!(listing(target.path()), listing(&source), "{options:?}");
        assert!(target.path().join("sparse").metadata().expect("there").blocks() * 512 < 10 << 20);
        if attributes && options.contains(&"--xattrs") {
            let value = xattr::get(target.path().join("hard"), "user.note").expect("read");
            assert_eq!(value.as_deref(), Some(&b"a\0=b"[..]));
        }
    }
}

#[test]
fn old_tars_directories_and_contiguous_files() {
    let scene = Scene::new();
    let mut old = header(b"d/", 0, b"", 0);
    old[257..265].fill(0);
    sign(&mut old);
    let mut before = header(b"f", b'7', b"", 1);
    before[136..148].fill(0xff);
    sign(&mut before);
    let mut last = before.to_vec();
    last.extend([b'x'; 1]);
    last.resize(1024, 0);
    unpack(&[old.to_vec(), last], &scene.root()).expect("unpacked");
    assert!(scene.root().join("d").is_dir());
    assert_eq!(scene.root().join("f").metadata().expect("there").mtime(), -1);
}

#[test]
fn a_bomb_of_zeros_takes_no_space() {
    let scene = Scene::new();
    let size = 200 << 20;
    let mut tar = header(b"bomb", b'0', b"", size).to_vec();
    tar.resize(tar.len() + size as usize + 1024, 0);
    unpack_raw(&tar, &scene.root()).expect("unpacked");
    let stat = scene.root().join("bomb").metadata().expect("there");
    assert_eq!(stat.len(), size);
    assert!(stat.blocks() < 100);
}

/// An archive with an entry of every kind, and where its headers are.
fn variety() -> (Vec<u8>, Vec<usize>) {
    let keys = [
        pax("mtime", b"1.5"),
        pax("path", b"./d/renamed"),
        pax("SCHILY.xattr.user.a", b"b"),
    ];
    let map = [
        pax("GNU.sparse.major", b"1"),
        pax("GNU.sparse.minor", b"0"),
        pax("GNU.sparse.realsize", b"9000"),
    ];
    let mut numbers = b"1\n512\n100\n".to_vec();
    numbers.resize(512, 0);
    let entries = [
        entry("./", b'5', "", b""),
        entry("./d", b'5', "", b""),
        entry("./d/f", b'0', "", b"data"),
        entry("./up", b'2', "../outside", b""),
        entry("./h", b'1', "./d/f", b""),
        entry("./p", b'6', "", b""),
        entry("././@LongLink", b'L', "", b"./d/long\0"),
        entry("short", b'0', "", &[1; 1000]),
        entry("././@LongLink", b'K', "", b"../outside/secret\0"),
        entry("./l", b'2', "short", b""),
        entry("x", b'x', "", &keys.concat()),
        entry("y", b'0', "", b"more"),
        entry("x", b'x', "", &map.concat()),
        entry("./sparse", b'0', "", &[numbers, vec![7; 100]].concat()),
    ];
    let mut at = 0;
    let offsets = entries.iter().map(|entry| {
        at += entry.len();
        at - entry.len()
    });
    let offsets = offsets.collect();
    ([entries.concat(), vec![0; 1024]].concat(), offsets)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Headers changed at random, with right checksums, and any other bytes: nothing panics and nothing gets out.
    #[test]
    fn no_mutation_leads_out(
        headers in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..512, any::<u8>()), 1..6),
        bytes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        names in proptest::collection::vec((any::<prop::sample::Index>(), "(\\.\\./|up/|d/|secret|outside/|/|[a-z0-7]){1,5}", any::<bool>()), 0..4),
        kinds in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"01256LKxgS7".to_vec())), 0..3),
    ) {
        let scene = Scene::new();
        let (mut tar, offsets) = variety();
        for (index, value) in bytes {
            let at = index.index(tar.len());
            tar[at] = value;
        }
        for (index, name, link) in names {
            let at = offsets[index.index(offsets.len())] + if link { 157 } else { 0 };
            tar[at..at + 100].fill(0);
            tar[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
        for (index, kind) in kinds {
            tar[offsets[index.index(offsets.len())] + 156] = kind;
        }
        for (index, field, value) in headers {
            tar[offsets[index.index(offsets.len())] + field] = value;
        }
        for at in offsets {
            let header = (&mut tar[at..at + 512]).try_into().expect("512 bytes");
            sign(header);
        }
        let _ = unpack_raw(&tar, &scene.root());
        scene.assert_untouched("mutated");
    }
}

#[test]
fn the_archive_that_is_mutated_is_a_good_one() {
    let scene = Scene::new();
    let (tar, _) = variety();
    let done = unpack_raw(&tar, &scene.root()).expect("unpacked");
    assert_eq!(done.entries, 10);
    assert_eq!(
        std::fs::read(scene.root().join("d/renamed")).expect("read"),
        b"more"
    );
}
