//! Trees as bytes: what restic writes, what nobody may write, and that nothing is lost on the way.

use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

use super::*;

fn node(name: &[u8], kind: NodeKind) -> Node {
    let time = FileTime {
        secs: 1_700_000_000,
        nanos: 120_000_000,
    };
    Node {
        name: OsString::from_vec(name.to_vec()),
        kind,
        mode: 0o644,
        mtime: time,
        atime: time,
        ctime: time,
        uid: 0,
        gid: 5,
        user: "root".into(),
        group: String::new(),
        inode: 7,
        device_id: 0,
        links: 0,
        xattrs: Vec::new(),
    }
}

fn encoded(node: Node) -> String {
    let bytes = Tree { nodes: vec![node] }.encode();
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

#[test]
fn a_tree_is_written_as_restic_writes_it() {
    let id = Id([0xab; 32]);
    let digits = "ab".repeat(32);
    assert_eq!(Tree::default().encode(), b"{\"nodes\":[]}\n");
    let content = vec![id, id];
    let mut file = node(b"a<\xff\n", NodeKind::File { size: 9, content });
    file.mode = 0o4755;
    file.links = 1;
    file.xattrs.push(Xattr {
        name: "user.x".into(),
        value: b"\0\xff".to_vec(),
    });
    assert_eq!(
        encoded(file),
        format!(
            "{{\"nodes\":[{{\"name\":\"a\\u003c\\\\xff\\\\n\",\"type\":\"file\",\"mode\":8389101,\
             \"mtime\":\"2023-11-14T22:13:20.12Z\",\"atime\":\"2023-11-14T22:13:20.12Z\",\
             \"ctime\":\"2023-11-14T22:13:20.12Z\",\"uid\":0,\"gid\":5,\"user\":\"root\",\"inode\":7,\"size\":9,\"links\":1,\
             \"extended_attributes\":[{{\"name\":\"user.x\",\"value\":\"AP8=\"}}],\
             \"content\":[\"{digits}\",\"{digits}\"]}}]}}\n"
        )
    );
    let mut dir = node(b"d", NodeKind::Dir { subtree: id });
    dir.mode = 0o1777;
    assert!(encoded(dir).ends_with(&format!(",\"content\":null,\"subtree\":\"{digits}\"}}]}}\n")));
    let target = OsString::from_vec(b"x\xff".to_vec());
    let link = encoded(node(b"l", NodeKind::Symlink { target }));
    assert!(
        link.contains("\"linktarget\":\"x\\ufffd\",\"linktarget_raw\":\"eP8=\""),
        "{link}"
    );
}

#[test]
fn names_are_quoted_as_go_does() {
    for (name, quoted) in [
        (&b"plain name"[..], "plain name"),
        (b"a\x07\x08\x0c\n\r\t\x0b\"\\'", "a\\a\\b\\f\\n\\r\\t\\v\\\"\\\\'"),
        (b"\x01\x7f", "\\x01\\x7f"),
        ("é日本\u{1f600}e\u{301}".as_bytes(), "é日本\u{1f600}e\u{301}"),
        (
            "\u{a0}\u{ad}\u{200b}\u{feff}\u{e0001}".as_bytes(),
            "\\u00a0\\u00ad\\u200b\\ufeff\\U000e0001",
        ),
        (b"\xff\xe6\x97", "\\xff\\xe6\\x97"),
        ("\u{fffd}".as_bytes(), "\u{fffd}"),
    ] {
        assert_eq!(quote::quote(name), quoted);
        assert_eq!(quote::unquote(quoted).as_deref(), Some(name), "{quoted}");
    }
    assert_eq!(quote::unquote("\\101\\U00000041").as_deref(), Some(&b"AA"[..]));
    for bad in [
        "\\", "\\q", "\\x1", "\\x+1", "\\u12", "\\ud800", "\\400", "\\'", "a\"b", "a\nb", "\\xé",
    ] {
        assert_eq!(quote::unquote(bad), None, "{bad}");
    }
}

#[test]
fn hostile_trees_are_refused_with_the_entry_that_is_wrong() {
    let fifo =
        |name: &str| format!("{{\"name\":{name:?},\"type\":\"fifo\",\"uid\":0,\"gid\":0,\"content\":null}}");
    let tree = |nodes: &[String]| format!("{{\"nodes\":[{}]}}", nodes.join(","));
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "\\x00",
        "\\x2f",
        "\\q",
        &"x".repeat(4097),
    ] {
        let error = Tree::decode(tree(&[fifo(name)]).as_bytes()).expect_err(name);
        assert!(error.0.contains("no name of a directory entry"), "{error}");
    }
    for names in [["b", "a"], ["a", "a"], ["a", "\\x61"]] {
        let error = Tree::decode(tree(&names.map(fifo)).as_bytes()).expect_err("unordered");
        assert!(error.0.contains("twice or out of order"), "{error}");
    }
    let digits = "ab".repeat(32);
    for (node, why) in [
        ("\"type\":\"dir\"".to_owned(), "without its tree"),
        ("\"type\":\"file\",\"size\":3".to_owned(), "without its content"),
        ("\"type\":\"symlink\"".to_owned(), "lead nowhere"),
        (
            "\"type\":\"symlink\",\"linktarget\":\"a\\u0000\"".to_owned(),
            "lead nowhere",
        ),
        (
            "\"type\":\"symlink\",\"linktarget_raw\":\"?\"".to_owned(),
            "no base64",
        ),
        ("\"type\":\"door\"".to_owned(), "\"door\" is unknown"),
        (
            "\"type\":\"fifo\",\"mtime\":\"yesterday\"".to_owned(),
            "a time that is none",
        ),
        (
            "\"type\":\"file\",\"content\":[\"ab\"]".to_owned(),
            "makes no sense",
        ),
        (
            format!("\"type\":\"dir\",\"subtree\":\"{digits}\",\"subtree\":\"{digits}\""),
            "duplicate field",
        ),
        ("\"type\":\"fifo\",\"uid\":-1".to_owned(), "makes no sense"),
        (
            "\"type\":\"fifo\",\"extended_attributes\":[{\"name\":\"\"}]".to_owned(),
            "without a proper name",
        ),
    ] {
        let text = tree(&[format!("{{\"name\":\"n\",{node}}}")]);
        let error = Tree::decode(text.as_bytes()).expect_err(&text);
        assert!(error.0.contains(why), "{text}: {error}");
    }
    for text in ["", "{}x", "[]", "{\"nodes\":{}}", &"[".repeat(1000)] {
        assert!(Tree::decode(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn what_restic_writes_on_other_hosts_is_read() {
    let text = r#"{"nodes":[{"name":"f","type":"file","mode":420,"mtime":"2021-03-01T12:00:00.5+01:30",
        "atime":"0001-01-01T00:00:00Z","ctime":"1969-12-31T23:59:59.75Z","uid":501,"gid":20,"user":"me","inode":9,
        "device_id":16777220,"size":0,"links":1,"generic_attributes":{"windows.creation_time":"x"},"content":null}]}"#;
    let tree = Tree::decode(text.as_bytes()).expect("read");
    let node = tree.find(OsStr::new("f")).expect("there");
    let content = Vec::new();
    assert_eq!(node.kind, NodeKind::File { size: 0, content });
    assert_eq!(
        node.mtime,
        FileTime {
            secs: 1_614_594_600,
            nanos: 500_000_000
        }
    );
    assert_eq!(
        node.ctime,
        FileTime {
            secs: -1,
            nanos: 750_000_000
        }
    );
    assert_eq!(tree.find(OsStr::new("g")), None);
}

/// restic moves times after the year 9999 into that year, whatever their day; one of its last once made its whole
/// directory unreadable. What is before the year 0 cannot be written, and is not read as what could not be written again.
#[test]
fn times_at_both_ends_of_the_calendar_are_read_and_stay() {
    for (text, written) in [
        ("9999-12-31T23:59:59.5Z", "9999-12-30T22:00:00.999999999Z"),
        ("9999-12-31T00:00:00+14:00", "9999-12-30T10:00:00Z"),
        ("9999-06-01T00:00:00Z", "9999-06-01T00:00:00Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ("-000001-12-31T23:59:59.9Z", "0000-01-01T00:00:00Z"),
    ] {
        let tree = format!("{{\"nodes\":[{{\"name\":\"n\",\"type\":\"fifo\",\"mtime\":\"{text}\"}}]}}");
        let tree = Tree::decode(tree.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let again = String::from_utf8(tree.encode()).expect("JSON is UTF-8");
        assert!(
            again.contains(&format!("\"mtime\":\"{written}\"")),
            "{text}: {again}"
        );
        assert_eq!(Tree::decode(again.as_bytes()), Ok(tree));
    }
    for text in [
        "9999-12-32T00:00:00Z",
        "9999-",
        "9999-13-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
    ] {
        let tree = format!("{{\"nodes\":[{{\"name\":\"n\",\"type\":\"fifo\",\"mtime\":\"{text}\"}}]}}");
        assert!(Tree::decode(tree.as_bytes()).is_err(), "{text}");
    }
}

fn kinds() -> impl Strategy<Value = NodeKind> {
    let id = any::<[u8; 32]>().prop_map(Id);
    prop_oneof![
        (any::<u64>(), prop::collection::vec(id.clone(), 0..3))
            .prop_filter("a size needs content", |(size, content)| *size == 0
                || !content.is_empty())
            .prop_map(|(size, content)| NodeKind::File { size, content }),
        id.prop_map(|subtree| NodeKind::Dir { subtree }),
        prop::collection::vec(1..=255_u8, 1..20).prop_map(|target| NodeKind::Symlink {
            target: OsString::from_vec(target)
        }),
        any::<u64>().prop_map(|device| NodeKind::BlockDevice { device }),
        any::<u64>().prop_map(|device| NodeKind::CharDevice { device }),
        Just(NodeKind::Fifo),
        Just(NodeKind::Socket),
        Just(NodeKind::Irregular),
    ]
}

prop_compose! {
    fn nodes()(
        name in prop::collection::vec(any::<u8>(), 1..20).prop_filter("a name", |name| is_entry_name(name)),
        kind in kinds(),
        mode in 0..0o10000_u32,
        (secs, nanos) in (-62_167_219_200..253_370_000_000_i64, 0..1_000_000_000_u32),
        (uid, gid, inode, device_id, links) in any::<(u32, u32, u64, u64, u64)>(),
        (user, group) in any::<(String, String)>(),
        xattrs in prop::collection::vec(("[^\0]{1,9}", any::<Vec<u8>>()), 0..3),
    ) -> Node {
        let time = FileTime { secs, nanos };
        let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
        Node { name: OsString::from_vec(name), kind, mode, mtime: time, atime: time, ctime: time, uid, gid, user, group,
            inode, device_id, links, xattrs }
    }
}

proptest! {
    #[test]
    fn trees_come_back_as_they_were(nodes in prop::collection::vec(nodes(), 0..6)) {
        let mut nodes = nodes;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes.dedup_by(|a, b| a.name == b.name);
        let tree = Tree { nodes };
        prop_assert_eq!(Tree::decode(&tree.encode()), Ok(tree));
    }

    #[test]
    fn unquoting_never_panics(text in any::<String>()) {
        let _ = quote::unquote(&text);
        let _ = Tree::decode(text.as_bytes());
    }
}
