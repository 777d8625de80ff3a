//! Holds the house's own rules: which room may know which, where `unsafe` may be, how files begin, how long they get. And
//! what the documentation must mention.
//!
//! The source is read as text: comments, strings and characters are blanked out, and every path that remains and leads to
//! another room counts, `use` or not. Macros that build paths would not be seen; there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use windlass::cli::Cli;
use windlass::config::SETTINGS;
use windlass::model::options::OPTIONS;

/// Who may know whom. `api::types` and `cli::daemon` are rooms of their own here: the words that both ends of the admin API
/// share, and the one command that is the daemon.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    (
        "cli",
        &["client", "api::types", "model", "cli::daemon", "cli::repo"],
    ),
    ("cli::daemon", &["cli", "daemon", "config"]),
    // The one room of the command line that works on repositories itself.
    (
        "cli::repo",
        &["cli", "cli::error", "api::types", "engine", "store", "model"],
    ),
    // `Error` carries the daemon's own reason for not starting.
    ("cli::error", &["cli", "client", "api::types", "daemon"]),
    ("client", &["api::types", "model"]),
    (
        "daemon",
        &[
            "config",
            "api",
            "notify",
            "scheduler",
            "service",
            "driver",
            "state",
            "sys",
            "model",
        ],
    ),
    // Events go out as the API writes them.
    ("notify", &["api", "service", "model"]),
    ("scheduler", &["scheduler::due", "service", "model"]),
    // Pure, and asked by the service too, for what it tells about a volume.
    ("scheduler::due", &["model"]),
    ("config", &["model"]),
    ("api", &["api::types", "service", "driver", "state", "model"]),
    ("api::types", &["model"]),
    (
        "service",
        &[
            "scheduler::due",
            "driver",
            "engine",
            "store",
            "state",
            "model",
            "sys",
        ],
    ),
    ("engine", &["store", "sys", "model"]),
    ("store", &["sys", "model"]),
    ("state", &["driver", "model"]),
    ("driver", &["sys", "model"]),
    ("sys", &[]),
    ("model", &[]),
];

/// Names that say nothing.
const EMPTY_WORDS: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

/// A file may be longer only if its `//!` says why, with the words `long because`.
const LONGEST: usize = 800;

/// A source file.
struct Source {
    /// From the package's directory, e.g. `src/api/types.rs`.
    path: PathBuf,
    text: String,
    /// The text with comments, strings and characters blanked out, line for line.
    code: Vec<char>,
    /// The module that the file is: `["api", "types"]`.
    module: Vec<String>,
}

impl Source {
    fn all() -> Vec<Self> {
        let mut files: Vec<PathBuf> = walkdir::WalkDir::new(package().join("src"))
            .into_iter()
            .map(|entry| entry.expect("src can be walked").into_path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect();
        files.sort();
        assert!(files.len() > 20, "src is found");
        files.iter().map(|path| Self::read(path)).collect()
    }

    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("a source file is text");
        let path = file
            .strip_prefix(package())
            .expect("below the package")
            .to_owned();
        let inside = path.strip_prefix("src").expect("below src").with_extension("");
        let mut module: Vec<String> = inside
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        Self {
            code: code_only(&text),
            path,
            text,
            module,
        }
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].iter().filter(|c| **c == '\n').count() + 1
    }

    /// Every path that begins at `crate` or `super`: its line, and where it leads. Tests obey the table as well.
    fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        // One entry per open brace: whether it opens an inline module.
        let mut braces: Vec<bool> = Vec::new();
        let mut at = 0;
        while at < self.code.len() {
            match self.code[at] {
                '{' => braces.push(self.opens_module(at)),
                '}' => drop(braces.pop()),
                c if is_word(c) && (at == 0 || !is_word(self.code[at - 1])) => {
                    let word = self.word(at);
                    let after = at + word.len();
                    let starts = at < 2 || self.code[at - 2..at] != [':', ':'];
                    if starts
                        && matches!(word.as_str(), "crate" | "super" | "windlass")
                        && self.follows(after)
                    {
                        let inline = braces.iter().filter(|module| **module).count();
                        for path in self.tree(at) {
                            found.extend(self.target(&path, inline).map(|path| (self.line_of(at), path)));
                        }
                    }
                    at = after;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// Whether `{` here is that of `mod name {`.
    fn opens_module(&self, brace: usize) -> bool {
        let before: String = self.code[brace.saturating_sub(80)..brace].iter().collect();
        let statement = before.rsplit([';', '}', '{']).next().unwrap_or_default();
        let words: Vec<&str> = statement.split_whitespace().collect();
        matches!(words.as_slice(), [.., "mod", _])
    }

    fn word(&self, at: usize) -> String {
        self.code[at..].iter().take_while(|c| is_word(**c)).collect()
    }

    fn follows(&self, at: usize) -> bool {
        self.code.get(at..at + 2) == Some(&[':', ':'])
    }

    /// The paths of a `use` tree, or the one path of an expression, that begin at `at`; generic arguments end a path.
    fn tree(&self, mut at: usize) -> Vec<Vec<String>> {
        let skip = |mut at: usize| {
            while self.code.get(at).is_some_and(|c| c.is_whitespace()) {
                at += 1;
            }
            at
        };
        let mut path = Vec::new();
        loop {
            at = skip(at);
            match self.code.get(at) {
                Some('{') => {
                    let mut all = Vec::new();
                    let mut depth = 0;
                    let mut branch = true;
                    for (offset, c) in self.code[at..].iter().enumerate() {
                        match c {
                            '{' => depth += 1,
                            '}' => depth -= 1,
                            ',' if depth == 1 => branch = true,
                            c if depth == 1 && branch && is_word(*c) => {
                                branch = false;
                                for rest in self.tree(at + offset) {
                                    all.push([path.clone(), rest].concat());
                                }
                            }
                            _ => {}
                        }
                        if depth == 0 {
                            break;
                        }
                    }
                    return all;
                }
                Some(c) if is_word(*c) => {
                    let word = self.word(at);
                    at += word.len();
                    path.push(word);
                    if !self.follows(at) {
                        return vec![path];
                    }
                    at += 2;
                }
                _ => return vec![path],
            }
        }
    }

    /// The absolute path of what a path means here, if it leads into the house.
    fn target(&self, path: &[String], inline: usize) -> Option<Vec<String>> {
        match path.first()?.as_str() {
            "crate" | "windlass" => Some(path[1..].to_vec()),
            _ => {
                let supers = path.iter().take_while(|part| *part == "super").count();
                // `super` out of an inline module is this file.
                let up = supers.checked_sub(inline)?;
                let base = self.module.len().checked_sub(up)?;
                Some([&self.module[..base], &path[supers..]].concat())
            }
        }
    }
}

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks out comments, strings and characters; lines stay where they are.
fn code_only(text: &str) -> Vec<char> {
    let chars: Vec<char> = text.chars().collect();
    let mut code = chars.clone();
    let mut at = 0;
    let mut blank = |from: usize, to: usize| {
        for c in &mut code[from..to] {
            if *c != '\n' {
                *c = ' ';
            }
        }
    };
    while at < chars.len() {
        let rest = &chars[at..];
        let end = match rest {
            ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => at + end_of_comment(rest),
            ['r', '"' | '#', ..] if (at == 0 || !is_word(chars[at - 1])) && raw_string(rest).is_some() => {
                at + raw_string(rest).expect("just seen")
            }
            ['"', ..] => at + end_of_quoted(rest, '"'),
            // A lifetime has no second quote after one character.
            ['\'', '\\', ..] => at + end_of_quoted(rest, '\''),
            ['\'', _, '\'', ..] => at + 3,
            _ => {
                at += 1;
                continue;
            }
        };
        blank(at, end);
        at = end;
    }
    code
}

fn end_of_comment(chars: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn end_of_quoted(chars: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string(chars: &[char]) -> Option<usize> {
    let hashes = chars[1..].iter().take_while(|c| **c == '#').count();
    if chars.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = 2 + hashes;
    let end = chars[body..]
        .windows(close.len())
        .position(|window| window == close)?;
    Some(body + end + close.len())
}

/// The room that a module is in: the longest of the table's names that it begins with.
fn room_of(module: &[String]) -> String {
    if module.is_empty() {
        return "lib".to_owned();
    }
    let two = module.iter().take(2).cloned().collect::<Vec<_>>().join("::");
    if MAY_KNOW.iter().any(|(room, _)| *room == two) {
        two
    } else {
        module[0].clone()
    }
}

#[test]
fn each_room_knows_only_those_that_it_may() {
    let table: BTreeMap<&str, &[&str]> = MAY_KNOW.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in Source::all() {
        let room = room_of(&source.module);
        let Some(allowed) = table.get(room.as_str()) else {
            wrong.push(format!(
                "{}: the room {room} is not in the table of tests/house.rs",
                source.path.display()
            ));
            continue;
        };
        for (line, path) in source.paths() {
            let to = room_of(&path);
            let inside = to == room || to == "lib";
            if !inside && !allowed.contains(&to.as_str()) {
                wrong.push(format!(
                    "{}: {room} must not know {to} ({})",
                    source.place(line),
                    path.join("::")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_names_the_rooms_that_there_are() {
    let modules: BTreeSet<Vec<String>> = Source::all().into_iter().map(|source| source.module).collect();
    for (room, known) in MAY_KNOW {
        for name in std::iter::once(room).chain(known.iter()) {
            let module: Vec<String> = name.split("::").map(str::to_owned).collect();
            assert!(
                modules.contains(&module),
                "tests/house.rs speaks of {name}, which is not in src"
            );
        }
    }
}

#[test]
fn unsafe_is_in_sys_alone() {
    let mut wrong = Vec::new();
    for source in Source::all()
        .iter()
        .filter(|source| source.module.first().is_none_or(|room| room != "sys"))
    {
        let code: String = source.code.iter().collect();
        for (index, line) in code.lines().enumerate() {
            if line.split(|c| !is_word(c)).any(|word| word == "unsafe") {
                wrong.push(format!("{}: unsafe outside of src/sys", source.place(index + 1)));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_why_it_is_long() {
    let mut wrong = Vec::new();
    for source in Source::all() {
        let header: Vec<&str> = source
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        if header.first().is_none_or(|line| line.trim() == "//!") {
            wrong.push(format!(
                "{}: a file opens with //! and what it is",
                source.place(1)
            ));
        }
        let lines = source.text.lines().count();
        if lines > LONGEST && !header.iter().any(|line| line.contains("long because")) {
            wrong.push(format!(
                "{}: {lines} lines; split it, or say in its //! that it is long because …",
                source.place(lines)
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_room_has_a_name_that_says_nothing() {
    for source in Source::all() {
        for part in &source.module {
            assert!(
                !EMPTY_WORDS.contains(&part.as_str()),
                "{}: {part} says nothing",
                source.place(1)
            );
        }
    }
}

#[test]
fn the_reader_of_sources_sees_what_there_is() {
    let source = |module: &[&str], text: &str| Source {
        path: "src/x.rs".into(),
        code: code_only(text),
        text: text.to_owned(),
        module: module.iter().map(|part| (*part).to_owned()).collect(),
    };
    let seen = |module: &[&str], text: &str| -> Vec<String> {
        let paths = source(module, text).paths();
        paths
            .into_iter()
            .map(|(line, path)| format!("{line} {}", path.join("::")))
            .collect()
    };
    let text = "//! [`crate::a`]\nuse crate::{b::{B, c::C}, d};\nfn f() -> crate::e::E<'_> { \"crate::g\"; r#\"\"crate::h\"# }\n";
    assert_eq!(seen(&["x"], text), ["2 b::B", "2 b::c::C", "2 d", "3 e::E"]);
    let text = "use super::b;\nuse super::super::c;\n#[cfg(test)]\nmod tests {\n    use super::*;\n    use super::super::d;\n}\n";
    assert_eq!(seen(&["x", "y"], text), ["1 x::b", "2 c", "5 x::y", "6 x::d"]);
    assert_eq!(
        seen(&["x"], "let c = '\"'; let d = b'\\''; /* \" /* */ */ crate::e()"),
        ["1 e"]
    );
    assert_eq!(room_of(&["api".to_owned(), "types".to_owned()]), "api::types");
    assert_eq!(room_of(&["api".to_owned(), "error".to_owned()]), "api");
}

fn page(name: &str) -> String {
    std::fs::read_to_string(package().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_documentation_has_every_setting_and_every_option() {
    let page = page("docs/CONFIGURATION.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let row = |name: &str| {
        let cell = format!("`{name}`");
        rows.iter()
            .find(|row| row[0] == cell)
            .unwrap_or_else(|| panic!("docs/CONFIGURATION.md has no row for {cell}"))
    };
    for setting in SETTINGS {
        let row = row(setting.name);
        assert_eq!(
            row[1],
            format!("`{}`", setting.variable()),
            "{}: its variable",
            setting.name
        );
        assert_eq!(
            row[3],
            if setting.reloads { "yes" } else { "no" },
            "{}: whether it reloads",
            setting.name
        );
    }
    for (option, _) in OPTIONS {
        row(option);
    }
}

#[test]
fn the_documentation_has_every_command_and_every_flag() {
    fn walk(command: &clap::Command, prefix: &str, page: &str) {
        for inner in command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
        {
            let name = format!("{prefix} {}", inner.get_name());
            if inner.has_subcommands() {
                walk(inner, &name, page);
                continue;
            }
            let section: String = page
                .lines()
                .filter(|line| line.contains(&format!("`{name}`")) || line.contains(&format!("`{name} ")))
                .collect();
            assert!(!section.is_empty(), "docs/COMMANDS.md does not speak of `{name}`");
            if inner.get_name() == "daemon" {
                continue; // its flags are the settings of docs/CONFIGURATION.md
            }
            for flag in inner
                .get_arguments()
                .filter(|flag| !flag.is_hide_set() && !flag.is_global_set())
            {
                if let Some(long) = flag.get_long().filter(|long| *long != "help") {
                    assert!(
                        section.contains(&format!("--{long}")),
                        "docs/COMMANDS.md: `{name}` lacks --{long}"
                    );
                }
            }
        }
    }
    let page = page("docs/COMMANDS.md");
    walk(&Cli::command(), "windlass", &page);
    for flag in Cli::command().get_arguments().filter_map(|flag| flag.get_long()) {
        assert!(
            page.contains(&format!("--{flag}")),
            "docs/COMMANDS.md lacks the global --{flag}"
        );
    }
    for kind in [
        "NotFound",
        "AlreadyExists",
        "Busy",
        "Invalid",
        "Unsupported",
        "Corrupt",
        "Unavailable",
    ] {
        assert!(
            page.contains(kind),
            "docs/COMMANDS.md lacks the exit code of {kind}"
        );
    }
}

#[test]
fn the_architecture_fits_two_hundred_lines() {
    let lines = page("docs/ARCHITECTURE.md").lines().count();
    assert!(lines <= 200, "docs/ARCHITECTURE.md has {lines} lines");
}

#[test]
fn the_documentation_links_to_what_is_there() {
    let mut pages = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for entry in std::fs::read_dir(package().join("docs")).expect("docs is there") {
        let name = entry
            .expect("docs can be read")
            .file_name()
            .to_string_lossy()
            .into_owned();
        pages.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    for name in pages {
        let from = package().join(&name);
        for link in page(&name)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
        {
            let there = link.is_empty() || link.starts_with("http") || from.with_file_name(link).exists();
            assert!(there, "{name} links to {link}, which is not there");
        }
    }
}
