//! Real restic is the judge of what maintenance leaves: whatever backups, deletions and prunes of both programs follow
//! one another in one repository, both find it sound. And each keeps out of the other's way by the locks.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proptest::prelude::*;
use windlass::engine::backup::Request;
use windlass::engine::backup::block::{BlockSource, block};
use windlass::engine::lock::remove_stale;
use windlass::engine::prune::{PruneOptions, prune};
use windlass::engine::verify::{Depth, verify};
use windlass::engine::{
    Access, EngineError, Kind, Lock, Manifest, Password, Progress, Repository, SnapshotIdentity,
    VolumeIdentity, repair,
};
use windlass::store::directory::DirectoryStore;

const PASSWORD: &str = "correct horse";

/// Whether restic is there; says so where it is not. Where CI is, its absence is a failure.
fn has_restic() -> bool {
    if Command::new("restic").arg("version").output().is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "restic is missing: packaging/setup installs it"
    );
    println!("SKIPPED: restic is not installed");
    false
}

/// A repository in a directory, for both programs.
struct Shared {
    scratch: tempfile::TempDir,
    repository: Repository,
    image: Vec<u8>,
    backups: u32,
}

impl Shared {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let place = scratch.path().join("repository");
        std::fs::create_dir(&place).expect("made");
        let store = Arc::new(DirectoryStore::open(&place).expect("opened"));
        let password = Password::new(PASSWORD.to_owned()).expect("not empty");
        let repository = Repository::create(store, &password, None, None).expect("made");
        let mut image = vec![0; 4 << 20];
        noise(&mut image[..3 << 20], 1);
        Self {
            scratch,
            repository,
            image,
            backups: 0,
        }
    }

    fn place(&self) -> std::path::PathBuf {
        self.scratch.path().join("repository")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command
            .args(["--no-cache", "-r"])
            .arg(self.place())
            .args(words)
            .env("RESTIC_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
        command
    }

    fn restic(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("it starts")
    }

    fn restic_must(&self, words: &[&str]) {
        let output = self.restic(words);
        assert!(output.status.success(), "{words:?}: {}", said(&output));
    }

    /// Changes some of the image, and backs it up.
    fn back_up(&mut self, seed: u8) {
        let at = usize::from(seed) << 13;
        let end = (at + (600 << 10)).min(self.image.len());
        noise(&mut self.image[at..end], u64::from(seed) + 2);
        let path = self.scratch.path().join("image");
        std::fs::write(&path, &self.image).expect("written");
        let open = std::fs::File::open(&path).expect("opened");
        let source = BlockSource::file(&open, &path).expect("looked at");
        self.backups += 1;
        block(
            &self.repository,
            &request(source.size, self.backups),
            &source,
            &Arc::default(),
        )
        .expect("backed up");
    }

    fn forget(&self, which: u8) {
        let backups = self.repository.backups().expect("listed");
        if !backups.is_empty() {
            let id = backups[usize::from(which) % backups.len()].id;
            self.repository.forget(&[id]).expect("forgotten");
        }
    }

    fn judge(&self) {
        self.restic_must(&["check", "--read-data"]);
        let report = verify(&self.repository, Depth::Everything, None, &Arc::default()).expect("looked");
        assert_eq!(report.problems, []);
        assert_eq!(report.unindexed_packs, 0);
    }
}

fn request(size: u64, number: u32) -> Request {
    let time = "2026-11-20T08:00:00Z".parse().expect("a time");
    Request {
        manifest: Manifest {
            version: Manifest::VERSION,
            kind: Kind::Block,
            driver: "devicemapper".to_owned(),
            size,
            chunk_bytes: Some(64 << 10),
            filesystem: None,
            volume: VolumeIdentity {
                id: uuid::Uuid::from_u128(1),
                name: "pgdata".to_owned(),
                created: time,
                options: Default::default(),
            },
            snapshot: SnapshotIdentity {
                id: uuid::Uuid::from_u128(u128::from(number)),
                name: format!("s{number}"),
                created: time,
                consistency: "point-in-time".to_owned(),
            },
        },
        hostname: "alpha".to_owned(),
        level: 1,
        adopts: true,
        only_if_changed: false,
    }
}

fn noise(bytes: &mut [u8], seed: u64) {
    let mut state = seed | 1;
    for byte in bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[derive(Debug, Clone)]
enum Step {
    BackUp(u8),
    Forget(u8),
    Prune { percent: u8, small: bool },
    RebuildIndex,
    ResticBackUp(u8),
    ResticPrune,
    ResticForget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::BackUp),
        3 => any::<u8>().prop_map(Step::Forget),
        4 => (0_u8..30, any::<bool>()).prop_map(|(percent, small)| Step::Prune { percent, small }),
        1 => Just(Step::RebuildIndex),
        2 => any::<u8>().prop_map(Step::ResticBackUp),
        2 => Just(Step::ResticPrune),
        1 => Just(Step::ResticForget),
    ]
}

fn take(shared: &mut Shared, step: &Step) {
    match step {
        Step::BackUp(seed) => shared.back_up(*seed),
        Step::Forget(which) => shared.forget(*which),
        Step::Prune { percent, small } => {
            let options = PruneOptions {
                max_unused_percent: *percent,
                repack_small: *small,
                all: true,
                dry_run: false,
            };
            prune(&shared.repository, &options, &Arc::default()).expect("pruned");
        }
        Step::RebuildIndex => {
            let report = repair::rebuild_index(&shared.repository, &Progress::default()).expect("made anew");
            assert_eq!(report.unreadable, []);
        }
        Step::ResticBackUp(seed) => {
            let tree = shared.scratch.path().join("tree");
            std::fs::create_dir_all(&tree).expect("made");
            let mut bytes = vec![0; 200 << 10];
            noise(&mut bytes, u64::from(*seed));
            std::fs::write(tree.join(format!("file{}", seed % 4)), bytes).expect("written");
            shared.restic_must(&["backup", tree.to_str().expect("UTF-8")]);
        }
        Step::ResticPrune => shared.restic_must(&["prune", "--max-unused", "0"]),
        Step::ResticForget => {
            shared.restic_must(&["forget", "--prune", "--keep-last", "2", "--group-by", ""])
        }
    }
}

proptest! {
    // Each step is followed by two looks at every byte, and each call of restic derives a key anew.
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_find_sound_what_either_leaves(steps in prop::collection::vec(step(), 6..9)) {
        if has_restic() {
            let mut shared = Shared::new();
            shared.back_up(0);
            for step in &steps {
                take(&mut shared, step);
                shared.judge();
            }
        }
    }
}

/// Waits until restic has a lock, under the name that it has in the end.
fn wait_for_lock(place: &Path) {
    let begin = Instant::now();
    let is_lock =
        |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name().len() == 64);
    while !std::fs::read_dir(place.join("locks")).is_ok_and(|mut entries| entries.any(is_lock)) {
        assert!(begin.elapsed() < Duration::from_secs(60), "restic takes its lock");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A child that is ended however the test ends.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn restic_keeps_out_while_we_are_in() {
    if !has_restic() {
        return;
    }
    let mut shared = Shared::new();
    shared.back_up(0);
    let exclusive = Lock::take(&shared.repository, Access::Exclusive).expect("free");
    for words in [&["backup", "/etc/hostname"][..], &["prune"], &["check"]] {
        let refused = shared.restic(words);
        assert!(!refused.status.success(), "{words:?}");
        assert!(said(&refused).contains("locked"), "{}", said(&refused));
    }
    shared.restic_must(&["unlock"]);
    exclusive.check().expect("`restic unlock` leaves a live lock");
    drop(exclusive);
    let adding = Lock::take(&shared.repository, Access::Shared).expect("free");
    let refused = shared.restic(&["prune"]);
    assert!(
        !refused.status.success() && said(&refused).contains("locked"),
        "{}",
        said(&refused)
    );
    shared.restic_must(&["backup", "/etc/hostname"]);
    drop(adding);
    shared.restic_must(&["prune"]);
}

#[test]
fn we_keep_out_while_restic_is_in() {
    if !has_restic() {
        return;
    }
    let mut shared = Shared::new();
    shared.back_up(0);
    // A backup waits for the end of its input, and has a shared lock meanwhile.
    let mut command = shared.command(&["backup", "--stdin"]);
    let mut backup = Guard(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts"),
    );
    wait_for_lock(&shared.place());
    let refused = prune(&shared.repository, &PruneOptions::default(), &Arc::default());
    assert!(matches!(refused, Err(EngineError::Locked { .. })), "{refused:?}");
    assert_eq!(
        remove_stale(&shared.repository, false).expect("looked"),
        0,
        "it lives"
    );
    shared.back_up(3);
    let mut input = backup.0.stdin.take().expect("piped");
    input.write_all(b"from beside us").expect("it reads");
    drop(input);
    assert!(backup.0.wait().expect("it ends").success());
    shared.judge();

    // A check has an exclusive one; it is held up, so that it does not end before we looked.
    let mut command = shared.command(&["check", "--read-data"]);
    // In a process group of its own: the kernel hangs up a group without a parent in which one is stopped.
    let mut check = Guard(
        command
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("it starts"),
    );
    let pid = Pid::from_raw(i32::try_from(check.0.id()).expect("a pid"));
    wait_for_lock(&shared.place());
    kill(pid, Signal::SIGSTOP).expect("ours");
    let refused = Lock::take(&shared.repository, Access::Shared);
    kill(pid, Signal::SIGCONT).expect("ours");
    assert!(matches!(refused, Err(EngineError::Locked { .. })), "{refused:?}");
    assert!(check.0.wait().expect("it ends").success());

    // What was killed leaves a lock, which counts no longer.
    let mut command = shared.command(&["backup", "--stdin"]);
    let mut killed = Guard(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts"),
    );
    wait_for_lock(&shared.place());
    killed.0.kill().expect("ours");
    killed.0.wait().expect("it ends");
    prune(&shared.repository, &PruneOptions::default(), &Arc::default()).expect("the lock is stale");
    shared.judge();
}
