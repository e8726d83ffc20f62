//! Filters a Parquet shard, row group by row group.
//!
//! A worker takes the next row group, decodes the columns that the rules look at, and judges the
//! rows. A row group that loses no row is copied as it is, encoded and compressed; of any other one
//! every column is decoded and encoded again without the rows that are dropped. Results are written
//! in the order of the input. A row group of the output comes from one of the input, so neither
//! the number of threads nor their speed changes a byte.
//!
//! A worker holds what it made of one row group, encoded, and decodes [`columns::BATCH_ROWS`] rows
//! at a time: memory is bounded by the size of the row groups and the number of threads. There is no
//! journal: a shard that was interrupted is filtered again.
//!
//! What is kept: schema, field ids, key-value metadata, the codec of each column, whether it has a
//! dictionary, statistics, and the order that the file says it is sorted in. What is not: page
//! indexes, Bloom filters, and the level of compression, which is not in the file. The columns that
//! no rule looks at are not checked where they are copied.

mod columns;
mod look;
mod output;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, RowGroupMetaData};

use self::columns::{BATCH_ROWS, Chunk, Description};
use self::output::{Layout, Output, to_io};
use crate::batch::{Batch, is_json};
use crate::duplicates::Signatures;
use crate::error::{Error, shown};
use crate::format::is_named_parquet;
use crate::json::Tree;
use crate::json::bits;
use crate::output::Work;
use crate::pipeline::{InOrder, lock};
use crate::plan::{Plan, PlanFinding, Scratch, Signing};
use crate::reject::Reasons;
use crate::shard::{Flow, Meter, Progress, Shard, Split, repeated};
use crate::statistics::{Counts, Statistics};

pub use look::{JsonRows, explain, measure, take_rows};

/// Filters one shard, in a folder for `work`. On any error neither output appears.
pub(crate) fn filter(
    plan: &Plan,
    shard: Shard<'_>,
    work: &Work,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    for path in [shard.kept, shard.rejects] {
        if !is_named_parquet(path) {
            let message = format!("{} must end in .parquet too", path.display());
            return Err(Error::Unfit { path: shard.input.to_owned(), message });
        }
    }
    let input = fit(plan, shard.input, shard.split)?;
    let tag = (plan.tags() != 0).then(|| plan.tag_field());
    let layouts = || {
        let (parquet, arrow) = (input.metadata.metadata(), input.metadata.schema());
        Ok((Layout::kept(parquet, arrow, tag)?, Layout::rejects(parquet, arrow)?))
    };
    let (kept, rejects) = catch(shard.input, || layouts().map_err(to_io))?;
    let bytes_read = Arc::new(AtomicU64::new(0));
    let results = Results {
        kept: Output::create(shard.kept, &work.kept, shard.split, &kept)?,
        rejects: Output::create(shard.rejects, &work.rejects, Split::default(), &rejects)?,
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
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
        bytes_read: Arc::clone(&bytes_read),
        meter: Meter::new(bytes_read, progress),
    };
    let threads = shard.threads.clamp(1, input.groups().len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| run.guard());
        }
        run.guard();
    });
    if let Some(error) = lock(&run.failure).take() {
        return Err(error);
    }
    run.report()?;
    let results = run.results.into_inner();
    let parts = results.kept.finish()?;
    results.rejects.finish()?;
    Ok(results.counts.finish(plan, parts))
}

/// A file with a column that is called like that of the tags is refused.
fn check_tags(plan: &Plan, path: &Path, input: &Input) -> Result<(), Error> {
    let tag = plan.tag_field();
    let root = input.metadata.metadata().file_metadata().schema();
    if plan.tags() == 0 || root.get_fields().iter().all(|field| field.name() != tag) {
        return Ok(());
    }
    let message = format!("it has a column `{tag}`; choose another tag_field");
    Err(Error::Unfit { path: path.to_owned(), message })
}

/// The input, if it can be filtered in this way.
fn fit(plan: &Plan, path: &Path, split: Split) -> Result<Input, Error> {
    let unfit = |message: String| Error::Unfit { path: path.to_owned(), message };
    if split.bytes.is_some() {
        return Err(unfit("Parquet can be split by rows, not by bytes".to_owned()));
    }
    let input = catch(path, || Input::open(path, plan.tree()))?;
    if input.metadata.metadata().file_metadata().schema().get_fields().is_empty() {
        return Err(unfit("it has no columns".to_owned()));
    }
    check_tags(plan, path, &input)?;
    Ok(input)
}

/// Looks at the beginning of a shard, as [`filter`] would see it.
pub fn check(plan: &Plan, path: &Path, split: Split) -> Result<(), Error> {
    let input = fit(plan, path, split)?;
    if input.groups().is_empty() {
        return Ok(());
    }
    let file = File::open(path).map_err(Error::read(path))?;
    catch(path, || input.rows(&file, 0)?.next().transpose().map(drop))
}

/// The first pass of [`crate::sign_shard`], on one thread.
pub fn sign(
    plan: &Plan,
    path: &Path,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Vec<Signatures>, Error> {
    let input = catch(path, || Input::open(path, plan.tree()))?;
    let file = File::open(path).map_err(Error::read(path))?;
    let mut signatures = plan.no_signatures();
    let mut scratch = Signing::default();
    let bytes_read = Arc::new(AtomicU64::new(0));
    let meter = Meter::new(Arc::clone(&bytes_read), progress);
    for (index, group) in input.groups().iter().enumerate() {
        catch(path, || {
            for rows in input.rows(&file, index)? {
                let rows = rows?;
                let batch = Batch::new(plan, &rows);
                for row in 0..rows.len() {
                    plan.sign(Some(&batch.row(row)), &mut scratch, &mut signatures);
                }
                meter.add(rows.len() as u64, 0);
            }
            Ok(())
        })?;
        bytes_read.fetch_add(group.compressed_size().max(0) as u64, Ordering::Relaxed);
        meter.report()?;
    }
    Ok(signatures)
}

/// A file that was opened, and what its footer says.
struct Input {
    metadata: ArrowReaderMetadata,
    /// The columns that rules look at.
    projection: ProjectionMask,
}

impl Input {
    fn open(path: &Path, tree: &Tree) -> io::Result<Input> {
        let file = File::open(path)?;
        let read = || {
            let metadata = Arc::new(ParquetMetaDataReader::new().parse_and_finish(&file)?);
            // An Arrow schema that says nothing to this reader is carried along all the same.
            ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).or_else(
                |_| {
                    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
                    ArrowReaderMetadata::try_new(metadata, options)
                },
            )
        };
        let metadata = read().map_err(to_io)?;
        let mut leaves = Leaves { tree, next: 0, wanted: Vec::new() };
        leaves.fields(metadata.schema().fields(), Some(0));
        let projection = ProjectionMask::leaves(metadata.parquet_schema(), leaves.wanted);
        Ok(Input { metadata, projection })
    }

    fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata.metadata().row_groups()
    }

    /// What rules look at in the rows of a row group.
    fn rows(
        &self,
        file: &File,
        group: usize,
    ) -> io::Result<impl Iterator<Item = io::Result<StructArray>> + use<>> {
        let metadata = self.metadata.clone();
        let batches =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.try_clone()?, metadata)
                .with_batch_size(BATCH_ROWS)
                .with_row_groups(vec![group])
                .with_projection(self.projection.clone())
                .build()
                .map_err(to_io)?;
        Ok(batches.map(|batch| batch.map(StructArray::from).map_err(io::Error::other)))
    }
}

/// Finds the leaves that paths end in, or that conditions look at. Parquet has the leaves of the
/// schema in the same order.
struct Leaves<'a> {
    tree: &'a Tree,
    next: usize,
    wanted: Vec<usize>,
}

impl Leaves<'_> {
    fn fields(&mut self, fields: &Fields, node: Option<usize>) {
        for field in fields {
            let mut keys = node.iter().flat_map(|node| &self.tree.node(*node).keys);
            let child = keys.find(|(key, _)| key == field.name()).map(|(_, child)| *child);
            self.value(field, child);
        }
    }

    fn value(&mut self, field: &Field, node: Option<usize>) {
        let first = self.next;
        let element = node.and_then(|node| self.tree.node(node).element);
        match field.data_type() {
            DataType::Struct(fields) => self.fields(fields, node),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => self.value(item, element),
            DataType::Map(entries, _) => {
                self.value(entries, None);
                // The reader has no half of a map.
                if node.is_some() {
                    self.wanted.extend(first..self.next);
                }
            }
            _ => {
                self.next += 1;
                if node.is_some() && is_json(field) {
                    self.wanted.push(first);
                }
            }
        }
        let ends_here = node.is_some_and(|node| {
            let node = self.tree.node(node);
            node.here != 0 || !node.decides.is_empty()
        });
        // Of a struct or a list one leaf is enough to see that there is one; half of a map is none.
        if ends_here && self.wanted.last().is_none_or(|last| *last < first) {
            self.wanted.extend(first..first + first_part(field.data_type()));
        }
    }
}

/// How many of the leaves of a value belong to the first thing in it that can be read by itself.
fn first_part(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.first().map_or(0, |each| first_part(each.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => first_part(item.data_type()),
        DataType::Map(item, _) => leaves(item.data_type()),
        _ => 1,
    }
}

fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|each| leaves(each.data_type())).sum(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => leaves(item.data_type()),
        _ => 1,
    }
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
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    bytes_read: Arc<AtomicU64>,
    meter: Meter<'a>,
}

/// What was decided about the rows of a row group.
struct Verdicts {
    /// By row.
    dropped: Vec<bool>,
    /// Of the dropped rows: their numbers from 1, and why.
    lines: Vec<i64>,
    reasons: Vec<ByteArray>,
    /// By row, if there are tags: the `tag` rules that it breaks.
    tags: Vec<u64>,
    counts: Counts,
}

impl Run<'_> {
    /// Runs one worker. What stops it stops the others.
    fn guard(&self) {
        let result = catch(self.shard.input, || Ok(self.work())).and_then(|result| result);
        let Err(error) = result else { return };
        let mut failure = lock(&self.failure);
        // Those that were stopped have nothing to say.
        if failure.is_none() || matches!(*failure, Some(Error::Interrupted)) {
            *failure = Some(error);
        }
        drop(failure);
        self.stopped.store(true, Ordering::Relaxed);
        self.starts.wake();
        self.results.wake();
    }

    fn work(&self) -> Result<(), Error> {
        let path = self.shard.input;
        // Its own: the position in a file that is shared is shared too.
        let file = Arc::new(File::open(path).map_err(Error::read(path))?);
        let reasons = Reasons::new(self.plan);
        let mut scratch = Scratch::default();
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
            let verdicts = self.judge(&file, index, firsts[index], &reasons, &mut scratch)?;
            self.write(&file, index, group, verdicts)?;
            self.bytes_read.fetch_add(group.compressed_size().max(0) as u64, Ordering::Relaxed);
            self.report()?;
        }
    }

    fn report(&self) -> Result<(), Error> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.meter.report()
    }

    fn unreadable(&self) -> impl Fn(ParquetError) -> Error {
        |error| Error::read(self.shard.input)(to_io(error))
    }

    /// Judges all rows of a row group.
    fn judge(
        &self,
        file: &File,
        index: usize,
        first: i64,
        reasons: &Reasons<'_>,
        scratch: &mut Scratch,
    ) -> Result<Verdicts, Error> {
        let path = self.shard.input;
        let plan = self.plan;
        let mut verdicts = Verdicts {
            dropped: Vec::new(),
            lines: Vec::new(),
            reasons: Vec::new(),
            tags: Vec::new(),
            counts: Counts::new(plan),
        };
        let mut findings: Vec<PlanFinding> = Vec::new();
        let (mut firsts, mut text) = (Vec::new(), Vec::new());
        for rows in self.input.rows(file, index).map_err(Error::read(path))? {
            let rows = rows.map_err(Error::read(path))?;
            let batch = Batch::new(plan, &rows);
            let before = verdicts.counts.kept;
            for row in 0..rows.len() {
                let row = batch.row(row);
                let number = (first - 1) as u64 + verdicts.dropped.len() as u64;
                let known = repeated(plan, self.shard.duplicates, number, &mut firsts);
                let broken = plan.broken(&row, known, scratch);
                text.clear();
                match broken {
                    Ok(0) => {}
                    Ok(broken) => {
                        plan.find(&row, broken, scratch, &mut findings);
                        verdicts.counts.broken(plan, broken, &findings);
                        if broken & plan.drops() != 0 {
                            reasons.write(&row, &findings, &firsts, &mut text);
                        }
                    }
                    Err(_) => {
                        let unreadable = plan.unreadable(&row);
                        verdicts.counts.unreadable(plan, &unreadable);
                        reasons.write_unreadable(&unreadable, &mut text);
                    }
                }
                verdicts.take(plan, first, broken.unwrap_or(0), &text);
            }
            self.meter.add(rows.len() as u64, verdicts.counts.kept - before);
            self.report()?;
        }
        let group = &self.input.groups()[index];
        if i64::try_from(verdicts.dropped.len()) != Ok(group.num_rows()) {
            let message = "a column has fewer rows than its row group".to_owned();
            return Err(self.unreadable()(ParquetError::EOF(message)));
        }
        let bytes = group.columns().iter().map(|column| column.uncompressed_size().max(0) as u64);
        verdicts.counts.bytes_in = bytes.sum();
        Ok(verdicts)
    }

    /// Makes the row groups of the outputs, and hands them in when the turn has come.
    fn write(
        &self,
        file: &Arc<File>,
        index: usize,
        group: &RowGroupMetaData,
        mut verdicts: Verdicts,
    ) -> Result<(), Error> {
        let pieces = self.pieces(index, verdicts.counts.kept)?;
        let encoded = self.encode(file, group, &verdicts, &pieces);
        let (kept, rejected) = encoded?;
        let turn = self.results.wait(index as u64, &self.stopped);
        let mut turn = turn.ok_or(Error::Interrupted)?;
        let results = &mut turn.1;
        for ((part, _), chunks) in pieces.iter().zip(kept) {
            verdicts.counts.bytes_kept += results.kept.append(*part, chunks)?;
        }
        if !rejected.is_empty() {
            results.rejects.append(0, rejected)?;
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
        let turn = self.starts.wait(index as u64, &self.stopped);
        let mut turn = turn.ok_or(Error::Interrupted)?;
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
        file: &Arc<File>,
        group: &RowGroupMetaData,
        verdicts: &Verdicts,
        pieces: &[(u64, u64)],
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
        for (index, chunk) in group.columns().iter().enumerate() {
            if !has_rejects && pieces.len() == 1 && is_plain(chunk) {
                kept[0].push(columns::copy(file, chunk, count).map_err(&failed)?);
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
                columns::route(file, chunk, &routes, &outputs, &go_on).map_err(or_stop)?;
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
            columns::encode::<ByteArrayType>(&columns[0], &names, None, None)?,
            columns::encode::<Int64Type>(&columns[1], &verdicts.lines, None, None)?,
            columns::encode::<ByteArrayType>(&columns[2], &verdicts.reasons, None, None)?,
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
        columns::encode::<ByteArrayType>(column, &values, Some(&definition), Some(&repetition))
    }
}

/// Can the bytes of a column chunk be found? Some old writers said 0 for "no dictionary".
fn is_plain(chunk: &ColumnChunkMetaData) -> bool {
    let dictionary = chunk.dictionary_page_offset();
    dictionary.is_none_or(|offset| offset > 0 && offset < chunk.data_page_offset())
        && chunk.file_path().is_none()
}

impl Verdicts {
    /// Takes note of the next row, whose broken rules and reasons are known.
    fn take(&mut self, plan: &Plan, first: i64, broken: u64, reasons: &[u8]) {
        let is_dropped = !reasons.is_empty();
        self.counts.rows_in += 1;
        if is_dropped {
            self.lines.push(first + self.dropped.len() as i64);
            self.reasons.push(ByteArray::from(reasons.to_vec()));
        } else {
            self.counts.kept += 1;
            self.counts.tagged += u64::from(broken & plan.tags() != 0);
        }
        if plan.tags() != 0 {
            self.tags.push(broken & plan.tags());
        }
        self.dropped.push(is_dropped);
    }

    /// By row: the piece that it goes to, or the one after the last for rejects.
    fn routes(&self, pieces: &[(u64, u64)]) -> Vec<u32> {
        let mut routes = Vec::with_capacity(self.dropped.len());
        let (mut piece, mut room) = (0, pieces.first().map_or(0, |piece| piece.1));
        for dropped in &self.dropped {
            if *dropped {
                routes.push(pieces.len() as u32);
                continue;
            }
            if room == 0 {
                piece += 1;
                room = pieces[piece].1;
            }
            room -= 1;
            routes.push(piece as u32);
        }
        routes
    }
}

/// Some broken files make the reader panic instead of saying so.
fn catch<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = format!("the reader panicked: {}", message.unwrap_or("without a message"));
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    });
    result.map_err(Error::read(path))
}

#[cfg(test)]
mod tests;
