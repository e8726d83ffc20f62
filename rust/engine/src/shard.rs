//! Filters one shard: read, judge, write.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::duplicates::Decisions;
use crate::error::{Error, shown};
use crate::format::{self, Format, is_named_parquet};
use crate::judge::Judge;
use crate::output::{Output, Work};
use crate::parquet;
use crate::pipeline::{self, Block, Turn, Worker};
use crate::plan::Plan;
use crate::reject::First;
use crate::sink::Codec;
use crate::source::{Decompressor, Source};
use crate::statistics::Statistics;

/// The files of one shard. The first bytes of the input decide about its format. The names of the
/// outputs must fit it: `.parquet`, or any other name, compressed if it ends in `.gz` or `.zst`.
#[derive(Clone, Copy, Debug)]
pub struct Shard<'a> {
    /// The rows.
    pub input: &'a Path,
    /// What the rejects call them; `None`: the path of the input.
    pub called: Option<&'a Path>,
    /// Where the rows go that no rule drops: byte by byte, or value by value in Parquet. With
    /// `split`, the name of every part is this one with a number: `NAME-00000.jsonl`.
    pub kept: &'a Path,
    /// Where all other rows go, with the reasons; [`crate::explain`] shows the same reasons.
    pub rejects: &'a Path,
    /// A folder for what is unfinished, on the file system of the outputs, in which nothing else is
    /// put. What is left in it, with a note of how far the work is, lets the same call go on after a
    /// crash; Parquet starts again. Shards with outputs of different names may share one. `None`:
    /// folders beside the outputs that are gone when the call ends.
    pub work: Option<&'a Path>,
    /// How often to note that. It costs a sync of the outputs.
    pub journal_interval: Duration,
    /// When to start another file of kept rows.
    pub split: Split,
    /// What the rules that compare rows need to know, one for each of [`Plan::comparisons`].
    pub duplicates: &'a [Duplicates<'a>],
    /// How much one worker takes at a time, uncompressed: [`crate::CHUNK_BYTES`]. It decides where the
    /// frames of compressed outputs end, and how much memory is needed.
    pub chunk_bytes: usize,
    /// How many threads may work on it. They do not change what is written.
    pub threads: usize,
}

/// The rows of this shard that repeat an earlier one, of this or another shard. The row of a
/// decision is the number of the line, from 0.
#[derive(Clone, Copy, Debug)]
pub struct Duplicates<'a> {
    /// About all shards.
    pub decisions: &'a Decisions,
    /// The index of this shard.
    pub shard: u32,
    /// What the rejects call all shards' inputs.
    pub files: &'a [String],
}

/// The rules that compare rows and are broken by the row with this number, from 0; `firsts` are
/// replaced by the rows that it repeats.
pub(crate) fn repeated<'a>(
    plan: &Plan,
    duplicates: &[Duplicates<'a>],
    number: u64,
    firsts: &mut Vec<First<'a>>,
) -> u64 {
    firsts.clear();
    let mut broken = 0;
    for (comparison, duplicates) in plan.comparisons().iter().zip(duplicates) {
        let decisions = duplicates.decisions;
        // A file that has grown since is read to its end; its digest will tell.
        if number < decisions.rows(duplicates.shard)
            && let Some((shard, line)) = decisions.first(duplicates.shard, number)
        {
            broken |= 1 << comparison.rule;
            let file = duplicates.files.get(shard as usize).map_or("", String::as_str);
            firsts.push(First { rule: comparison.rule, file, line });
        }
    }
    broken
}

/// When a file of kept rows is full: at whatever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// So many rows.
    pub rows: Option<u64>,
    /// So many bytes, uncompressed; a single row may be larger. Not for Parquet.
    pub bytes: Option<u64>,
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
    /// Of the bytes read, those on which an earlier call had worked already.
    pub skipped: u64,
}

/// What the progress callback wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop, and return [`Error::Interrupted`].
    Stop,
}

/// What all threads that work on a shard have done, and whom to tell.
pub(crate) struct Meter<'a> {
    bytes_read: Arc<AtomicU64>,
    rows: AtomicU64,
    kept: AtomicU64,
    skipped: AtomicU64,
    progress: &'a (dyn Fn(Progress) -> Flow + Sync),
}

impl<'a> Meter<'a> {
    /// `bytes_read` is counted by whoever reads.
    pub fn new(
        bytes_read: Arc<AtomicU64>,
        progress: &'a (dyn Fn(Progress) -> Flow + Sync),
    ) -> Meter<'a> {
        let [rows, kept, skipped] = [const { AtomicU64::new(0) }; 3];
        Meter { bytes_read, rows, kept, skipped, progress }
    }

    /// Counts rows.
    pub fn add(&self, rows: u64, kept: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.kept.fetch_add(kept, Ordering::Relaxed);
    }

    /// What was read so far needed no work.
    pub fn skip(&self) {
        self.skipped.fetch_max(self.bytes_read.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Says how far the work is, and fails if it shall stop.
    pub fn report(&self) -> Result<(), Error> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (bytes_read, rows, kept) = (load(&self.bytes_read), load(&self.rows), load(&self.kept));
        let skipped = load(&self.skipped);
        match (self.progress)(Progress { bytes_read, rows, kept, skipped }) {
            Flow::Continue => Ok(()),
            Flow::Stop => Err(Error::Interrupted),
        }
    }
}

/// Filters one shard. On any error, neither output appears under its name; what there is of them
/// stays in the shard's folder for work, if it has one.
///
/// `progress` is called by all threads, each time that one has worked on 256 KiB.
pub fn filter_shard(
    plan: &Plan,
    shard: Shard<'_>,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    refuse_same_file(shard)?;
    if shard.duplicates.len() != plan.comparisons().len() {
        return Err(Error::NotSigned);
    }
    // Removed at the end, with what is in them.
    let (own, work);
    match shard.work {
        Some(folder) => work = Work::new(shard, folder, folder),
        None => {
            own = [folder_beside(shard.kept)?, folder_beside(shard.rejects)?];
            work = Work::new(shard, own[0].path(), own[1].path());
        }
    }
    if format::of_file(shard.input).map_err(Error::read(shard.input))? == Format::Parquet {
        return parquet::filter(plan, shard, &work, progress);
    }
    for path in [shard.kept, shard.rejects] {
        if is_named_parquet(path) {
            let message = format!("it is not Parquet, so {} cannot be", path.display());
            return Err(Error::Unfit { path: shard.input.to_owned(), message });
        }
    }
    filter(plan, shard, &work, progress)
}

/// A folder of a name that nothing has, removed when it is dropped.
pub(crate) fn folder_beside(path: &Path) -> Result<TempDir, Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".subl-")
        .tempdir_in(parent.unwrap_or(Path::new(".")))
        .map_err(Error::write(path))
}

/// So much of a shard is its beginning, decompressed.
const CHECKED_BYTES: usize = 1 << 16;

/// Looks at the beginning of a shard, so that what can fail at once does not fail late.
pub fn check_shard(plan: &Plan, input: &Path, split: Split) -> Result<(), Error> {
    match format::of_file(input).map_err(Error::read(input))? {
        Format::Parquet => parquet::check(plan, input, split),
        // Not its first line, which may be as long as the file.
        Format::Lines(_) => Source::open(input, CHECKED_BYTES)
            .and_then(|mut source| {
                let (mut first, mut spare) = (Vec::new(), Vec::new());
                match source.next_chunk(&mut first)? {
                    Some(chunk) => {
                        Decompressor::default().decompress(&chunk, &mut first, &mut spare)
                    }
                    None => Ok(()),
                }
            })
            .map_err(Error::read(input)),
    }
}

fn filter(
    plan: &Plan,
    shard: Shard<'_>,
    work: &Work,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    let source = Source::open(shard.input, shard.chunk_bytes).map_err(Error::read(shard.input))?;
    let meter = Meter::new(source.bytes_read(), progress);
    let output = Output::open(plan, shard, work)?;
    let done = output.chunks;
    meter.add(output.counts.rows_in, output.counts.kept);
    let file = shown(shard.called.unwrap_or(shard.input));
    let output = pipeline::run(
        shard.input,
        source,
        plan.max_line_bytes(),
        shard.threads.max(1),
        output,
        || Filter {
            judge: Judge::new(plan, &file, shard.duplicates),
            writer: Writer {
                kept_codec: Codec::of(shard.kept),
                rejects_codec: Codec::of(shard.rejects),
                buffer: Vec::new(),
                split: shard.split,
            },
            done,
            chunk_bytes: shard.chunk_bytes,
            meter: &meter,
        },
    )?;
    meter.report()?;
    output.finish(plan)
}

/// One thread.
struct Filter<'a> {
    judge: Judge<'a>,
    writer: Writer,
    /// The chunks that an earlier run has finished.
    done: u64,
    /// What is not handed in yet may grow to this before a worker waits for its turn.
    chunk_bytes: usize,
    meter: &'a Meter<'a>,
}

impl Worker<Output> for Filter<'_> {
    fn work(&mut self, block: &Block, turn: &mut Turn<'_, Output>) -> Result<(), Error> {
        if block.chunk < self.done {
            self.meter.skip();
            return self.meter.report();
        }
        let write =
            |judge: &mut Judge<'_>, turn: &mut Turn<'_, Output>| self.writer.write(judge, turn);
        self.judge.block(block, turn, self.meter, self.chunk_bytes, write)?;
        turn.wait()?.end_of_chunk()
    }
}

struct Writer {
    kept_codec: Codec,
    rejects_codec: Codec,
    buffer: Vec<u8>,
    split: Split,
}

impl Writer {
    /// Compresses what is pending, waits for the turn, and writes it.
    fn write(&mut self, judge: &mut Judge<'_>, turn: &mut Turn<'_, Output>) -> Result<(), Error> {
        if self.split == Split::default() {
            let encoded = self.kept_codec.encode(&judge.kept, &mut self.buffer);
            let output = turn.wait()?;
            let path = output.kept.path();
            encoded.and_then(|bytes| output.kept.write(bytes)).map_err(Error::write(&path))?;
        } else {
            let output = turn.wait()?;
            let path = output.kept.path();
            output
                .kept
                .write_rows(&judge.kept, &mut self.kept_codec, &mut self.buffer)
                .map_err(Error::write(&path))?;
        }
        // Most blocks have few rejects: what is left of the turn is short.
        let encoded = self.rejects_codec.encode(&judge.rejected, &mut self.buffer);
        let output = turn.wait()?;
        encoded
            .and_then(|bytes| output.rejects.write_all(bytes))
            .map_err(Error::write(output.rejects.path()))?;
        output.counts.take(&mut judge.counts);
        Ok(())
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
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::duplicates::{cluster, settle};
    use crate::sign_shard;
    use crate::sink::Sink;

    const PLAN: &str = r#"{"max_line_bytes": 200, "rules": [
        {"name": "format", "kind": "numbers", "max_value": 999},
        {"name": "owls", "kind": "regex", "patterns": ["owl"], "ignore_case": true},
        {"name": "small", "kind": "numbers", "max_value": 99}
    ]}"#;

    fn shard<'a>(paths: &'a [PathBuf; 3], threads: usize) -> Shard<'a> {
        let [input, kept, rejects] = paths;
        Shard {
            input,
            called: None,
            kept,
            rejects,
            work: None,
            journal_interval: Duration::ZERO,
            split: Split::default(),
            duplicates: &[],
            chunk_bytes: 100_000,
            threads,
        }
    }

    fn paths(directory: &Path, extension: &str) -> [PathBuf; 3] {
        ["in", "kept", "rejects"].map(|name| directory.join(format!("{name}.jsonl{extension}")))
    }

    fn go_on(_: Progress) -> Flow {
        Flow::Continue
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
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path(), "");
        fs::write(&paths[0], &input).unwrap();
        let plan = Plan::from_json(PLAN).unwrap();
        let statistics = filter_shard(&plan, shard(&paths, 1), &go_on).unwrap();
        let kept = "\u{feff}{ \"completion\" : \"1, 2\" }\r\n{\"completion\":\"3\"}";
        assert_eq!(fs::read_to_string(&paths[1]).unwrap(), kept);
        let rejects: Vec<Value> = fs::read_to_string(&paths[2])
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
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
        assert_eq!(
            serde_json::to_value(&statistics).unwrap(),
            json!({
                "rows_in": 8, "kept": 2, "rejected": 6, "unreadable": 4, "tagged": 0,
                "blank_lines": 2,
                "bytes_in": input.len(), "bytes_kept": kept.len(), "parts": [2],
                "rules": [
                    {"name": "format", "kind": "numbers", "hits": 1, "sole_hits": 0,
                     "reasons": {"invalid format": 1}},
                    {"name": "owls", "kind": "regex", "hits": 1, "sole_hits": 0,
                     "reasons": {"matched `owl`": 1}},
                    {"name": "small", "kind": "numbers", "hits": 2, "sole_hits": 1,
                     "reasons": {"invalid format": 1, "numbers too large": 1}},
                ],
                "unreadable_reasons": {
                    "invalid JSON": 1, "line too long": 1, "field is not a string: completion": 1,
                    "not a JSON object": 1,
                },
            })
        );
    }

    #[test]
    fn the_beginning_of_a_shard_is_not_its_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan::from_json(r#"{"rules": [{"name": "n", "kind": "numbers"}]}"#).unwrap();
        let check = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            check_shard(&plan, &path, Split::default())
        };
        // A line that is cut where it has not been read yet.
        let mut line = b"{\"completion\":\"".to_vec();
        line.extend((0..1u32 << 20).map(|n| b'a' + (n.wrapping_mul(0x9E37_79B9) >> 28) as u8));
        for compression in [flate2::Compression::none(), flate2::Compression::fast()] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), compression);
            encoder.write_all(&line).unwrap();
            let packed = encoder.finish().unwrap();
            check("long.jsonl.gz", &packed[..packed.len() - 100]).unwrap();
            assert!(check("cut.jsonl.gz", &packed[..100]).is_err());
        }
        let packed = zstd::bulk::compress(&line, 3).unwrap();
        check("long.jsonl.zst", &packed[..packed.len() - 100]).unwrap();
        assert!(check("cut.jsonl.zst", &packed[..100]).is_err());
        check("empty.jsonl", b"").unwrap();
    }

    /// Rows of about 100 bytes: kept ones, rejected ones, long ones, and what is no row at all.
    fn rows(count: usize) -> Vec<u8> {
        let mut rows = Vec::new();
        for number in 0..count {
            let text = match number % 11 {
                0 => "an owl".to_owned(),
                1 => "1, 2, 1000".to_owned(),
                2 => "no \"numbers\" \\ é".to_owned(),
                3 if number % 7 == 0 => "1, ".repeat(70),
                _ => format!("{}, 7, 8", number % 90),
            };
            let line = match number % 13 {
                5 => "not json".to_owned(),
                6 => " ".to_owned(),
                _ => json!({"id": number, "prompt": "go on".repeat(14), "completion": text})
                    .to_string(),
            };
            rows.extend_from_slice(line.as_bytes());
            rows.push(b'\n');
        }
        rows
    }

    /// Writes `bytes` in several frames or members, or as they are.
    fn write(path: &Path, bytes: &[u8]) {
        let (mut codec, mut buffer) = (Codec::of(path), Vec::new());
        let making = path.with_file_name("making");
        let mut sink = Sink::create(path, &making).unwrap();
        for part in bytes.chunks(70_003) {
            sink.write_all(codec.encode(part, &mut buffer).unwrap()).unwrap();
        }
        sink.finish().unwrap();
    }

    #[test]
    fn threads_and_interruptions_change_nothing() {
        let rows = rows(20_000);
        assert!(rows.len() > 1_500_000);
        let plan = Plan::from_json(PLAN).unwrap();
        for extension in ["", ".gz", ".zst"] {
            let directory = tempfile::tempdir().unwrap();
            let paths = paths(directory.path(), extension);
            let work = directory.path().join("work");
            write(&paths[0], &rows);
            let mut outputs = Vec::new();
            for threads in [1, 3] {
                let statistics = filter_shard(&plan, shard(&paths, threads), &go_on).unwrap();
                assert_eq!(statistics.rows_in, statistics.kept + statistics.rejected);
                outputs.push((
                    statistics,
                    fs::read(&paths[1]).unwrap(),
                    fs::read(&paths[2]).unwrap(),
                ));
                // Stopped anywhere, with a journal after every chunk, and continued.
                let once = |limit: u64| {
                    let mut shard = shard(&paths, threads);
                    shard.work = Some(&work);
                    let calls = AtomicU64::new(0);
                    filter_shard(&plan, shard, &|_| {
                        let calls = calls.fetch_add(1, Ordering::Relaxed);
                        if calls >= limit { Flow::Stop } else { Flow::Continue }
                    })
                };
                for path in &paths[1..] {
                    fs::remove_file(path).unwrap();
                }
                for limit in [1, 4, 7] {
                    assert!(matches!(once(limit), Err(Error::Interrupted)));
                    assert!(!paths[1].exists() && !paths[2].exists());
                }
                let statistics = once(u64::MAX).unwrap();
                for folder in fs::read_dir(&work).unwrap() {
                    assert_eq!(fs::read_dir(folder.unwrap().path()).unwrap().count(), 0);
                }
                outputs.push((
                    statistics,
                    fs::read(&paths[1]).unwrap(),
                    fs::read(&paths[2]).unwrap(),
                ));
            }
            assert!(outputs.iter().all(|output| *output == outputs[0]), "{extension}");
        }
    }

    #[test]
    fn parts_hold_what_they_may() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path(), ".zst");
        write(&paths[0], &rows(5000));
        let plan = Plan::from_json(PLAN).unwrap();
        let mut shard = shard(&paths, 2);
        let statistics = filter_shard(&plan, shard, &go_on).unwrap();
        let whole = zstd::decode_all(&fs::read(&paths[1]).unwrap()[..]).unwrap();
        for split in [
            Split { rows: Some(1000), bytes: None },
            Split { rows: None, bytes: Some(50_000) },
            Split { rows: Some(10_000), bytes: Some(1 << 30) },
        ] {
            shard.split = split;
            let found = filter_shard(&plan, shard, &go_on).unwrap();
            assert_eq!(Statistics { parts: statistics.parts.clone(), ..found.clone() }, statistics);
            let mut all = Vec::new();
            let mut part = 0;
            while let Ok(bytes) =
                fs::read(directory.path().join(format!("kept-{part:05}.jsonl.zst")))
            {
                let rows = zstd::decode_all(&bytes[..]).unwrap();
                let count = rows.iter().filter(|&&byte| byte == b'\n').count() as u64;
                assert_eq!(count, found.parts[part]);
                assert!(split.rows.is_none_or(|limit| count <= limit));
                assert!(split.bytes.is_none_or(|limit| rows.len() as u64 <= limit));
                all.extend_from_slice(&rows);
                fs::remove_file(directory.path().join(format!("kept-{part:05}.jsonl.zst")))
                    .unwrap();
                part += 1;
            }
            assert!(all == whole, "{split:?}");
            let expected =
                split.rows.map_or(part, |limit| statistics.kept.div_ceil(limit) as usize);
            assert_eq!((part, found.parts.len()), (expected, expected), "{split:?}");
        }
    }

    #[test]
    fn tags_are_added_to_the_row() {
        let plan = Plan::from_json(
            r#"{"tag_field": "t \"x\"", "rules": [
                {"name": "owl", "kind": "literal", "words": ["owl"], "action": "tag"},
                {"name": "a", "kind": "literal", "words": ["a"], "action": "tag"},
                {"name": "b", "kind": "literal", "words": ["b"], "action": "count"}
            ]}"#,
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path(), "");
        let input = "{\"completion\":\"b\"}\n {\"completion\":\"an OWL\" } \r\n\
                     {\"completion\":\"x\"}\n{\"completion\":\"a owl b\"}\n\
                     {\"completion\":\"a\",\"t \\\"x\\\"\":1}";
        fs::write(&paths[0], input).unwrap();
        let statistics = filter_shard(&plan, shard(&paths, 1), &go_on).unwrap();
        let kept = fs::read_to_string(&paths[1]).unwrap();
        assert_eq!(
            kept,
            "{\"completion\":\"b\"}\n {\"completion\":\"an OWL\",\"t \\\"x\\\"\":[\"owl\"]} \r\n\
             {\"completion\":\"x\"}\n{\"completion\":\"a owl b\",\"t \\\"x\\\"\":[\"owl\",\"a\"]}\n"
        );
        assert_eq!((statistics.kept, statistics.tagged, statistics.unreadable), (4, 2, 1));
        assert_eq!(statistics.bytes_kept, kept.len() as u64);
        assert_eq!(statistics.rules[2].hits, 2);
        assert!(fs::read_to_string(&paths[2]).unwrap().contains("tag field exists"));
    }

    #[test]
    fn many_rejects_are_written_before_the_end_of_a_block() {
        let plan = Plan::from_json(
            r#"{"rules": [{"name": "a rule with a long name", "kind": "numbers"}]}"#,
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path(), "");
        fs::write(&paths[0], "{\"completion\":\"\"}\n".repeat(20_000)).unwrap();
        for threads in [1, 2] {
            assert_eq!(filter_shard(&plan, shard(&paths, threads), &go_on).unwrap().kept, 0);
            let rejects = fs::read_to_string(&paths[2]).unwrap();
            for (number, line) in rejects.lines().enumerate().step_by(999) {
                assert!(line.contains(&format!("\"line\":{},", number + 1)), "{line}");
            }
        }
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let [input, kept, rejects] = paths(directory.path(), "");
        let plan = Plan::from_json(PLAN).unwrap();
        let run = |input: &Path, kept: &Path, rejects: &Path| {
            let paths = [input, kept, rejects].map(Path::to_owned);
            filter_shard(&plan, shard(&paths, 1), &go_on).map_err(|error| error.to_string())
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

    #[test]
    fn a_row_may_repeat_one_of_another_shard() {
        let plan = Plan::from_json(
            r#"{"rules": [
                {"name": "again", "kind": "duplicate", "method": "exact"},
                {"name": "n", "kind": "numbers", "field": "id", "action": "count"},
                {"name": "again and no number", "kind": "all", "rules": ["again", "n"],
                 "action": "count"}
            ]}"#,
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let row = |id: &str, text: &str| format!("{{\"id\":\"{id}\",\"completion\":\"{text}\"}}\n");
        let first = [row("1", "a"), "\n".to_owned(), row("x", "b"), row("3", "a")].concat();
        let second =
            ["{}\n".to_owned(), row("4", "b"), row("y", "c"), row("z", "\\u0061")].concat();
        let files = ["one.jsonl", "two.jsonl"].map(str::to_owned);
        let paths = paths(directory.path(), "");
        let inputs = files.clone().map(|name| directory.path().join(name));
        fs::write(&inputs[0], first).unwrap();
        fs::write(&inputs[1], second).unwrap();
        let signatures: Vec<_> = inputs
            .iter()
            .map(|input| sign_shard(&plan, input, 2, &go_on).unwrap().remove(0))
            .collect();
        assert_eq!((signatures[0].rows(), signatures[1].rows()), (4, 4));
        let clusters = cluster(&plan.comparisons()[0].signer, signatures, 1).unwrap();
        let decisions = settle(&plan.settling(), vec![clusters]).remove(0);
        let mut shard = shard(&paths, 1);
        let mut rejects = Vec::new();
        for (index, input) in inputs.iter().enumerate() {
            shard.input = input;
            assert!(matches!(filter_shard(&plan, shard, &go_on), Err(Error::NotSigned)));
            let duplicates =
                [Duplicates { decisions: &decisions, shard: index as u32, files: &files }];
            let statistics = {
                let shard = Shard { duplicates: &duplicates, ..shard };
                filter_shard(&plan, shard, &go_on).unwrap()
            };
            assert_eq!(statistics.rules[2].hits, index as u64, "{statistics:?}");
            for line in fs::read_to_string(&paths[2]).unwrap().lines() {
                let reject: Value = serde_json::from_str(line).unwrap();
                rejects.push((reject["line"].clone(), reject["reasons"][0]["first"].clone()));
            }
        }
        assert_eq!(
            rejects,
            [
                (json!(4), json!({"file": "one.jsonl", "line": 1})),
                (json!(1), Value::Null),
                (json!(2), json!({"file": "one.jsonl", "line": 3})),
                (json!(4), json!({"file": "one.jsonl", "line": 1})),
            ]
        );
    }
}
