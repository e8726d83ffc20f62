//! The loop that filters one shard: read, locate, match, copy.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::lines::{Line, Lines};
use crate::plan::Plan;
use crate::record::{Locator, Unreadable};
use crate::reject::{Rejects, Row};
use crate::rules::{Finding, Scratch};
use crate::sink::Sink;
use crate::source::Source;
use crate::statistics::{Counter, Statistics};

/// How many bytes of input, uncompressed, lie between two calls of the progress callback. Even a
/// plan that manages 4 MB/s answers to a Ctrl-C within a quarter of a second.
const PROGRESS_BYTES: u64 = 1 << 20;

/// The files of one shard. Names decide about compression: `.gz`, `.zst`, or none.
#[derive(Clone, Copy, Debug)]
pub struct Shard<'a> {
    /// JSON lines.
    pub input: &'a Path,
    /// Where the rows go that break no rule, byte by byte.
    pub kept: &'a Path,
    /// Where all other rows go, with the reasons; [`crate::explain`] shows the same reasons.
    pub rejects: &'a Path,
}

/// How far a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from the file, before decompression.
    pub bytes_read: u64,
    /// Rows read.
    pub rows: u64,
    /// Rows kept.
    pub kept: u64,
}

/// What the progress callback wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Remove what was written and return [`Error::Interrupted`].
    Stop,
}

/// Filters one shard. On any error, neither output appears under its name.
///
/// The callback is called about once per MiB of uncompressed input, and once at the end of it,
/// before the outputs get their names.
pub fn filter_shard(
    plan: &Plan,
    shard: Shard<'_>,
    progress: &mut dyn FnMut(Progress) -> Flow,
) -> Result<Statistics, Error> {
    refuse_same_file(shard)?;
    let source = Source::open(shard.input).map_err(Error::read(shard.input))?;
    let bytes_read = source.bytes_read();
    let mut lines = Lines::new(source, plan.max_line_bytes());
    let mut kept = Sink::create(shard.kept).map_err(Error::write(shard.kept))?;
    let rejects = Sink::create(shard.rejects).map_err(Error::write(shard.rejects))?;
    let mut judge = Judge::new(plan, shard.input, rejects);
    let mut report = |counter: &Counter<'_>| {
        let bytes_read = bytes_read.load(Ordering::Relaxed);
        match progress(Progress { bytes_read, rows: counter.rows_in, kept: counter.kept }) {
            Flow::Continue => Ok(()),
            Flow::Stop => Err(Error::Interrupted),
        }
    };
    let mut next_report = PROGRESS_BYTES;
    while let Some(line) = lines.next_line().map_err(Error::read(shard.input))? {
        if judge.is_kept(line).map_err(Error::write(shard.rejects))?
            && let Line::Whole { raw, .. } = line
        {
            kept.write_all(raw).map_err(Error::write(shard.kept))?;
        }
        if judge.counter.bytes_in >= next_report {
            next_report = judge.counter.bytes_in + PROGRESS_BYTES;
            report(&judge.counter)?;
        }
    }
    report(&judge.counter)?;
    kept.finish().map_err(Error::write(shard.kept))?;
    judge.rejects.finish().map_err(Error::write(shard.rejects))?;
    Ok(judge.counter.finish())
}

/// Decides about lines, counts them, and writes those that are not kept to the rejects.
struct Judge<'a> {
    plan: &'a Plan,
    locator: Locator,
    counter: Counter<'a>,
    rejects: Rejects,
    line_number: u64,
    scratch: Scratch,
    findings: Vec<Finding>,
    rule_findings: Vec<(usize, Finding)>,
}

impl<'a> Judge<'a> {
    fn new(plan: &'a Plan, input: &Path, rejects: Sink) -> Judge<'a> {
        let file = input.file_name().unwrap_or(input.as_os_str()).to_string_lossy();
        Judge {
            plan,
            locator: plan.locator(),
            counter: Counter::new(plan),
            rejects: Rejects::new(rejects, &file),
            line_number: 0,
            scratch: Scratch::default(),
            findings: Vec::new(),
            rule_findings: Vec::new(),
        }
    }

    /// Is this a row that breaks no rule? If it is a row that does, it is in the rejects now.
    fn is_kept(&mut self, line: Line<'_>) -> io::Result<bool> {
        self.line_number += 1;
        self.counter.bytes_in += line.length();
        let content = match line {
            Line::Whole { content, .. } => content,
            Line::TooLong { head, length } => {
                self.counter.rows_in += 1;
                return self.reject_line(Unreadable::LineTooLong { length }, head);
            }
        };
        if content.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')) {
            self.counter.blank_lines += 1;
            return Ok(false);
        }
        self.counter.rows_in += 1;
        let record = match self.locator.locate(content) {
            Ok(record) => record,
            Err(unreadable) => return self.reject_line(unreadable, content),
        };
        let Ok(mask) = self.plan.broken(&record, &mut self.scratch) else {
            let unreadable = self.plan.unreadable(&record);
            self.counter.unreadable(&unreadable);
            let row = Row::Object(record.text);
            self.rejects.unreadable(self.plan, self.line_number, &unreadable, &row)?;
            return Ok(false);
        };
        if mask == 0 {
            self.counter.kept += 1;
            self.counter.bytes_kept += line.length();
            return Ok(true);
        }
        self.rule_findings.clear();
        for rule in (0..self.plan.rules().len()).filter(|rule| mask >> rule & 1 == 1) {
            self.findings.clear();
            self.plan.find(rule, &record, &mut self.scratch, &mut self.findings);
            self.rule_findings.extend(self.findings.iter().map(|&finding| (rule, finding)));
        }
        self.counter.broken(mask, &self.rule_findings);
        self.rejects.broken(self.plan, self.line_number, &record, &self.rule_findings)?;
        Ok(false)
    }

    /// Rejects a line in which no record was found.
    fn reject_line(&mut self, unreadable: Unreadable, line: &[u8]) -> io::Result<bool> {
        let unreadable = [unreadable];
        self.counter.unreadable(&unreadable);
        self.rejects.unreadable(self.plan, self.line_number, &unreadable, &Row::Bytes(line))?;
        Ok(false)
    }
}

/// Writing over the input, or both outputs over each other, would lose rows.
fn refuse_same_file(shard: Shard<'_>) -> Result<(), Error> {
    let same = |one: &Path, other: &Path| {
        one == other
            || match (fs::canonicalize(one), fs::canonicalize(other)) {
                (Ok(one), Ok(other)) => one == other,
                _ => false,
            }
    };
    for (one, other) in
        [(shard.kept, shard.input), (shard.rejects, shard.input), (shard.kept, shard.rejects)]
    {
        if same(one, other) {
            return Err(Error::SameFile { path: one.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PLAN: &str = r#"{"max_line_bytes": 200, "rules": [
        {"name": "format", "kind": "numbers", "max_value": 999},
        {"name": "owls", "kind": "regex", "patterns": ["owl"], "ignore_case": true},
        {"name": "small", "kind": "numbers", "max_value": 99}
    ]}"#;

    struct Run {
        result: Result<Statistics, Error>,
        kept: Option<Vec<u8>>,
        rejects: Option<String>,
        left: usize,
    }

    fn run(bytes: &[u8], progress: &mut dyn FnMut(Progress) -> Flow) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let [input, kept, rejects] =
            ["in.jsonl", "kept.jsonl", "rejects.jsonl"].map(|name| directory.path().join(name));
        fs::write(&input, bytes).unwrap();
        let plan = Plan::from_json(PLAN).unwrap();
        let shard = Shard { input: &input, kept: &kept, rejects: &rejects };
        let result = filter_shard(&plan, shard, progress);
        Run {
            result,
            kept: fs::read(&kept).ok(),
            rejects: fs::read_to_string(&rejects).ok(),
            left: fs::read_dir(directory.path()).unwrap().count(),
        }
    }

    #[test]
    fn every_row_goes_to_one_of_two_places() {
        let long = format!("{{\"completion\":\"{}\"}}", "1".repeat(300));
        let input = format!(
            "\u{feff}{{ \"completion\" : \"1, 2\" }}\r\n\n\
             {{\"completion\":\"100\",\"id\":7}} \r\n  \r\n\
             not json\n{long}\n{{\"completion\":7}}\n[1]\n{{\"completion\":\"Owl\"}}\n\
             {{\"completion\":\"3\"}}"
        );
        let run = run(input.as_bytes(), &mut |_| Flow::Continue);
        let kept = "\u{feff}{ \"completion\" : \"1, 2\" }\r\n{\"completion\":\"3\"}";
        assert_eq!(String::from_utf8(run.kept.unwrap()).unwrap(), kept);
        let rejects: Vec<Value> =
            run.rejects.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let rows: Vec<_> = rejects
            .iter()
            .map(|reject| {
                let reasons: Vec<_> = reject["reasons"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|reason| (reason["rule"].as_str(), reason["reason"].as_str().unwrap()))
                    .collect();
                (reject["line"].as_u64().unwrap(), reasons, reject["row"].clone())
            })
            .collect();
        assert_eq!(
            rows,
            [
                (
                    3,
                    vec![(Some("small"), "numbers too large")],
                    json!({"completion": "100", "id": 7})
                ),
                (5, vec![(None, "invalid JSON")], json!("not json")),
                (6, vec![(None, "line too long")], json!(long[..200])),
                (7, vec![(None, "field is not a string")], json!({"completion": 7})),
                (8, vec![(None, "not a JSON object")], json!("[1]")),
                (
                    9,
                    vec![
                        (Some("format"), "invalid format"),
                        (Some("owls"), "matched `owl`"),
                        (Some("small"), "invalid format"),
                    ],
                    json!({"completion": "Owl"}),
                ),
            ]
        );
        let statistics = run.result.unwrap();
        assert_eq!(
            serde_json::to_value(&statistics).unwrap(),
            json!({
                "rows_in": 8, "kept": 2, "rejected": 6, "unreadable": 4, "blank_lines": 2,
                "bytes_in": input.len(), "bytes_kept": kept.len(),
                "rules": [
                    {"name": "format", "kind": "numbers", "hits": 1, "sole_hits": 0,
                     "reasons": {"invalid format": 1}},
                    {"name": "owls", "kind": "regex", "hits": 1, "sole_hits": 0,
                     "reasons": {"matched `owl`": 1}},
                    {"name": "small", "kind": "numbers", "hits": 2, "sole_hits": 1,
                     "reasons": {"invalid format": 1, "numbers too large": 1}},
                ],
                "unreadable_reasons": {
                    "invalid JSON": 1, "line too long": 1, "field is not a string": 1,
                    "not a JSON object": 1,
                },
            })
        );
    }

    #[test]
    fn an_interrupted_run_leaves_nothing() {
        let input = "{\"completion\":\"1\"}\n".repeat(200_000);
        let mut calls = 0;
        let run = run(input.as_bytes(), &mut |progress| {
            calls += 1;
            assert!(progress.rows > 0 && progress.kept == progress.rows);
            if calls == 2 { Flow::Stop } else { Flow::Continue }
        });
        assert!(matches!(run.result, Err(Error::Interrupted)));
        assert_eq!((calls, run.left), (2, 1));
        assert_eq!((run.kept, run.rejects), (None, None));
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let [input, kept, rejects] =
            ["in", "kept", "rejects"].map(|name| directory.path().join(name));
        let plan = Plan::from_json(PLAN).unwrap();
        let run = |input: &Path, kept: &Path, rejects: &Path| {
            let shard = Shard { input, kept, rejects };
            filter_shard(&plan, shard, &mut |_| Flow::Continue).map_err(|error| error.to_string())
        };
        let message = run(&input, &kept, &rejects).unwrap_err();
        assert!(message.starts_with(&format!("cannot read {}: ", input.display())), "{message}");
        fs::write(&input, "{\"completion\":\"1\"}\n").unwrap();
        assert!(run(&input, &input, &rejects).unwrap_err().contains("at once"));
        assert!(run(&input, &kept, &kept).unwrap_err().contains("at once"));
        let nowhere = directory.path().join("nowhere/rejects");
        let message = run(&input, &kept, &nowhere).unwrap_err();
        assert!(message.starts_with(&format!("cannot write {}: ", nowhere.display())), "{message}");
        assert!(!kept.exists());
        assert_eq!(fs::read_to_string(&input).unwrap(), "{\"completion\":\"1\"}\n");
        assert_eq!(run(&input, &kept, &rejects).unwrap().kept, 1);
    }
}
