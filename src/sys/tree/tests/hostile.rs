//! A container that swaps names for links to elsewhere while we work.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::tree::{How, clone_tree, disk_usage, remove_tree};

/// Runs `work` while `disturb` runs over and over in another thread.
fn disturbed<T>(disturb: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                disturb();
            }
        });
        let _guard = Finish(&done);
        work()
    })
}

/// Ends the disturber also when the work panics.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The second name of each place is one that no volume has: the tests themselves cannot hit it through a link.
const SECRETS: [&str; 4] = [
    "outside/secret",
    "outside/deep/secret",
    "outside/precious",
    "outside/deep/precious",
];

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// A secret outside, and a volume whose directories are to be swapped for links to it.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let scene = Self { dir };
        fs::create_dir_all(scene.at("outside/deep")).expect("directories");
        for name in SECRETS {
            fs::write(scene.at(name), "SECRET").expect("written");
        }
        scene.fill(&scene.at("v"));
        scene
    }

    fn fill(&self, volume: &Path) {
        for n in 0..40 {
            fs::create_dir_all(volume.join(format!("d{n}/deep"))).expect("directories");
            fs::write(volume.join(format!("d{n}/secret")), "public").expect("written");
            fs::write(volume.join(format!("d{n}/deep/secret")), "public").expect("written");
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Each directory in turn becomes a link to the secret ones, and a file a link to the secret, and back.
    fn swap_all(&self) {
        for n in 0..40 {
            let (here, aside) = (self.at(&format!("v/d{n}")), self.at(&format!("v/aside{n}")));
            let _ = fs::rename(&here, &aside);
            let _ = symlink(self.at("outside"), &here);
            std::thread::yield_now();
            let _ = fs::remove_file(&here);
            let _ = fs::rename(&aside, &here);
            let file = here.join("secret");
            let _ = fs::remove_file(&file);
            let _ = symlink(self.at("outside/secret"), &file);
            std::thread::yield_now();
            let _ = fs::remove_file(&file);
            let _ = fs::write(&file, "public");
        }
    }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
    {
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => files_below(&entry.path(), found),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn clone_never_shows_what_lies_outside() {
    let scene = Scene::new();
    disturbed(
        || scene.swap_all(),
        || {
            for n in 0..12 {
                let target = scene.at(&format!("clone{n}"));
                clone_tree(scene.at("v"), &target, How::Copy, &()).expect("cloned");
                let mut files = Vec::new();
                files_below(&target, &mut files);
                for file in files {
                    let content = fs::read_to_string(&file).expect("read");
                    // A file just created and not yet written is empty.
                    assert!(
                        content == "public" || content.is_empty(),
                        "{}: {content}",
                        file.display()
                    );
                }
                disk_usage(scene.at("v"), &()).expect("measured");
                remove_tree(target).expect("removed");
            }
        },
    );
}

#[test]
fn remove_never_reaches_what_lies_outside() {
    let scene = Scene::new();
    disturbed(
        || scene.swap_all(),
        || {
            for _ in 0..25 {
                // It may fail when names keep coming back; it must not do harm.
                let _ = remove_tree(scene.at("v"));
                for secret in &SECRETS[2..] {
                    assert_eq!(fs::read(scene.at(secret)).expect("still there"), b"SECRET");
                }
                let _ = fs::create_dir(scene.at("v"));
                for n in 0..40 {
                    let _ = fs::create_dir_all(scene.at(&format!("v/d{n}/deep")));
                    let _ = fs::write(scene.at(&format!("v/d{n}/deep/secret")), "public");
                }
            }
        },
    );
    remove_tree(scene.at("v")).expect("removed when left in peace");
}

#[test]
fn remove_copes_with_directories_that_are_filled_again() {
    let scene = Scene::new();
    let refill = scene.at("v/d1");
    disturbed(
        || {
            let _ = fs::write(refill.join("again"), "x");
            std::thread::sleep(std::time::Duration::from_micros(200));
        },
        || remove_tree(scene.at("v")),
    )
    .expect("removed");
}
