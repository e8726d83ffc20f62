//! Filters a shard of JSON lines: read, judge, write, in as many threads as there shall be.

use std::io::Write;

use super::block::Block;
use super::codec::Codec;
use super::judge::Judge;
use super::output::{Journal, Output};
use super::pipeline::{self, Turn, Worker};
use super::source::{PACKED, Source};
use crate::digest::InputDigest;
use crate::error::{Error, shown};
use crate::format::Compression;
use crate::plan::{Plan, Statistics};
use crate::shard::{Flow, Meter, Progress, Shard, Split};
use crate::sink::Work;

/// Filters one shard of lines.
pub(crate) fn filter(
    plan: &Plan,
    mut shard: Shard<'_>,
    compression: Compression,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    let all = [compression, Compression::of(shard.kept), Compression::of(shard.rejects)];
    if all != [Compression::None; 3] {
        shard.chunk_bytes *= PACKED;
    }
    let work = Work::open(shard.kept, shard.rejects, shard.work)?;
    if let Some(journal) = Journal::read(shard, &work) {
        match run(plan, shard, &work, Some(journal), progress) {
            Err(Error::OtherInput) => {}
            result => return result,
        }
    }
    run(plan, shard, &work, None, progress)
}

/// From the beginning, or from a journal on, if the input still begins as it did then.
fn run(
    plan: &Plan,
    shard: Shard<'_>,
    work: &Work,
    journal: Option<Journal>,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    let begins = journal.as_ref().map(|journal| journal.input.clone());
    let digest = InputDigest::new(shard.digests, begins.unwrap_or_default());
    let source = Source::digested(shard.input, shard.chunk_bytes, digest.clone())
        .map_err(Error::read(shard.input))?;
    let meter = Meter::new(source.bytes_read(), progress);
    let output = Output::open(plan, shard, work, journal, digest.clone())?;
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
    if digest.begins() != Some(true) {
        return Err(Error::OtherInput);
    }
    output.finish(plan, digest.sha256())
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
        turn.wait()?.end_of_chunk(block.is_full(self.chunk_bytes))
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
