//! What is written of a shard: kept rows in one file or several, rejects, and the journal from which
//! a killed run goes on.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::codec::{self, Codec};
use crate::error::Error;
use crate::plan::{Counts, Plan, Statistics};
use crate::shard::{Shard, Split};
use crate::sink::{Sink, Work, temporary};

/// Only the same engine is known to write the same bytes.
const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// Where all workers hand in what they made of a block, in order.
pub(crate) struct Output {
    pub kept: Parts,
    pub rejects: Sink,
    pub counts: Counts,
    /// The chunks that are finished.
    pub chunks: u64,
    /// Where the journal is, and a folder to write it in.
    journal: PathBuf,
    making: PathBuf,
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

impl Output {
    pub fn open(plan: &Plan, shard: Shard<'_>, work: &Work) -> Result<Output, Error> {
        let journal = || -> Option<Journal> {
            let journal: Journal = serde_json::from_slice(&fs::read(&work.journal).ok()?).ok()?;
            let is_ours = journal.engine == ENGINE && journal.chunk_bytes == shard.chunk_bytes;
            is_ours.then_some(journal)
        };
        let new = || Journal {
            engine: ENGINE.to_owned(),
            chunk_bytes: shard.chunk_bytes,
            chunks: 0,
            kept: PartsState::default(),
            rejects: 0,
            counts: Counts::new(plan),
        };
        let open = |journal: Journal| -> Result<Output, Error> {
            Ok(Output {
                kept: Parts::open(shard.kept, &work.kept, shard.split, journal.kept)
                    .map_err(Error::write(shard.kept))?,
                rejects: Sink::open(shard.rejects, &work.rejects, journal.rejects)
                    .map_err(Error::write(shard.rejects))?,
                counts: journal.counts,
                chunks: journal.chunks,
                journal: work.journal.clone(),
                making: work.making.clone(),
                // Nobody goes on where the folder is gone afterwards.
                journal_interval: shard.work.map_or(Duration::MAX, |_| shard.journal_interval),
                last_journal: Instant::now(),
                chunk_bytes: shard.chunk_bytes,
            })
        };
        // An output that is shorter than the journal says was meddled with: start again.
        journal().and_then(|journal| open(journal).ok()).map_or_else(|| open(new()), Ok)
    }

    pub fn end_of_chunk(&mut self) -> Result<(), Error> {
        self.chunks += 1;
        if self.last_journal.elapsed() > self.journal_interval {
            self.write_journal()?;
            self.last_journal = Instant::now();
        }
        Ok(())
    }

    fn write_journal(&self) -> Result<(), Error> {
        let Output { journal: path, making, .. } = self;
        self.kept.sync().map_err(Error::write(&self.kept.path()))?;
        self.rejects.sync().map_err(Error::write(self.rejects.path()))?;
        let journal = Journal {
            engine: ENGINE.to_owned(),
            chunk_bytes: self.chunk_bytes,
            chunks: self.chunks,
            kept: self.kept.state.clone(),
            rejects: self.rejects.length(),
            counts: self.counts.clone(),
        };
        let write = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(making))?;
            let mut sink = Sink::create(path, making)?;
            sink.write_all(&serde_json::to_vec(&journal)?)?;
            sink.finish()
        };
        write().map_err(Error::write(path))
    }

    pub fn finish(self, plan: &Plan) -> Result<Statistics, Error> {
        let path = self.kept.path();
        let mut parts = self.kept.finish().map_err(Error::write(&path))?;
        let path = self.rejects.path().to_owned();
        codec::finish(self.rejects).map_err(Error::write(&path))?;
        // Without the unfinished outputs it says nothing.
        let _ = fs::remove_file(&self.journal);
        if parts.is_empty() {
            parts.push(self.counts.kept);
        }
        Ok(self.counts.finish(plan, parts))
    }
}

/// The kept rows in one file, or in several.
pub(crate) struct Parts {
    path: PathBuf,
    making: PathBuf,
    split: Split,
    sink: Sink,
    state: PartsState,
}

/// Where the next row goes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct PartsState {
    /// The rows of the parts that are full.
    full: Vec<u64>,
    /// In this part, uncompressed.
    rows: u64,
    bytes: u64,
    /// Of the file.
    length: u64,
}

impl Parts {
    fn open(path: &Path, making: &Path, split: Split, state: PartsState) -> io::Result<Parts> {
        let part = split.part(path, state.full.len() as u64);
        let sink = Sink::open(&part, making, state.length)?;
        Ok(Parts { path: path.to_owned(), making: making.to_owned(), split, sink, state })
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
        let mut full = std::mem::take(&mut self.state.full);
        full.push(self.state.rows);
        let part = self.split.part(&self.path, full.len() as u64);
        self.state = PartsState { full, ..PartsState::default() };
        self.sink = Sink::create(&part, &self.making)?;
        Ok(())
    }

    /// Moves all parts to their places. Returns how many rows each has, if it is split.
    fn finish(self) -> io::Result<Vec<u64>> {
        let PartsState { full: mut rows, rows: last, .. } = self.state;
        for part in 0..rows.len() as u64 {
            let path = self.split.part(&self.path, part);
            // A run that was killed here has moved some of them.
            if temporary(&path, &self.making).exists() {
                fs::rename(temporary(&path, &self.making), &path)?;
            }
        }
        codec::finish(self.sink)?;
        if self.split != Split::default() {
            rows.push(last);
        }
        Ok(rows)
    }
}
