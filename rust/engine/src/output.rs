//! What is written of a shard: kept rows in one file or several, rejects, and the journal from which
//! a killed run goes on.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::plan::Plan;
use crate::shard::{Shard, Split};
use crate::sink::{Codec, Sink, temporary};
use crate::statistics::{Counts, Statistics};

/// Only the same engine is known to write the same bytes.
const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// Removes what an error left of the outputs of a shard.
pub(crate) fn remove_unfinished(shard: Shard<'_>) {
    let _ = fs::remove_file(temporary(shard.rejects));
    for part in 0.. {
        let path = temporary(&part_path(shard.kept, shard.split, part));
        if fs::remove_file(path).is_err() || shard.split == Split::default() {
            break;
        }
    }
}

/// Where all workers hand in what they made of a block, in order.
pub(crate) struct Output<'a> {
    pub kept: Parts,
    pub rejects: Sink,
    pub counts: Counts,
    /// The chunks that are finished.
    pub chunks: u64,
    journal: Option<&'a Path>,
    journal_interval: Duration,
    last_journal: Instant,
    chunk_bytes: usize,
}

/// What it takes to go on after a crash.
#[derive(Deserialize, Serialize)]
struct Journal {
    engine: String,
    chunk_bytes: usize,
    chunks: u64,
    kept: PartsState,
    rejects: u64,
    counts: Counts,
}

impl<'a> Output<'a> {
    pub fn open(plan: &Plan, shard: Shard<'a>) -> Result<Output<'a>, Error> {
        let journal = shard.journal.and_then(|path| {
            let journal: Journal = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
            let is_ours = journal.engine == ENGINE && journal.chunk_bytes == shard.chunk_bytes;
            is_ours.then_some(journal)
        });
        let new = || Journal {
            engine: ENGINE.to_owned(),
            chunk_bytes: shard.chunk_bytes,
            chunks: 0,
            kept: PartsState::default(),
            rejects: 0,
            counts: Counts::new(plan),
        };
        let open = |journal: Journal| -> Result<Output<'a>, Error> {
            Ok(Output {
                kept: Parts::open(shard.kept, shard.split, journal.kept)
                    .map_err(Error::write(shard.kept))?,
                rejects: Sink::open(shard.rejects, journal.rejects)
                    .map_err(Error::write(shard.rejects))?,
                counts: journal.counts,
                chunks: journal.chunks,
                journal: shard.journal,
                journal_interval: shard.journal_interval,
                last_journal: Instant::now(),
                chunk_bytes: shard.chunk_bytes,
            })
        };
        // An output that is shorter than the journal says was meddled with: start again.
        journal.and_then(|journal| open(journal).ok()).map_or_else(|| open(new()), Ok)
    }

    pub fn end_of_chunk(&mut self) -> Result<(), Error> {
        self.chunks += 1;
        if let Some(path) = self.journal
            && self.last_journal.elapsed() > self.journal_interval
        {
            self.write_journal(path)?;
            self.last_journal = Instant::now();
        }
        Ok(())
    }

    fn write_journal(&self, path: &Path) -> Result<(), Error> {
        self.kept.sync().map_err(Error::write(&self.kept.path()))?;
        self.rejects.sync().map_err(Error::write(self.rejects.path()))?;
        let journal = Journal {
            engine: ENGINE.to_owned(),
            chunk_bytes: self.chunk_bytes,
            chunks: self.chunks,
            kept: self.kept.state,
            rejects: self.rejects.length(),
            counts: self.counts.clone(),
        };
        let write = || -> io::Result<()> {
            let mut sink = Sink::create(path)?;
            sink.write_all(&serde_json::to_vec(&journal)?)?;
            sink.finish()
        };
        write().map_err(Error::write(path))
    }

    pub fn finish(self, plan: &Plan) -> Result<Statistics, Error> {
        let path = self.kept.path();
        self.kept.finish().map_err(Error::write(&path))?;
        let path = self.rejects.path().to_owned();
        self.rejects.finish().map_err(Error::write(&path))?;
        if let Some(path) = self.journal {
            // Without the outputs under their temporary names it says nothing.
            let _ = fs::remove_file(path);
        }
        Ok(self.counts.finish(plan))
    }
}

/// The kept rows in one file, or in several.
pub(crate) struct Parts {
    path: PathBuf,
    split: Split,
    sink: Sink,
    state: PartsState,
}

/// Where the next row goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct PartsState {
    part: u64,
    /// In this part, uncompressed.
    rows: u64,
    bytes: u64,
    /// Of the file.
    length: u64,
}

impl Parts {
    fn open(path: &Path, split: Split, state: PartsState) -> io::Result<Parts> {
        let sink = Sink::open(&part_path(path, split, state.part), state.length)?;
        Ok(Parts { path: path.to_owned(), split, sink, state })
    }

    pub fn path(&self) -> PathBuf {
        self.sink.path().to_owned()
    }

    fn sync(&self) -> io::Result<()> {
        self.sink.sync()
    }

    /// Appends bytes that are encoded already, where there is one part only.
    pub fn write(&mut self, encoded: &[u8]) -> io::Result<()> {
        self.sink.write_all(encoded)?;
        self.state.length = self.sink.length();
        Ok(())
    }

    /// Appends whole rows, and starts another part wherever one is full.
    pub fn write_rows(
        &mut self,
        mut rows: &[u8],
        codec: &mut Codec,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        while !rows.is_empty() {
            let (now, after) = rows.split_at(self.room(rows));
            if now.is_empty() {
                self.next_part()?;
                continue;
            }
            self.write(codec.encode(now, buffer)?)?;
            rows = after;
        }
        Ok(())
    }

    /// How many bytes of these rows still fit in this part. Counts them as written.
    fn room(&mut self, rows: &[u8]) -> usize {
        let mut taken = 0;
        while taken < rows.len() {
            let row = memchr::memchr(b'\n', &rows[taken..]).map_or(rows.len() - taken, |at| at + 1);
            let state = &mut self.state;
            let is_full = self.split.rows.is_some_and(|limit| state.rows >= limit)
                || (state.rows > 0
                    && self.split.bytes.is_some_and(|limit| state.bytes + row as u64 > limit));
            if is_full {
                break;
            }
            state.rows += 1;
            state.bytes += row as u64;
            taken += row;
        }
        taken
    }

    fn next_part(&mut self) -> io::Result<()> {
        self.sink.sync()?;
        self.state = PartsState { part: self.state.part + 1, ..PartsState::default() };
        self.sink = Sink::create(&part_path(&self.path, self.split, self.state.part))?;
        Ok(())
    }

    /// Gives all parts their names.
    fn finish(self) -> io::Result<()> {
        for part in 0..self.state.part {
            let path = part_path(&self.path, self.split, part);
            // A run that was killed here has renamed some of them.
            if temporary(&path).exists() {
                fs::rename(temporary(&path), &path)?;
            }
        }
        self.sink.finish()
    }
}

/// `rows.jsonl.zst` is `rows-00000.jsonl.zst` if it has parts.
pub(crate) fn part_path(path: &Path, split: Split, part: u64) -> PathBuf {
    if split == Split::default() {
        return path.to_owned();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dot = name.char_indices().skip(1).find(|(_, c)| *c == '.').map_or(name.len(), |(at, _)| at);
    path.with_file_name(format!("{}-{part:05}{}", &name[..dot], &name[dot..]))
}
