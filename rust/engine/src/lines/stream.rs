//! Filters rows on their way from one process to the next.
//!
//! Rows come and go in the order of the input, through the threads of `pipeline.rs`; one that
//! is kept goes on as soon as it is read, with no row in hand that waits for another. There is no
//! artifact: nothing is named, renamed or continued, and what was written before an error stays.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::block::Block;
use super::codec::{Codec, without_rows};
use super::judge::Judge;
use super::pipe::{is_abandoned, write_all};
use super::pipeline::{self, Turn, Worker};
use super::source::{CHUNK_BYTES, PACKED, Source};
use crate::error::Error;
use crate::plan::{Counts, Plan, Statistics};
use crate::shard::{Flow, Meter, Progress};

/// Where rows come from and go to. A stream is called `-` in rejects and in errors.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// JSON lines: plain, gzip or zstandard, by the first bytes. A pipe, or a file.
    pub input: &'a File,
    /// Where the rows go that no rule drops, uncompressed.
    pub kept: &'a File,
    /// Where all other rows go, with the reasons, compressed as the name says; or nowhere.
    pub rejects: Option<&'a Path>,
}

/// What comes together is worked on together, up to this: rejects may be compressed.
const MOST_BYTES: usize = PACKED * CHUNK_BYTES;

/// What the input is called.
const NAME: &str = "-";

/// Filters what comes. [`crate::duplicates`] need two passes, so a plan that compares rows fails.
///
/// `progress` is called as in [`crate::filter_shard`], and ten times a second while nothing comes.
/// Where nobody reads the kept rows any more, the error is a [`io::ErrorKind::BrokenPipe`].
pub fn filter_stream(
    plan: &Plan,
    streams: Streams<'_>,
    threads: usize,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    if !plan.comparisons().is_empty() {
        return Err(Error::NotSigned);
    }
    let input = Path::new(NAME);
    let source = streams
        .input
        .try_clone()
        .and_then(|file| Source::of(file, input, MOST_BYTES))
        .map_err(Error::read(input))?;
    let meter = Meter::new(source.bytes_read(), progress);
    let output = Output::open(plan, streams)?;
    let codec = || Codec::of(streams.rejects.unwrap_or(input));
    let output =
        pipeline::run(input, source, plan.max_line_bytes(), threads.max(1), output, || Filter {
            judge: Judge::new(plan, NAME, &[]),
            writer: Writer { rejects_codec: codec(), buffer: Vec::new() },
            meter: &meter,
        })?;
    meter.report()?;
    if let Some(Rejects { mut file, path, is_empty: true }) = output.rejects {
        without_rows(path).and_then(|bytes| file.write_all(&bytes)).map_err(Error::write(path))?;
    }
    let kept = output.counts.kept;
    Ok(output.counts.finish(plan, vec![kept]))
}

struct Output<'a> {
    kept: &'a File,
    rejects: Option<Rejects<'a>>,
    counts: Counts,
}

struct Rejects<'a> {
    file: File,
    path: &'a Path,
    is_empty: bool,
}

impl<'a> Output<'a> {
    fn open(plan: &Plan, streams: Streams<'a>) -> Result<Output<'a>, Error> {
        let Streams { input, kept, rejects } = streams;
        let refuse_same = |one: &File, other: &File, path: &Path| {
            let is_same = same_file(one, other).map_err(Error::read(path))?;
            if is_same { Err(Error::SameFile { path: path.to_owned() }) } else { Ok(()) }
        };
        refuse_same(input, kept, Path::new(NAME))?;
        let open = |path: &'a Path| {
            // What it holds is cut off when it is known to be no other stream.
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false);
            let file = options.open(path).map_err(Error::write(path))?;
            refuse_same(input, &file, path)?;
            refuse_same(kept, &file, path)?;
            if file.metadata().is_ok_and(|found| found.is_file()) {
                file.set_len(0).map_err(Error::write(path))?;
            }
            Ok(Rejects { file, path, is_empty: true })
        };
        Ok(Output { kept, rejects: rejects.map(open).transpose()?, counts: Counts::new(plan) })
    }
}

/// Are both one file on a disk? What is read would be lost, or never end.
fn same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok(one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// One thread.
struct Filter<'a> {
    judge: Judge<'a>,
    writer: Writer,
    meter: &'a Meter<'a>,
}

impl<'o> Worker<Output<'o>> for Filter<'_> {
    fn work(&mut self, block: &Block, turn: &mut Turn<'_, Output<'o>>) -> Result<(), Error> {
        let write =
            |judge: &mut Judge<'_>, turn: &mut Turn<'_, Output<'o>>| self.writer.write(judge, turn);
        self.judge.block(block, turn, self.meter, MOST_BYTES, write)?;
        self.meter.report()
    }
}

struct Writer {
    rejects_codec: Codec,
    buffer: Vec<u8>,
}

impl Writer {
    /// Waits for the turn, and writes what is pending.
    fn write(
        &mut self,
        judge: &mut Judge<'_>,
        turn: &mut Turn<'_, Output<'_>>,
    ) -> Result<(), Error> {
        let rejected = self.rejects_codec.encode(&judge.rejected, &mut self.buffer);
        let output = turn.wait()?;
        let kept = Path::new(NAME);
        if judge.kept.is_empty() && is_abandoned(output.kept) {
            return Err(Error::write(kept)(io::ErrorKind::BrokenPipe.into()));
        }
        write_all(output.kept, &judge.kept).map_err(Error::write(kept))?;
        if let Some(Rejects { file, path, is_empty }) = &mut output.rejects {
            *is_empty &= judge.rejected.is_empty();
            rejected.and_then(|bytes| file.write_all(bytes)).map_err(Error::write(path))?;
        }
        output.counts.take(&mut judge.counts);
        Ok(())
    }
}
