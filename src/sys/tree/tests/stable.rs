//! Several passes: which changes are noticed, and what moment the outcome shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{assert_same, differences, make_everything, ready, settle, sh};
use crate::sys::testing::{Kind, TestFs};
use crate::sys::tree::{Consistency, FileTime, How, Monitor, Source, Stat, clone_tree, clone_tree_stable};

/// Does something to the source after so many entries.
struct After<F: FnOnce() + Send> {
    entries: u64,
    seen: AtomicU64,
    action: Mutex<Option<F>>,
}

impl<F: FnOnce() + Send> After<F> {
    fn new(entries: u64, action: F) -> Self {
        Self {
            entries,
            seen: AtomicU64::new(0),
            action: Mutex::new(Some(action)),
        }
    }
}

impl<F: FnOnce() + Send> Monitor for After<F> {
    fn progress(&self, entries: u64, _bytes: u64) {
        let seen = self.seen.fetch_add(entries, Ordering::SeqCst) + entries;
        if seen >= self.entries
            && let Some(action) = self.action.lock().expect("no panic").take()
        {
            action();
        }
    }
}

fn fixtures() -> Vec<(TestFs, How)> {
    [
        (Kind::Xfs, How::Reflink),
        (Kind::Btrfs, How::Reflink),
        (Kind::Ext4, How::Copy),
    ]
    .into_iter()
    .filter_map(|(kind, how)| Some((TestFs::new(kind)?, how)))
    .collect()
}

#[test]
fn quiet_tree_is_a_point_in_time_after_two_passes() {
    if !ready() {
        return;
    }
    for (fs, how) in fixtures() {
        let (source, target) = (fs.path().join("v"), fs.path().join("clone"));
        make_everything(&source);
        settle();
        let report = clone_tree_stable(&source, &target, how, 5, &()).expect("cloned");
        assert_eq!((report.consistency, report.passes), (Consistency::PointInTime, 2));
        assert_same(&source, &target);
        let one = clone_tree_stable(&source, fs.path().join("one"), how, 1, &()).expect("cloned");
        assert_eq!(
            (one.consistency, one.passes),
            (Consistency::PerFile, 1),
            "one pass proves nothing"
        );
    }
}

/// Each is done when all entries have been copied once.
const CHANGES: [&str; 12] = [
    // Same size and, set back, same modification time: only the ctime tells.
    "touch -r plain/data /tmp/stamp.$$; printf changed | dd of=plain/data conv=notrunc status=none; \
        touch -r /tmp/stamp.$$ plain/data; rm /tmp/stamp.$$",
    "rm plain/one sparse; rm -r deep; rm fifo",
    "mkdir new new/d; echo a > new/d/f; ln -s f new/d/l",
    "mv deep moved",
    "mv deep aside; mkdir deep; echo other > deep/f; mv aside empty/",
    "rm -r empty; echo 'a file now' > empty; rm link; mkdir link; echo x > link/f; rm chr; ln -s plain chr",
    "chmod 640 plain/data; chown 9:9 shared/fifo-hard; setfattr -n user.new -v 1 deep; setfattr -x user.color hard2",
    "ln plain/data hard3; rm shared/hard1; ln link-hard link3",
    "rm hard2; cp -a plain/data hard2",
    "truncate -s 1000 sparse; setfacl -b plain/data; touch -hd 2020-01-01 dangling",
    "mv plain tmp; mv shared plain; mv tmp shared",
    "touch -d 2021-02-03 .; chmod 700 .; setfattr -n trusted.root -v r .",
];

#[test]
fn every_kind_of_change_is_noticed_and_made_good() {
    if !ready() {
        return;
    }
    for (fs, how) in fixtures() {
        for (n, change) in CHANGES.iter().enumerate() {
            let (source, target) = (
                fs.path().join(format!("v{n}")),
                fs.path().join(format!("clone{n}")),
            );
            make_everything(&source);
            settle();
            // All 29 entries have been copied; then the change comes, and time for its ctime to settle.
            let monitor = After::new(29, || {
                sh(&format!("cd {}; {change}", source.display()));
                settle();
            });
            let report = clone_tree_stable(&source, &target, how, 6, &monitor).expect("cloned");
            assert_eq!(
                (report.consistency, report.passes),
                (Consistency::PointInTime, 3),
                "{how:?} {change}"
            );
            assert_same(&source, &target);
        }
    }
}

#[test]
fn change_in_the_middle_of_a_pass_is_noticed() {
    if !ready() {
        return;
    }
    let change = [CHANGES[0], "rm plain/one sparse; rm fifo", CHANGES[2], CHANGES[3]].join("; ");
    for (fs, how) in fixtures() {
        // In the first pass, and in the second, which may already have looked at what changes.
        for entries in [1, 5, 10, 20, 28, 30, 40, 50, 57] {
            let at = |name: &str| fs.path().join(format!("{name}{entries}"));
            let (source, target, before) = (at("v"), at("clone"), at("before"));
            make_everything(&source);
            settle();
            clone_tree(&source, &before, how, &()).expect("cloned");
            let monitor = After::new(entries, || {
                drop(sh(&format!("cd {}; {change}", source.display())))
            });
            let report = clone_tree_stable(&source, &target, how, 9, &monitor).expect("cloned");
            assert_eq!(
                report.consistency,
                Consistency::PointInTime,
                "{how:?} after {entries}"
            );
            // The moment lies between two passes: before the change, or after it, never in the middle of it.
            if entries < 29 || !differences(&before, &target).is_empty() {
                assert_same(&source, &target);
            }
        }
    }
}

/// Writes a growing number to one file and then to another, so that at any moment the first is the second or one ahead.
fn write_pair(dir: &Path, number: u64) {
    for name in ["first", "second"] {
        let path: PathBuf = dir.join(name);
        fs::write(path, format!("{number:020}")).expect("written");
    }
}

#[test]
fn point_in_time_is_never_claimed_wrongly_under_a_writer() {
    for (fs, how) in fixtures() {
        let source = fs.path().join("v");
        // The two are far apart in the walk.
        for n in 0..50 {
            fs::create_dir_all(source.join(format!("d{n}"))).expect("directories");
            fs::write(source.join(format!("d{n}/f")), "filler").expect("written");
        }
        write_pair(&source, 0);
        let done = AtomicBool::new(false);
        let (mut points, mut others) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 1;
                while !done.load(Ordering::Relaxed) {
                    write_pair(&source, number);
                    number += 1;
                    // Pauses of many lengths, some shorter than a pass and some longer.
                    std::thread::sleep(std::time::Duration::from_millis(number * 7 % 90));
                }
            });
            for n in 0..40 {
                let target = fs.path().join(format!("clone{n}"));
                let report = clone_tree_stable(&source, &target, how, 4, &()).expect("cloned");
                let read = |name| {
                    fs::read_to_string(target.join(name))
                        .expect("read")
                        .parse::<u64>()
                };
                if report.consistency == Consistency::PerFile {
                    others += 1;
                    continue;
                }
                points += 1;
                // The moment may lie between a truncation and the write that follows it.
                if let (Ok(first), Ok(second)) = (read("first"), read("second")) {
                    assert!(
                        first == second || first == second + 1,
                        "{how:?}: {first} {second}"
                    );
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        println!("{how:?}: {points} points in time, {others} not");
        assert!(points > 0, "{how:?}: pauses are long enough for some");
    }
}

#[test]
fn stores_through_a_mapping_are_noticed() {
    for (fs, how) in fixtures() {
        let (source, target) = (fs.path().join("v"), fs.path().join("clone"));
        fs::create_dir(&source).expect("a directory");
        for name in ["a", "mapped", "z"] {
            fs::write(source.join(name), [b'.'; 8192]).expect("written");
        }
        crate::sys::durable::sync_filesystem(&source).expect("synced");
        // The page is made dirty before the clone, so that a later store need not fault.
        let program = "import mmap,sys\nf=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0)\nm[0:1]=b'1'\n\
            print('ready',flush=True)\nsys.stdin.readline()\nm[0:1]=b'2'\nprint('stored',flush=True)\nsys.stdin.readline()\n";
        let mut child = std::process::Command::new("python3")
            .args(["-c", program])
            .arg(source.join("mapped"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        let mut orders = child.stdin.take().expect("piped");
        assert_eq!(lines.next().expect("a line").expect("read"), "ready");
        settle();
        // Stores once all four entries were copied.
        let monitor = After::new(4, || {
            std::io::Write::write_all(&mut orders, b"go\n").expect("told");
            assert_eq!(lines.next().expect("a line").expect("read"), "stored");
            settle();
        });
        let report = clone_tree_stable(&source, &target, how, 5, &monitor).expect("cloned");
        assert_eq!(report.consistency, Consistency::PointInTime, "{how:?}");
        assert_eq!(fs::read(target.join("mapped")).expect("read")[0], b'2', "{how:?}");
        drop(orders);
        child.wait().expect("reaped");
    }
}

/// The name, inode number and ctime of each file, as a backup learns them.
fn as_a_backup_sees(tree: &Path) -> Vec<(String, u64, FileTime)> {
    let source = Source::open(tree).expect("a tree");
    let names = source.names().expect("readable").into_iter();
    names
        .map(|name| {
            let looked = source.look(&name).expect("readable").expect("there");
            let pinned = source.pin(&name).expect("readable").expect("there");
            let own = |(name, _): &(std::ffi::OsString, _)| name.to_string_lossy().contains("windlass");
            assert!(!pinned.xattrs().expect("readable").iter().any(own), "{name:?}");
            let state = |stat: &Stat| (stat.ino, stat.ctime);
            assert_eq!(state(&looked), state(&pinned.stat), "{name:?}");
            if looked.file_type() == libc::S_IFREG {
                let opened = pinned.open().expect("opens").stat;
                assert_eq!(state(&looked), state(&opened), "{name:?}");
            }
            (name.to_string_lossy().into_owned(), looked.ino, looked.ctime)
        })
        .collect()
}

/// Each snapshot of reflinks has inodes of its own, and backups of it read every file of the volume again.
#[test]
fn files_that_did_not_change_between_two_snapshots_of_reflinks_look_the_same() {
    if !ready() {
        return;
    }
    for (fs, how) in fixtures().into_iter().filter(|(_, how)| *how == How::Reflink) {
        let at = |name: &str| fs.path().join(name);
        fs::create_dir(at("v")).expect("made");
        for name in ["same", "changed", "replaced", "touched"] {
            fs::write(at("v").join(name), "content").expect("written");
        }
        fs::write(at("v/one"), "two names").expect("written");
        fs::hard_link(at("v/one"), at("v/two")).expect("linked");
        settle();
        clone_tree_stable(at("v"), at("first"), how, 5, &()).expect("cloned");
        let before = as_a_backup_sees(&at("first"));
        // Same size and, set back, the same modification time.
        sh(&format!(
            "cd {}; touch -r changed stamp; printf CONTENT >changed; touch -r stamp changed; rm stamp; \
             cp -p replaced new; mv new replaced; chmod 600 touched",
            at("v").display()
        ));
        clone_tree_stable(at("v"), at("second"), how, 5, &()).expect("cloned");
        let after = as_a_backup_sees(&at("second"));
        let same: Vec<&str> = (before.iter().zip(&after).filter(|(one, other)| one == other))
            .map(|(one, _)| one.0.as_str())
            .collect();
        assert_eq!(same, ["same"], "names of one inode are always read");
        assert_eq!(
            (before[3].1, before[3].2),
            {
                let stat = Stat::of(fs::File::open(at("v/same")).expect("opens")).expect("statx");
                (stat.ino, stat.ctime)
            },
            "they look as the original does"
        );
        // What is made from a snapshot is a tree of its own.
        clone_tree(at("first"), at("revert"), how, &()).expect("cloned");
        assert_ne!(as_a_backup_sees(&at("revert")), before);
    }
}
