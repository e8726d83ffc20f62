//! Looks at some rows of a Parquet shard, for those who explain, sample or compare: with the same
//! eyes as a run.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, StructArray};
use arrow_schema::Field;

use super::codec::Codecs;
use super::columns::{NOWHERE, route};
use super::errors::{catch, to_io};
use super::group::Column;
use super::input::{Input, check_tags, fit};
use super::output::{Layout, Output};
use crate::arrow::{Batch, write_json};
use crate::digest::Digest;
use crate::error::Error;
use crate::plan::{Plan, explain_row};
use crate::shard::Split;
use crate::sink::folder_beside;

/// The verdict on the row with this number, from 0, as [`crate::explain`] has it. `None` if the
/// file has fewer rows.
pub fn explain(plan: &Plan, path: &Path, number: u64) -> Result<Option<String>, Error> {
    let input = catch(path, || Input::open(path, plan.tree()))?;
    check_tags(plan, path, &input)?;
    let file = File::open(path).map_err(Error::read(path))?;
    let mut before = number;
    for (index, group) in input.groups().iter().enumerate() {
        let count = group.num_rows().max(0) as u64;
        if before >= count {
            before -= count;
            continue;
        }
        return catch(path, || {
            for rows in input.rows(&file, index)? {
                let rows = rows?;
                if before < rows.len() as u64 {
                    let batch = Batch::new(plan, &rows);
                    return Ok(Some(explain_row(plan, &Ok(batch.row(before as usize)))));
                }
                before -= rows.len() as u64;
            }
            Err(io::Error::other("a column has fewer rows than its row group"))
        });
    }
    Ok(None)
}

/// How many rows a file has, and how many bytes they are, uncompressed.
pub fn measure(path: &Path) -> Result<(u64, u64), Error> {
    let input = catch(path, || Input::whole(path))?;
    let groups = input.groups().iter();
    Ok(groups.fold((0, 0), |(rows, bytes), group| {
        let columns = group.columns().iter();
        let size: u64 = columns.map(|column| column.uncompressed_size().max(0) as u64).sum();
        (rows + group.num_rows().max(0) as u64, bytes + size)
    }))
}

/// Writes the rows with these numbers, from 0 and ascending, into a file like this one. Returns
/// how many bytes were read.
pub fn take_rows(path: &Path, rows: &[u64], output: &Path) -> Result<u64, Error> {
    let input = catch(path, || Input::whole(path))?;
    let file = Arc::new(File::open(path).map_err(Error::read(path))?);
    let mut codecs = Codecs::new();
    let (parquet, arrow) = (input.metadata.metadata(), input.metadata.schema());
    let layout = catch(path, || Layout::kept(parquet, arrow, None).map_err(to_io))?;
    let making = folder_beside(output)?;
    let digest = Digest::new(false);
    let mut sink = Output::create(output, making.path(), Split::default(), &layout, digest)?;
    let mut rows = rows.iter().peekable();
    let (mut first, mut bytes_read) = (0, 0);
    for group in input.groups() {
        let count = group.num_rows().max(0) as u64;
        let mut routes = vec![NOWHERE; count as usize];
        let mut is_needed = false;
        while let Some(row) = rows.next_if(|row| **row < first + count) {
            routes[(row - first) as usize] = 0;
            is_needed = true;
        }
        first += count;
        if !is_needed {
            continue;
        }
        let columns = group.columns().iter().zip(layout.columns.chunks(1));
        let chunks = catch(path, || {
            let routed = columns.map(|(chunk, output)| {
                let column = Column::open(&file, chunk).map_err(to_io)?;
                route(&column, &routes, output, &mut codecs, &|| Ok(())).map_err(to_io)
            });
            Ok(routed.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
        })?;
        sink.append(0, chunks, &mut codecs)?;
        bytes_read += group.compressed_size().max(0) as u64;
    }
    sink.finish()?;
    Ok(bytes_read)
}

/// Looks at the beginning of a shard, as a filter would see it.
pub fn check(plan: &Plan, path: &Path, split: Split) -> Result<(), Error> {
    let input = fit(plan, path, split)?;
    if input.groups().is_empty() {
        return Ok(());
    }
    let file = File::open(path).map_err(Error::read(path))?;
    catch(path, || input.rows(&file, 0)?.next().transpose().map(drop))
}

/// The rows of a file as lines of JSON, some at a time: what [`write_json`] makes of them.
pub struct JsonRows {
    rows: Box<dyn Iterator<Item = io::Result<StructArray>> + Send>,
    path: std::path::PathBuf,
}

impl JsonRows {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<JsonRows, Error> {
        let file = File::open(path).map_err(Error::read(path))?;
        let rows = catch(path, || {
            let input = Input::whole(path)?;
            let groups = 0..input.groups().len();
            Ok(groups.flat_map(move |group| match input.rows(&file, group) {
                Ok(rows) => Box::new(rows) as Box<dyn Iterator<Item = _> + Send>,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }))
        })?;
        Ok(JsonRows { rows: Box::new(rows), path: path.to_owned() })
    }

    /// The next lines, and how many.
    pub fn next_lines(&mut self) -> Result<Option<(Vec<u8>, usize)>, Error> {
        catch(&self.path, || {
            let Some(rows) = self.rows.next() else { return Ok(None) };
            let rows = rows?;
            let field = Field::new("row", rows.data_type().clone(), false);
            let mut lines = Vec::new();
            for row in 0..rows.len() {
                write_json(&field, &rows, row, &mut lines);
                lines.push(b'\n');
            }
            Ok(Some((lines, rows.len())))
        })
    }
}
