//! The first pass over a shard of lines, for the rules that compare rows.

use std::path::Path;

use super::block::{Block, content};
use super::pipeline::{self, Turn, Worker};
use super::source::{CHUNK_BYTES, Source};
use crate::duplicates::Signatures;
use crate::error::Error;
use crate::json::{Index, Locator};
use crate::plan::{Plan, Signing};
use crate::shard::{Flow, Meter, Progress};

/// See [`crate::sign_shard`].
pub fn sign(
    plan: &Plan,
    input: &Path,
    threads: usize,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Vec<Signatures>, Error> {
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
