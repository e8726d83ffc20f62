//! Filters a shard of Parquet: row groups are judged and written in as many threads as there shall be.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

use super::chunk::{self, Chunk, Description};
use super::codec::Codecs;
use super::columns;
use super::errors::{catch, to_io};
use super::group::Group;
use super::input::{Input, fit};
use super::judge::{Judge, Verdicts};
use super::output::{Layout, Output};
use crate::digest::Digest;
use crate::error::{Error, shown};
use crate::json::bits;
use crate::plan::{Counts, Plan, Sha256, Statistics};
use crate::shard::{Flow, Meter, Progress, Shard, Split};
use crate::sink::Work;
use crate::threads::{InOrder, Team, lock};

/// Filters one shard of Parquet. On any error neither output appears.
pub(crate) fn filter(
    plan: &Plan,
    shard: Shard<'_>,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    let input = fit(plan, shard.input, shard.split)?;
    let tag = (plan.tags() != 0).then(|| plan.tag_field());
    let layouts = || {
        let (parquet, arrow) = (input.metadata.metadata(), input.metadata.schema());
        Ok((Layout::kept(parquet, arrow, tag)?, Layout::rejects(parquet, arrow)?))
    };
    let (kept, rejects) = catch(shard.input, || layouts().map_err(to_io))?;
    let work = Work::open(shard.kept, shard.rejects, shard.work)?;
    let bytes_read = Arc::new(AtomicU64::new(0));
    let digest = || Digest::new(shard.digests);
    let results = Results {
        kept: Output::create(shard.kept, &work.kept, shard.split, &kept, digest())?,
        rejects: Output::create(
            shard.rejects,
            &work.rejects,
            Split::default(),
            &rejects,
            digest(),
        )?,
        counts: Counts::new(plan),
    };
    let run = Run {
        plan,
        shard,
        input: &input,
        kept: &kept,
        rejects: &rejects,
        next: AtomicUsize::new(0),
        starts: InOrder::new(0),
        results: InOrder::new(results),
        digest: InOrder::new(digest()),
        team: Team::default(),
        bytes_read: Arc::clone(&bytes_read),
        meter: Meter::new(bytes_read, progress),
    };
    let threads = shard.threads.clamp(1, input.groups().len().max(1));
    let work = || catch(shard.input, || Ok(run.work())).and_then(|result| result);
    let wake = || {
        run.starts.wake();
        run.results.wake();
        run.digest.wake();
    };
    run.team.run(threads, work, wake)?;
    run.report()?;
    // Behind the last row group is the footer.
    let read = || -> io::Result<String> {
        let (file, mut digest) = (File::open(shard.input)?, run.digest.into_inner());
        digest.read(&file, file.metadata()?.len())?;
        Ok(digest.sha256())
    };
    let input = read().map_err(Error::read(shard.input))?;
    let results = run.results.into_inner();
    let (parts, kept) = results.kept.finish()?;
    let (_, rejects) = results.rejects.finish()?;
    let rejects = rejects.concat();
    let sha256 = shard.digests.then_some(Sha256 { input, kept, rejects });
    Ok(Statistics { sha256, ..results.counts.finish(plan, parts) })
}

/// What the workers hand in to.
struct Results<'a> {
    kept: Output<'a>,
    rejects: Output<'a>,
    counts: Counts,
}

/// One shard on its way.
struct Run<'a> {
    plan: &'a Plan,
    shard: Shard<'a>,
    input: &'a Input,
    kept: &'a Layout,
    rejects: &'a Layout,
    next: AtomicUsize,
    /// How many rows were kept before a row group.
    starts: InOrder<u64>,
    results: InOrder<Results<'a>>,
    /// Of the input, up to the end of the row groups that are written: they are in the page cache.
    digest: InOrder<Digest>,
    team: Team,
    bytes_read: Arc<AtomicU64>,
    meter: Meter<'a>,
}

impl Run<'_> {
    fn work(&self) -> Result<(), Error> {
        let path = self.shard.input;
        // Its own: the position in a file that is shared is shared too.
        let file = Arc::new(File::open(path).map_err(Error::read(path))?);
        let mut judge = Judge::new(self.plan, self.shard, self.input);
        let mut codecs = Codecs::new();
        let groups = self.input.groups();
        let mut firsts = Vec::with_capacity(groups.len());
        let mut next = 1i64;
        for group in groups {
            firsts.push(next);
            next = next.saturating_add(group.num_rows());
        }
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = groups.get(index) else { return Ok(()) };
            let open = Group::new(&file, self.input.metadata.metadata(), index);
            let verdicts = judge.group(&open, firsts[index], |rows, kept| {
                self.meter.add(rows, kept);
                self.report()
            })?;
            self.write(index, &open, verdicts, &mut codecs)?;
            let mut digest = self.digest.wait(index as u64, &self.team)?;
            let ends = group.columns().iter().map(|chunk| chunk.byte_range());
            let end = ends.map(|(start, length)| start.saturating_add(length)).max();
            digest.1.read(&file, end.unwrap_or(0)).map_err(Error::read(path))?;
            self.digest.pass(digest);
            self.bytes_read.fetch_add(group.compressed_size().max(0) as u64, Ordering::Relaxed);
            self.report()?;
        }
    }

    fn report(&self) -> Result<(), Error> {
        self.team.check()?;
        self.meter.report()
    }

    fn unreadable(&self) -> impl Fn(ParquetError) -> Error {
        |error| Error::read(self.shard.input)(to_io(error))
    }

    /// Makes the row groups of the outputs, and hands them in when the turn has come.
    fn write(
        &self,
        index: usize,
        group: &Group,
        mut verdicts: Verdicts,
        codecs: &mut Codecs,
    ) -> Result<(), Error> {
        let pieces = self.pieces(index, verdicts.counts.kept)?;
        let (kept, rejected) = self.encode(group, &verdicts, &pieces, codecs)?;
        let mut turn = self.results.wait(index as u64, &self.team)?;
        let results = &mut turn.1;
        for ((part, _), chunks) in pieces.iter().zip(kept) {
            verdicts.counts.bytes_kept += results.kept.append(*part, chunks, codecs)?;
        }
        if !rejected.is_empty() {
            results.rejects.append(0, rejected, codecs)?;
        }
        results.counts.take(&mut verdicts.counts);
        self.results.pass(turn);
        Ok(())
    }

    /// The parts that the kept rows of a row group go to, and how many rows go to each.
    fn pieces(&self, index: usize, kept: u64) -> Result<Vec<(u64, u64)>, Error> {
        let Some(limit) = self.shard.split.rows else {
            return Ok(if kept > 0 { vec![(0, kept)] } else { Vec::new() });
        };
        let mut turn = self.starts.wait(index as u64, &self.team)?;
        let mut at = turn.1;
        turn.1 += kept;
        self.starts.pass(turn);
        let end = at + kept;
        let mut pieces = Vec::new();
        while at < end {
            let part = at / limit;
            let stop = end.min((part + 1).saturating_mul(limit));
            pieces.push((part, stop - at));
            at = stop;
        }
        Ok(pieces)
    }

    /// The column chunks of each piece, and of the rejects.
    #[allow(clippy::type_complexity)]
    fn encode(
        &self,
        group: &Group,
        verdicts: &Verdicts,
        pieces: &[(u64, u64)],
        codecs: &mut Codecs,
    ) -> Result<(Vec<Vec<Chunk>>, Vec<Chunk>), Error> {
        let count = verdicts.dropped.len();
        let has_rejects = !verdicts.lines.is_empty();
        let mut kept: Vec<Vec<Chunk>> = pieces.iter().map(|_| Vec::new()).collect();
        let mut rejected = Vec::new();
        let failed = self.unreadable();
        if has_rejects {
            rejected = self.head(verdicts).map_err(&failed)?;
        }
        let routes = verdicts.routes(pieces);
        // A column reader only knows errors of Parquet: the real one is kept aside.
        let stop = Mutex::new(None);
        let go_on = || {
            self.report().map_err(|error| {
                *lock(&stop) = Some(error);
                ParquetError::General("stopped".to_owned())
            })
        };
        let or_stop = |error| lock(&stop).take().unwrap_or_else(|| failed(error));
        for (index, chunk) in group.metadata().columns().iter().enumerate() {
            let column = group.take(index).map_err(&failed)?;
            if !has_rejects && pieces.len() == 1 && is_plain(chunk) {
                kept[0].push(columns::copy(&column, count).map_err(&failed)?);
                continue;
            }
            let mut outputs: Vec<Description> =
                pieces.iter().map(|_| self.kept.columns[index].clone()).collect();
            if has_rejects {
                // After file, line and reasons.
                outputs.push(self.rejects.columns[index + 3].clone());
            }
            if outputs.is_empty() {
                continue;
            }
            let mut chunks =
                columns::route(&column, &routes, &outputs, codecs, &go_on).map_err(or_stop)?;
            if has_rejects {
                rejected.extend(chunks.pop());
            }
            for (piece, chunk) in kept.iter_mut().zip(chunks) {
                piece.push(chunk);
            }
        }
        if self.plan.tags() != 0 {
            let column = self.kept.columns.last().expect("the tags are the last column");
            for (number, piece) in kept.iter_mut().enumerate() {
                let tags = routes.iter().zip(&verdicts.tags);
                let tags =
                    tags.filter(|(route, _)| **route == number as u32).map(|(_, tags)| *tags);
                piece.push(self.tags(column, tags).map_err(&failed)?);
            }
        }
        Ok((kept, rejected))
    }

    /// The columns of the rejects that say where a row was, and why it is there.
    fn head(&self, verdicts: &Verdicts) -> Result<Vec<Chunk>, ParquetError> {
        let name =
            ByteArray::from(shown(self.shard.called.unwrap_or(self.shard.input)).into_bytes());
        let names = vec![name; verdicts.lines.len()];
        let columns = &self.rejects.columns;
        Ok(vec![
            chunk::encode::<ByteArrayType>(&columns[0], &names, None, None)?,
            chunk::encode::<Int64Type>(&columns[1], &verdicts.lines, None, None)?,
            chunk::encode::<ByteArrayType>(&columns[2], &verdicts.reasons, None, None)?,
        ])
    }

    /// A column of lists of names. Definition levels: 1 is an empty list, 3 is an element.
    fn tags(
        &self,
        column: &Description,
        rows: impl Iterator<Item = u64>,
    ) -> Result<Chunk, ParquetError> {
        let rules = self.plan.rules().iter();
        let names: Vec<_> =
            rules.map(|rule| ByteArray::from(rule.name.clone().into_bytes())).collect();
        let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
        for tags in rows {
            if tags == 0 {
                definition.push(1);
                repetition.push(0);
            }
            for (position, rule) in bits(tags).enumerate() {
                values.push(names[rule].clone());
                definition.push(3);
                repetition.push(i16::from(position > 0));
            }
        }
        chunk::encode::<ByteArrayType>(column, &values, Some(&definition), Some(&repetition))
    }
}

/// Can the bytes of a column chunk be found? Some old writers said 0 for "no dictionary".
fn is_plain(chunk: &ColumnChunkMetaData) -> bool {
    let dictionary = chunk.dictionary_page_offset();
    dictionary.is_none_or(|offset| offset > 0 && offset < chunk.data_page_offset())
        && chunk.file_path().is_none()
}
