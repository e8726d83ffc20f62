//! What the run of one shard is told, and what it tells.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::duplicates::Decisions;
use crate::error::Error;

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
    /// What the rules that compare rows need to know, one for each of [`crate::Plan::comparisons`].
    pub duplicates: &'a [Duplicates<'a>],
    /// How much one worker takes at a time, uncompressed: [`crate::CHUNK_BYTES`]. It decides where the
    /// frames of compressed outputs end, and how much memory is needed.
    pub chunk_bytes: usize,
    /// Whether to say the sha256 of the files, as they are on the disk. It takes about as long as to
    /// find the fields.
    pub digests: bool,
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

/// When a file of kept rows is full: at whatever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// So many rows.
    pub rows: Option<u64>,
    /// So many bytes, uncompressed; a single row may be larger. Not for Parquet.
    pub bytes: Option<u64>,
}

impl Split {
    /// Where a part of the file at this path goes. `rows.jsonl.zst` is `rows-00000.jsonl.zst` if it has
    /// parts. Two files share no name of a part: what is before the last hyphen in front of the first
    /// dot, and behind that dot, is of the file alone.
    pub(crate) fn part(self, path: &Path, part: u64) -> PathBuf {
        if self == Split::default() {
            return path.to_owned();
        }
        path.with_file_name(part_name(path.file_name().unwrap_or_default(), part))
    }
}

/// The name of a part of the file with this name.
pub fn part_name(mut name: &OsStr, part: u64) -> OsString {
    let mut endings = Vec::new();
    while let (Some(before), Some(ending)) =
        (Path::new(name).file_stem(), Path::new(name).extension())
    {
        endings.push(ending);
        name = before;
    }
    let mut name = name.to_owned();
    name.push(format!("-{part:05}"));
    for ending in endings.iter().rev() {
        name.push(".");
        name.push(ending);
    }
    name
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_of_different_files_have_different_names(
            names in proptest::collection::btree_set("[aA0é.-]{1,3}(-0000[01])?(\\.j)?(-0000[01])?", 1..20),
            parts in proptest::collection::btree_set(prop_oneof![0..3u64, 99_999..100_002u64], 1..4),
        ) {
            let split = Split { rows: Some(1), bytes: None };
            let files = names.iter().filter(|name| !name.starts_with('.'));
            let all: Vec<_> = files
                .flat_map(|name| parts.iter().map(|part| split.part(Path::new(name), *part)))
                .collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
    }

    #[test]
    fn a_part_keeps_the_endings_of_its_file() {
        let split = Split { rows: None, bytes: Some(1) };
        for (name, part) in [
            ("k/rows.jsonl.zst", "k/rows-00012.jsonl.zst"),
            ("k/rows", "k/rows-00012"),
            ("k/a.b-00012.c", "k/a-00012.b-00012.c"),
        ] {
            assert_eq!(split.part(Path::new(name), 12), Path::new(part));
            assert_eq!(Split::default().part(Path::new(name), 12), Path::new(name));
        }
    }
}
