//! What a drill finds in what was restored.

use super::*;

/// A drill believes nothing but what lies there.
#[test]
fn whatever_differs_from_the_backup_s_record_is_found() {
    let bench = Bench::new();
    let at = bench.source();
    fs::create_dir(at.join("d")).expect("made");
    fs::write(at.join("d/f"), noise(3_000_000, 7)).expect("written");
    fs::write(at.join("g"), "short").expect("written");
    std::os::unix::fs::symlink("g", at.join("link")).expect("made");
    let (backup, _) = bench.back_up();
    let target = bench.target();
    let harm = |harm: &dyn Fn(&Path)| {
        bench.restore(&backup);
        harm(&target);
        let compared = compare::tree(&bench.repository, &backup, &target, &Progress::default());
        let compared = compared.expect("compared");
        assert_eq!(compared.different, compared.differences.len() as u64);
        compared
            .differences
            .join("; ")
            .replace(&format!("{}/", target.display()), "")
    };
    assert_eq!(harm(&|_| ()), "");
    let flipped = harm(&|root| {
        let file = root.join("d/f");
        let about = fs::metadata(&file).expect("there");
        let mut bytes = fs::read(&file).expect("read");
        bytes[2_000_000] ^= 1;
        fs::write(&file, bytes).expect("written");
        let times = fs::FileTimes::new().set_modified(about.modified().expect("a time"));
        let opened = fs::File::options().write(true).open(&file).expect("opened");
        opened.set_times(times).expect("set");
    });
    assert_eq!(flipped, "d/f: its content is another");
    let modes = harm(&|root| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4711);
        fs::set_permissions(root.join("g"), mode).expect("changed");
    });
    assert_eq!(modes, "g: its mode is 4711 instead of 0644");
    assert!(harm(&|root| fs::remove_file(root.join("g")).expect("gone")).contains("g: it is missing"));
    assert!(
        harm(&|root| fs::write(root.join("e"), "").expect("made")).contains("e: it is not in the backup")
    );
    let longer = harm(&|root| fs::write(root.join("g"), "shorter").expect("written"));
    assert!(
        longer.contains("g: it has 7 bytes instead of 5") && longer.contains("content"),
        "{longer}"
    );
    let led = harm(&|root| {
        fs::remove_file(root.join("link")).expect("gone");
        std::os::unix::fs::symlink("d", root.join("link")).expect("made");
    });
    assert!(led.contains("link: it leads elsewhere"), "{led}");
    let other = harm(&|root| {
        fs::remove_file(root.join("link")).expect("gone");
        fs::write(root.join("link"), "g").expect("made");
    });
    assert!(other.contains("link: it is of another type"), "{other}");
}
