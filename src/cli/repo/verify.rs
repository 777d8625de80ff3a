//! `windlass repo verify`.

use clap::Args;
use serde::Serialize;

use super::access::{Place, Session};
use super::{Error, Screen, failure, reference};
use crate::engine::verify::{Depth, Problem, VerifyReport, verify};
use crate::model::Bytes;

/// Find out whether backups can be restored
#[derive(Debug, Args)]
#[command(
    after_help = "Without --sample and --all, everything but the content is looked at: keys, indexes, backups, directories, and whether
every pack is there with its length. What is damaged is listed with the backups that it affects, and the exit code is 8."
)]
pub(super) struct Verify {
    /// A backup, a repository, or a destination: all repositories there
    #[arg(value_parser = reference(), value_name = "URL|DEST")]
    url: String,
    /// The volume whose repository it is
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Read so many percent of the content too, chosen at random
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "all")]
    sample: Option<u8>,
    /// Read every byte
    #[arg(long)]
    all: bool,
}

/// One repository's report, as `--output json` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    #[serde(rename = "URL")]
    url: String,
    /// Whether nothing is wrong.
    verified: bool,
    backups: u64,
    trees: u64,
    data_blobs: u64,
    packs: u64,
    packs_read: u64,
    bytes_read: u64,
    unindexed_packs: u64,
    unindexed_bytes: u64,
    foreign: Vec<String>,
    /// The first thousand.
    problems: Vec<Flaw>,
    problem_count: u64,
}

/// Something that is damaged.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Flaw {
    object: String,
    why: String,
    /// The URLs of the backups that suffer from it.
    backups: Vec<String>,
}

impl Verify {
    pub(super) fn run(self, session: &Session, screen: &mut Screen) -> Result<(), Error> {
        let place = session.place(&self.url, self.volume.as_deref())?;
        if place.is_convoy() {
            return Err(failure::not_with_convoy("verify"));
        }
        let places = session.repositories(&place)?;
        if places.is_empty() {
            return Err(failure::no_repository(&place));
        }
        let depth = match (self.all, self.sample) {
            (true, _) => Depth::Everything,
            (false, Some(percent)) => Depth::Sample(percent),
            (false, None) => Depth::Structure,
        };
        let mut reports = Vec::new();
        for at in &places {
            let report = one(session, at, depth)?;
            if !screen.json() {
                screen.text(&in_words(&report))?;
            }
            reports.push(report);
        }
        if screen.json() {
            screen.value(&reports)?;
        }
        let bad: Vec<&str> = reports
            .iter()
            .filter(|r| !r.verified)
            .map(|r| r.url.as_str())
            .collect();
        match bad.as_slice() {
            [] => Ok(()),
            bad => Err(failure::damaged(
                format!("damage was found in {}", bad.join(", ")),
                "an index can be made anew with 'windlass repo repair'; other backups than those that are named can be restored",
            )),
        }
    }
}

fn one(session: &Session, place: &Place, depth: Depth) -> Result<Shown, Error> {
    let repository = session.open(place)?;
    let only = match &place.backup {
        Some(name) => Some(repository.find(name)?.id),
        None => None,
    };
    let report = session.work(&format!("verify {}", place.title()), |progress| {
        verify(&repository, depth, only.as_ref(), progress)
    })?;
    Ok(show(place, report))
}

fn show(place: &Place, report: VerifyReport) -> Shown {
    let flaw = |problem: Problem| Flaw {
        object: problem.object,
        why: problem.why,
        backups: problem
            .backups
            .iter()
            .map(|id| place.url(Some(&id.to_string()[..16])))
            .collect(),
    };
    Shown {
        url: place.url(place.backup.as_deref()),
        verified: report.problem_count == 0,
        backups: report.backups,
        trees: report.trees,
        data_blobs: report.data_blobs,
        packs: report.packs,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
        unindexed_packs: report.unindexed_packs,
        unindexed_bytes: report.unindexed_bytes,
        foreign: report.foreign,
        problems: report.problems.into_iter().map(flaw).collect(),
        problem_count: report.problem_count,
    }
}

fn in_words(report: &Shown) -> String {
    let line = crate::cli::screen::one_line;
    let mut text = format!(
        "{}: {} (backups: {}, directories: {}, packs: {}, of them read: {}, {})\n",
        report.url,
        match report.problem_count {
            0 => "sound".to_owned(),
            1 => "1 problem".to_owned(),
            several => format!("{several} problems"),
        },
        report.backups,
        report.trees,
        report.packs,
        report.packs_read,
        Bytes(report.bytes_read),
    );
    for problem in &report.problems {
        text.push_str(&format!("  {}: {}\n", line(&problem.object), line(&problem.why)));
        for url in &problem.backups {
            text.push_str(&format!("    affects {url}\n"));
        }
    }
    let told = report.problems.len() as u64;
    if report.problem_count > told {
        text.push_str(&format!("  and {} more\n", report.problem_count - told));
    }
    if report.unindexed_packs > 0 {
        text.push_str(&format!(
            "  {} packs ({}) are in no index: of a backup that runs or was interrupted; no problem\n",
            report.unindexed_packs,
            Bytes(report.unindexed_bytes)
        ));
    }
    text
}
