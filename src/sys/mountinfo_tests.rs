//! Tests of the mountinfo parser: known lines, damaged lines, random lines, long lists, and this machine's own.

use super::*;
use proptest::prelude::*;

fn parse_text(content: &str) -> Vec<MountEntry> {
    parse(content.as_bytes(), Path::new("test")).expect("it parses")
}

#[test]
fn line_of_the_manual() {
    let entries = parse_text(
        "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 future:x - ext3 /dev/root rw,errors=continue\n",
    );
    assert_eq!(
        entries,
        [MountEntry {
            id: 36,
            parent: 35,
            device: (98, 0),
            root: "/mnt1".into(),
            mount_point: "/mnt2".into(),
            options: "rw,noatime".into(),
            propagation: Peers {
                shared: Some(7),
                master: Some(1),
                unbindable: false
            },
            fs_type: "ext3".into(),
            source: "/dev/root".into(),
            super_options: "rw,errors=continue".into(),
        }]
    );
    assert!(entries[0].has_option("noatime") && entries[0].has_option("errors"));
    assert!(!entries[0].has_option("error") && !entries[0].has_option("atime"));
}

#[test]
fn escapes_strange_bytes_and_empty_fields() {
    let line = b"1 0 0:5 / /a\\040b\\011c\\012d\\134e\xff\\xrest rw unbindable - tmpfs  rw,x=\\054 y\n";
    let entries = parse(line, Path::new("test")).expect("it parses");
    assert_eq!(
        entries[0].mount_point.as_os_str().as_bytes(),
        b"/a b\tc\nd\\e\xff\\xrest"
    );
    assert_eq!(entries[0].source, "");
    assert_eq!(entries[0].super_options, "rw,x=, y");
    assert!(entries[0].propagation.unbindable);
}

#[test]
fn damaged_lines_are_errors_that_name_the_line() {
    let good = "36 35 98:0 / /mnt rw - ext3 /dev/root rw\n";
    for bad in [
        "x",
        "36 35 98:0 / /mnt rw",
        "36 35 980 / /mnt rw - ext3 d rw",
        "36 35 98:0 / /mnt rw - ext3 d",
    ] {
        match parse(format!("{good}{bad}\n").as_bytes(), Path::new("test")) {
            Err(SysError::Malformed { line: 2, content, .. }) => assert_eq!(content, bad),
            other => panic!("{bad}: {other:?}"),
        }
    }
}

#[test]
fn top_of_a_stack_is_found_in_any_order_of_lines() {
    let lines = [
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
        "10 1 0:9 / /v rw - tmpfs low rw",
        "11 10 0:10 / /v rw - tmpfs middle rw",
        "12 11 0:11 / /v rw - tmpfs high rw",
        "13 1 0:12 / /vv rw - tmpfs other rw",
    ];
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 3, 0, 1], [3, 1, 2, 4, 0]] {
        let mounts = parse_text(&order.map(|n| lines[n]).join("\n"));
        let stack = find_at(&mounts, "/v").expect("mounted");
        assert_eq!(
            (stack.top.source.to_str(), stack.count),
            (Some("high"), 3),
            "{order:?}"
        );
        assert_eq!(find_at(&mounts, "/absent"), None);
        let source = |path: &str| find_containing(&mounts, path).expect("contained").source.clone();
        assert_eq!(source("/v/x/y"), "high");
        assert_eq!(source("/vvv"), "/dev/sda1");
        assert_eq!(find_below(&mounts, "/v").count(), 3);
    }
}

#[test]
fn fifty_thousand_mounts_take_no_time() {
    let mut content = String::from("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
    for n in 2..50_000 {
        content += &format!(
            "{n} {} 0:9 /volumes/{n} /v rw shared:{n} - tmpfs volume{n} rw\n",
            n - 1
        );
    }
    let start = std::time::Instant::now();
    let mounts = parse_text(&content);
    let stack = find_at(&mounts, "/v").expect("mounted");
    assert_eq!((stack.count, stack.top.id), (49_998, 49_999));
    assert_eq!(find_containing(&mounts, "/v/x").expect("contained").id, 49_999);
    // Quadratic work would take minutes here; this takes a tenth of a second unoptimised.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn own_mounts_agree_with_the_kernel() {
    // Other tests mount and unmount below the directory of scratch files meanwhile.
    let lasting = |mounts: Result<Vec<MountEntry>>| {
        let mut mounts = mounts.expect("readable");
        mounts.retain(|mount| !mount.mount_point.starts_with(std::env::temp_dir()));
        mounts
    };
    let mounts = lasting(read_self());
    assert!(!mounts.is_empty());
    assert_eq!(mounts, lasting(read_pid(std::process::id() as i32)));
    let proc = mount_of("/proc/self").expect("readable").expect("listed");
    assert_eq!(
        (proc.fs_type.as_str(), proc.mount_point.as_path()),
        ("proc", Path::new("/proc"))
    );
    assert!(read_pid(i32::MAX).expect_err("no such process").is_not_found());
}

/// As the kernel's mangle() does it.
fn escape(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            _ => vec![*byte],
        })
        .collect()
}

fn any_path() -> impl Strategy<Value = OsString> {
    proptest::collection::vec(1u8..=255, 0..40)
        .prop_map(|bytes| OsString::from_vec([b"/".to_vec(), bytes].concat()))
}

fn any_entry() -> impl Strategy<Value = MountEntry> {
    let peers = (any::<Option<u64>>(), any::<Option<u64>>(), any::<bool>()).prop_map(
        |(shared, master, unbindable)| Peers {
            shared,
            master,
            unbindable,
        },
    );
    let texts = ("[a-z,=]{1,20}", "[a-z0-9.]{1,12}", any_path(), any_path());
    (
        any::<(u64, u64)>(),
        any::<Device>(),
        any_path(),
        any_path(),
        peers,
        texts,
    )
        .prop_map(
            |(
                (id, parent),
                device,
                root,
                mount_point,
                propagation,
                (options, fs_type, source, super_options),
            )| MountEntry {
                id,
                parent,
                device,
                root: root.into(),
                mount_point: mount_point.into(),
                options,
                propagation,
                fs_type,
                source,
                super_options,
            },
        )
}

fn print(entry: &MountEntry) -> Vec<u8> {
    let MountEntry {
        id,
        parent,
        device: (major, minor),
        options,
        fs_type,
        ..
    } = entry;
    let mut line = format!("{id} {parent} {major}:{minor} ").into_bytes();
    for path in [&entry.root, &entry.mount_point] {
        line.extend(escape(path.as_os_str().as_bytes()));
        line.push(b' ');
    }
    line.extend(options.as_bytes());
    for (name, group) in [
        ("shared", entry.propagation.shared),
        ("master", entry.propagation.master),
    ] {
        if let Some(group) = group {
            line.extend(format!(" {name}:{group}").as_bytes());
        }
    }
    line.extend(
        if entry.propagation.unbindable {
            " unbindable"
        } else {
            ""
        }
        .as_bytes(),
    );
    line.extend(format!(" - {fs_type} ").as_bytes());
    line.extend(escape(entry.source.as_bytes()));
    line.push(b' ');
    line.extend(escape(entry.super_options.as_bytes()));
    line.push(b'\n');
    line
}

proptest! {
    #[test]
    fn what_a_kernel_prints_is_read_back(entries in proptest::collection::vec(any_entry(), 0..8)) {
        let content: Vec<u8> = entries.iter().flat_map(print).collect();
        prop_assert_eq!(parse(&content, Path::new("test")).expect("it parses"), entries);
    }

    #[test]
    fn any_bytes_at_all_are_an_answer_or_an_error(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&content, Path::new("test"));
    }
}
