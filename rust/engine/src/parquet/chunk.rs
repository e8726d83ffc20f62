//! A column chunk of an output: how it is described, and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use parquet::column::writer::{
    ColumnCloseResult, ColumnWriterImpl, get_column_writer, get_typed_column_writer,
};
use parquet::data_type::DataType;
use parquet::errors::Result;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// A column chunk as it will be in the file.
pub type Chunk = (Bytes, ColumnCloseResult);

/// How a column of an output is described and written.
pub type Description = (ColumnDescPtr, WriterPropertiesPtr);

/// Encodes a whole column chunk.
pub fn encode<T: DataType>(
    (column, properties): &Description,
    values: &[T::T],
    definition: Option<&[i16]>,
    repetition: Option<&[i16]>,
) -> Result<Chunk> {
    let mut sink = TrackedWrite::new(Vec::new());
    let mut writer = open::<T>((column, properties), &mut sink);
    writer.write_batch(values, definition, repetition)?;
    let close = writer.close()?;
    Ok((sink.into_inner()?.into(), close))
}

/// A writer of values, which makes pages of them in `sink`.
pub fn open<'a, T: DataType>(
    (column, properties): (&ColumnDescPtr, &WriterPropertiesPtr),
    sink: &'a mut TrackedWrite<Vec<u8>>,
) -> ColumnWriterImpl<'a, T> {
    let pages = Box::new(SerializedPageWriter::new(sink));
    get_typed_column_writer(get_column_writer(Arc::clone(column), Arc::clone(properties), pages))
}
