//! What is written of a shard: kept rows in one file or several, rejects, and the journal from which
//! a killed run goes on.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::codec::{self, Codec};
use crate::digest::{Beginning, Digest, DigestState, InputDigest};
use crate::error::Error;
use crate::plan::{Counts, Plan, Sha256, Statistics};
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
    is_at_end: bool,
    /// Where the journal is, and a folder to write it in.
    journal: PathBuf,
    making: PathBuf,
    journal_interval: Duration,
    last_journal: Instant,
    chunk_bytes: usize,
    input: InputDigest,
}

/// What it takes to go on after a crash.
#[derive(Deserialize, Serialize)]
pub(crate) struct Journal {
    engine: String,
    chunk_bytes: usize,
    chunks: u64,
    /// At least what was read for these chunks.
    pub input: Beginning,
    kept: PartsState,
    rejects: DigestState,
    counts: Counts,
}

impl Journal {
    /// That of a run that was killed, if it did the same.
    pub fn read(shard: Shard<'_>, work: &Work) -> Option<Journal> {
        let journal: Journal = serde_json::from_slice(&fs::read(&work.journal).ok()?).ok()?;
        let is_ours = journal.engine == ENGINE
            && journal.chunk_bytes == shard.chunk_bytes
            && journal.input.is_digested() == shard.digests;
        is_ours.then_some(journal)
    }
}

impl Output {
    /// Goes on from a journal, if it can, or starts again.
    pub fn open(
        plan: &Plan,
        shard: Shard<'_>,
        work: &Work,
        journal: Option<Journal>,
        input: InputDigest,
    ) -> Result<Output, Error> {
        let new = || Journal {
            engine: ENGINE.to_owned(),
            chunk_bytes: shard.chunk_bytes,
            chunks: 0,
            input: Beginning::default(),
            kept: PartsState::new(&Digest::new(shard.digests)),
            rejects: Digest::new(shard.digests).state(),
            counts: Counts::new(plan),
        };
        let open = |journal: Journal| -> Result<Output, Error> {
            Ok(Output {
                kept: Parts::open(shard.kept, &work.kept, shard.split, journal.kept)
                    .map_err(Error::write(shard.kept))?,
                rejects: Digest::of(&journal.rejects)
                    .and_then(|digest| Sink::open(shard.rejects, &work.rejects, digest))
                    .map_err(Error::write(shard.rejects))?,
                counts: journal.counts,
                chunks: journal.chunks,
                is_at_end: false,
                journal: work.journal.clone(),
                making: work.making.clone(),
                // Nobody goes on where the folder is gone afterwards.
                journal_interval: shard.work.map_or(Duration::MAX, |_| shard.journal_interval),
                last_journal: Instant::now(),
                chunk_bytes: shard.chunk_bytes,
                input: input.clone(),
            })
        };
        // An output that is shorter than the journal says was meddled with: start again.
        journal.and_then(|journal| open(journal).ok()).map_or_else(|| open(new()), Ok)
    }

    /// A chunk that is not full is the last one. It is never noted as done: what is appended to the
    /// file would belong to it.
    pub fn end_of_chunk(&mut self, is_full: bool) -> Result<(), Error> {
        self.is_at_end |= !is_full;
        self.chunks += 1;
        match self.input.begins() {
            Some(false) => return Err(Error::OtherInput),
            Some(true) if !self.is_at_end => {}
            _ => return Ok(()),
        }
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
            input: self.input.beginning(),
            kept: self.kept.state(),
            rejects: self.rejects.digest().state(),
            counts: self.counts.clone(),
        };
        let write = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(making))?;
            let mut sink = Sink::create(path, making)?;
            sink.write_all(&serde_json::to_vec(&journal)?)?;
            sink.finish().map(drop)
        };
        write().map_err(Error::write(path))
    }

    /// `input` is the sha256 of the file that was read.
    pub fn finish(self, plan: &Plan, input: String) -> Result<Statistics, Error> {
        let path = self.kept.path();
        let parts = self.kept.finish().map_err(Error::write(&path))?;
        let path = self.rejects.path().to_owned();
        let rejects = codec::finish(self.rejects).map_err(Error::write(&path))?;
        // Without the unfinished outputs it says nothing.
        let _ = fs::remove_file(&self.journal);
        let (mut rows, kept): (Vec<u64>, Vec<String>) = parts.into_iter().unzip();
        if let [rows] = rows.as_mut_slice() {
            // Of a file that is not split they are not counted one by one.
            *rows = self.counts.kept;
        }
        let sha256 = (!input.is_empty()).then_some(Sha256 { input, kept, rejects });
        Ok(Statistics { sha256, ..self.counts.finish(plan, rows) })
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
#[derive(Clone, Debug, Deserialize, Serialize)]
struct PartsState {
    /// The rows and the sha256 of the parts that are full.
    full: Vec<(u64, String)>,
    /// In this part, uncompressed.
    rows: u64,
    bytes: u64,
    /// What this part's file holds; up to date where it was asked for.
    written: DigestState,
}

impl PartsState {
    fn new(digest: &Digest) -> PartsState {
        PartsState { full: Vec::new(), rows: 0, bytes: 0, written: digest.state() }
    }
}

impl Parts {
    fn open(path: &Path, making: &Path, split: Split, state: PartsState) -> io::Result<Parts> {
        let part = split.part(path, state.full.len() as u64);
        let sink = Sink::open(&part, making, Digest::of(&state.written)?)?;
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
        self.sink.write_all(encoded)
    }

    fn state(&self) -> PartsState {
        PartsState { written: self.sink.digest().state(), ..self.state.clone() }
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
        full.push((self.state.rows, self.sink.digest().sha256()));
        let part = self.split.part(&self.path, full.len() as u64);
        let digest = self.sink.digest().anew();
        self.state = PartsState { full, ..PartsState::new(&digest) };
        self.sink = Sink::open(&part, &self.making, digest)?;
        Ok(())
    }

    /// Moves all parts to their places. Returns the rows and the sha256 of each.
    fn finish(self) -> io::Result<Vec<(u64, String)>> {
        let PartsState { full: mut parts, rows: last, .. } = self.state;
        for part in 0..parts.len() as u64 {
            let path = self.split.part(&self.path, part);
            // A run that was killed here has moved some of them.
            if temporary(&path, &self.making).exists() {
                fs::rename(temporary(&path, &self.making), &path)?;
            }
        }
        parts.push((last, codec::finish(self.sink)?));
        Ok(parts)
    }
}
