//! Tests of trees on real filesystems, judged by rsync, du and the status of every entry.

mod clone;
mod hostile;
mod remove;
mod stable;

use std::path::Path;

use crate::sys::testing::{has_program, sh};

/// A tree with one of everything, made by other programs than ours.
const EVERYTHING: &str = r#"
    mkdir plain deep empty shared
    head -c 300000 /dev/urandom > plain/data; : > plain/empty; printf x > plain/one
    chmod 4755 plain/one; chmod 2755 plain; chmod 1777 shared; chmod 000 plain/empty
    truncate -s 50M sparse; printf tail | dd of=sparse bs=1 seek=30000000 conv=notrunc status=none
    fallocate -l 100000 allocated
    ln -s plain/data link; ln -s /nonexistent/absolute dangling; ln -s "$(printf 'a%.0s' {1..300})" long
    ln plain/data shared/hard1; ln plain/data hard2; ln -P link link-hard
    mkfifo fifo; mknod chr c 1 3; mknod blk b 7 200; ln fifo shared/fifo-hard
    python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind("sock")'
    touch -- "$(printf 'bad\xff\xfename')" "$(printf 'new\nline')" "  spaces  " "-rf" "*"
    chown 1234:5678 plain/data fifo; chown -h 4321:8765 link dangling; chown 77:88 deep
    setfattr -n user.color -v blue plain/data; setfattr -n user.empty plain/data
    setfattr -n user.big -v "$(printf 'v%.0s' {1..400})" deep; setfattr -n trusted.mark -v t plain
    setfattr -h -n trusted.link -v on-the-link link; setfattr -n trusted.fifo -v f fifo
    setfacl -m u:1000:rw,g:2000:r plain/data; setfacl -d -m u:1000:rwx,o::- deep; setfacl -m g:3000:x empty
    mkdir deep/1 deep/1/2; echo inherited > deep/1/2/f
    setcap cap_net_raw+ep plain/one 2>/dev/null || true
    touch -hd '2001-02-03 04:05:06.123456789' link plain/data shared chr
    touch -d '1969-12-31 23:00:00.5' plain/empty; touch -ad '2010-01-01 00:00:00.000000001' hard2
    touch -d '2011-11-11 11:11:11.111111111' deep/1 empty
"#;

/// Whether the programs that make and judge trees are there.
fn ready() -> bool {
    ["rsync", "setfattr", "setfacl", "python3"]
        .iter()
        .all(|program| has_program(program))
}

fn make_everything(dir: &Path) {
    std::fs::create_dir(dir).expect("a directory");
    sh(&format!("cd {}; {EVERYTHING}", quoted(dir)));
    sh(&format!(
        "touch -d '2012-12-12 12:12:12.121212121' {}",
        quoted(dir)
    ));
}

/// Two trees are the same by all that rsync, stat and getfattr can see. (XFS shows each ACL a second
/// time, and snapshots of reflinks have notes.)
fn assert_same(source: &Path, target: &Path) {
    assert_eq!(differences(source, target), "");
}

fn differences(source: &Path, target: &Path) -> String {
    let status = "find . -printf '%P %y %m %U:%G %n %T@ %A@ %l\n' | sort; \
        find . -type b,c -exec stat -c '%n %t:%T' {} + | sort";
    let attributes = "getfattr -Rhd -m '^[^t]|^trusted[.][^w]' . | sed /SGI_ACL/d | sort";
    let (source, target) = (quoted(source), quoted(target));
    let both = |command| format!("diff <(cd {source}; {command}) <(cd {target}; {command}) || true");
    sh(&both(status))
        + &sh(&both(attributes))
        + &sh(&format!(
            "rsync -nacAXHi --delete --super --numeric-ids --filter='-x trusted.SGI_ACL_*' \
             --filter='-x trusted.windlass.*' {source}/ {target}/"
        ))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// Lets every ctime become old enough to prove something.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(80));
}
