//! The first pass over a shard, for the rules that compare rows.

use std::path::Path;

use crate::duplicates::Signatures;
use crate::error::Error;
use crate::format::{self, Format};
use crate::json::Index;
use crate::json::Locator;
use crate::parquet;
use crate::pipeline::{self, Block, CHUNK_BYTES, Turn, Worker, content};
use crate::plan::{Plan, Signing};
use crate::shard::{Flow, Meter, Progress};
use crate::source::Source;

/// The first pass over a shard, for the rules that compare rows: one column of signatures for each
/// of [`Plan::comparisons`], with a row for each line.
pub fn sign_shard(
    plan: &Plan,
    input: &Path,
    threads: usize,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Vec<Signatures>, Error> {
    if format::of_file(input).map_err(Error::read(input))? == Format::Parquet {
        return parquet::sign(plan, input, progress);
    }
    let source = Source::open(input, CHUNK_BYTES).map_err(Error::read(input))?;
    let meter = Meter::new(source.bytes_read(), progress);
    let max_line_bytes = plan.max_line_bytes();
    let signatures =
        pipeline::run(input, source, max_line_bytes, threads.max(1), plan.no_signatures(), || {
            Sign {
                plan,
                index: Index::default(),
                locator: plan.locator(),
                scratch: Signing::default(),
                signatures: plan.no_signatures(),
                meter: &meter,
            }
        })?;
    meter.report()?;
    Ok(signatures)
}

/// One thread of the first pass.
struct Sign<'a> {
    plan: &'a Plan,
    index: Index,
    locator: Locator,
    scratch: Signing,
    signatures: Vec<Signatures>,
    meter: &'a Meter<'a>,
}

impl Worker<Vec<Signatures>> for Sign<'_> {
    fn work(&mut self, block: &Block, turn: &mut Turn<'_, Vec<Signatures>>) -> Result<(), Error> {
        let mut line_number = block.first_line;
        if block.too_long.is_some() {
            self.signatures.iter_mut().for_each(Signatures::push_none);
            line_number += 1;
        }
        for window in block.windows() {
            self.index.build(window);
            let mut at = 0;
            while at < window.len() {
                let end = (self.index.next_line_feed(at) + 1).min(window.len());
                let (from, to) = content(&window[at..end], line_number == 0);
                self.sign(window, at + from, at + to);
                line_number += 1;
                at = end;
            }
            self.meter.report()?;
            if turn.is_stopped() {
                return Err(Error::Interrupted);
            }
        }
        self.meter.add(line_number - block.first_line, 0);
        for (all, own) in turn.wait()?.iter_mut().zip(&mut self.signatures) {
            all.append(own);
        }
        Ok(())
    }
}

impl Sign<'_> {
    fn sign(&mut self, window: &[u8], start: usize, end: usize) {
        let is_long = end - start > self.plan.max_line_bytes();
        let located = self.locator.locate(window, &self.index, start, end);
        let record = located.as_ref().ok().filter(|_| !is_long);
        self.plan.sign(record, &mut self.scratch, &mut self.signatures);
    }
}
