//! Sends the rows of one column chunk to several outputs.
//!
//! Values, definition and repetition levels are taken over as they are, without a look at what they
//! mean: whatever Parquet can hold is the same in the output, nulls and nesting included. Texts go
//! page by page, as [`super::texts`] says which; all else is decoded and encoded again here.

use std::sync::Arc;

use bytes::Bytes;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::column::writer::{ColumnCloseResult, ColumnWriterImpl};
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type, Int96Type,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::writer::TrackedWrite;

use super::chunk::{Chunk, Description, open};
use super::codec::Codecs;
use super::group::Column;
use super::texts;

/// How many rows are decoded at a time.
pub const BATCH_ROWS: usize = 1024;

/// The route of a row that no output takes.
pub const NOWHERE: u32 = u32::MAX;

/// A column chunk as it is in the file, to be written elsewhere.
pub fn copy(column: &Column, rows: usize) -> Result<Chunk> {
    let bytes = column.bytes(column.place())?;
    let move_offset = |offset: i64| offset - column.place().start as i64;
    let chunk = &column.metadata;
    let metadata = chunk
        .clone()
        .into_builder()
        .set_data_page_offset(move_offset(chunk.data_page_offset()))
        .set_dictionary_page_offset(chunk.dictionary_page_offset().map(move_offset))
        .build()?;
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows as u64,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    };
    Ok((bytes, close))
}

/// Writes each row of a column chunk to the output that `routes` names. `after_batch` is asked now and
/// then whether to go on.
pub fn route(
    chunk: &Arc<Column>,
    routes: &[u32],
    outputs: &[Description],
    codecs: &mut Codecs,
    after_batch: &dyn Fn() -> Result<()>,
) -> Result<Vec<Chunk>> {
    if let Some(chunks) = texts::route(chunk, routes, outputs, codecs, after_batch)? {
        return Ok(chunks);
    }
    let column = get_column_reader(chunk.metadata.column_descr_ptr(), Box::new(chunk.pages()));
    let work = Work { chunk: &chunk.metadata, routes, outputs, after_batch };
    match column {
        ColumnReader::BoolColumnReader(column) => work.route::<BoolType>(column),
        ColumnReader::Int32ColumnReader(column) => work.route::<Int32Type>(column),
        ColumnReader::Int64ColumnReader(column) => work.route::<Int64Type>(column),
        ColumnReader::Int96ColumnReader(column) => work.route::<Int96Type>(column),
        ColumnReader::FloatColumnReader(column) => work.route::<FloatType>(column),
        ColumnReader::DoubleColumnReader(column) => work.route::<DoubleType>(column),
        ColumnReader::ByteArrayColumnReader(column) => work.route::<ByteArrayType>(column),
        ColumnReader::FixedLenByteArrayColumnReader(column) => {
            work.route::<FixedLenByteArrayType>(column)
        }
    }
}

struct Work<'a> {
    chunk: &'a ColumnChunkMetaData,
    routes: &'a [u32],
    outputs: &'a [Description],
    after_batch: &'a dyn Fn() -> Result<()>,
}

/// Rows of a column: values and levels.
struct Rows<T: DataType> {
    values: Vec<T::T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl<T: DataType> Default for Rows<T> {
    fn default() -> Self {
        Rows { values: Vec::new(), definition: Vec::new(), repetition: Vec::new() }
    }
}

impl<T: DataType> Rows<T> {
    fn clear(&mut self) {
        self.values.clear();
        self.definition.clear();
        self.repetition.clear();
    }

    /// Levels are only there where there can be any.
    fn write(&self, writer: &mut ColumnWriterImpl<'_, T>) -> Result<()> {
        let column = writer.get_descriptor();
        let definition = (column.max_def_level() > 0).then_some(self.definition.as_slice());
        let repetition = (column.max_rep_level() > 0).then_some(self.repetition.as_slice());
        writer.write_batch(&self.values, definition, repetition).map(drop)
    }
}

impl Work<'_> {
    fn route<T: DataType>(&self, mut column: ColumnReaderImpl<T>) -> Result<Vec<Chunk>> {
        let mut sinks: Vec<_> =
            self.outputs.iter().map(|_| TrackedWrite::new(Vec::new())).collect();
        let mut writers: Vec<_> = self
            .outputs
            .iter()
            .zip(&mut sinks)
            .map(|((column, properties), sink)| open::<T>((column, properties), sink))
            .collect();
        let mut read = Rows::<T>::default();
        // The last part is for what goes nowhere.
        let mut parts: Vec<_> = (0..=self.outputs.len()).map(|_| Rows::<T>::default()).collect();
        for routes in self.routes.chunks(BATCH_ROWS) {
            read.clear();
            let (definition, repetition) = (&mut read.definition, &mut read.repetition);
            let (records, _, _) = column.read_records(
                routes.len(),
                Some(definition),
                Some(repetition),
                &mut read.values,
            )?;
            if records != routes.len() {
                return Err(ParquetError::EOF("a column has fewer rows than its row group".into()));
            }
            if routes.iter().all(|route| *route == routes[0]) {
                if let Some(writer) = writers.get_mut(routes[0] as usize) {
                    read.write(writer)?;
                }
            } else {
                self.divide(&mut read, routes, &mut parts)?;
                for (part, writer) in parts.iter_mut().zip(&mut writers) {
                    part.write(writer)?;
                }
                parts.iter_mut().for_each(Rows::clear);
            }
            (self.after_batch)()?;
        }
        let closed: Vec<_> =
            writers.into_iter().map(ColumnWriterImpl::close).collect::<Result<_>>()?;
        let bytes = sinks.into_iter().map(|sink| sink.into_inner().map(Bytes::from));
        bytes.zip(closed).map(|(bytes, close)| Ok((bytes?, close))).collect()
    }

    /// Moves each row to the part that is named for it.
    fn divide<T: DataType>(
        &self,
        read: &mut Rows<T>,
        routes: &[u32],
        parts: &mut [Rows<T>],
    ) -> Result<()> {
        let column = self.chunk.column_descr();
        let (highest, repeats) = (column.max_def_level(), column.max_rep_level() > 0);
        let nowhere = parts.len() - 1;
        let corrupt = || ParquetError::General("a column's levels and values do not match".into());
        if highest == 0 && !repeats {
            if read.values.len() != routes.len() {
                return Err(corrupt());
            }
            for (value, route) in read.values.iter_mut().zip(routes) {
                parts[nowhere.min(*route as usize)].values.push(std::mem::take(value));
            }
            return Ok(());
        }
        let mut values = read.values.iter_mut();
        let mut routes = routes.iter();
        let mut part = None;
        for (index, &definition) in read.definition.iter().enumerate() {
            if !repeats || read.repetition.get(index) == Some(&0) {
                part = routes.next();
            }
            let part = &mut parts[nowhere.min(*part.ok_or_else(corrupt)? as usize)];
            part.definition.push(definition);
            if repeats {
                part.repetition.push(read.repetition[index]);
            }
            if definition == highest {
                part.values.push(std::mem::take(values.next().ok_or_else(corrupt)?));
            }
        }
        Ok(())
    }
}
