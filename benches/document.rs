//! docs/BENCHMARKS.md as the benchmarks share it: sections, each begun by a line `<!-- its name -->`, of which each benchmark
//! writes its own and leaves the others as they are.

/// The document.
pub struct Document {
    /// In their order; the first has no name, and is what comes before all marks.
    sections: Vec<(String, String)>,
}

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/BENCHMARKS.md");

impl Document {
    /// As it is now.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string(PATH).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut sections = vec![(String::new(), String::new())];
        for line in text.lines() {
            let name = line
                .strip_prefix("<!-- ")
                .and_then(|rest| rest.strip_suffix(" -->"));
            match (name, sections.last_mut()) {
                (None, Some((_, text))) => {
                    text.push_str(line);
                    text.push('\n');
                }
                (name, _) => sections.push((name.unwrap_or_default().to_owned(), String::new())),
            }
        }
        Self { sections }
    }

    /// Puts a section's text in the place of the old one; one that was not there comes last.
    pub fn put(&mut self, name: &str, text: &str) {
        let text = format!("{}\n", text.trim());
        match self.sections.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = text,
            None => self.sections.push((name.to_owned(), text)),
        }
    }

    /// Writes it.
    pub fn write(&self) {
        let text: Vec<String> = self
            .sections
            .iter()
            .map(|(name, text)| match name.as_str() {
                "" => format!("{}\n", text.trim()),
                name => format!("<!-- {name} -->\n{}\n", text.trim()),
            })
            .collect();
        std::fs::write(PATH, text.join("\n")).expect("docs can be written");
    }
}

/// The machine: its processor, how many, its kernel, and how busy it was in the last five minutes.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("\t: unknown");
    let processors = info.lines().filter(|line| line.starts_with("processor")).count();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {processors} cores, Linux {}, load average {} at the end",
        model.trim_start_matches(['\t', ' ', ':']),
        release.trim(),
        load.split(' ').nth(1).unwrap_or("unknown"),
    )
}
