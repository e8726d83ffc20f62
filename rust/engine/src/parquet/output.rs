//! What the files of kept rows and of rejects look like, and how they are written.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion,
};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type, TypePtr};

use super::chunk::{Chunk, Description};
use super::codec::Codecs;
use super::errors::to_io;
use crate::digest::Digest;
use crate::error::Error;
use crate::format::ZSTANDARD_LEVEL;
use crate::shard::Split;
use crate::sink::{Sink, temporary};

/// The schema and the properties of one output.
pub struct Layout {
    root: TypePtr,
    pub columns: Vec<Description>,
    properties: WriterPropertiesPtr,
}

impl Layout {
    fn new(root: Type, properties: WriterProperties) -> Layout {
        let root = Arc::new(root);
        let schema = SchemaDescriptor::new(Arc::clone(&root));
        let properties = Arc::new(properties);
        let columns = schema.columns().iter();
        let columns = columns.map(|column| (Arc::clone(column), Arc::clone(&properties)));
        Layout { columns: columns.collect(), root, properties }
    }

    /// Kept rows: the schema and the metadata of the input, with a list of tags if there are any.
    pub fn kept(input: &ParquetMetaData, arrow: &Schema, tag: Option<&str>) -> Result<Layout> {
        let file = input.file_metadata();
        let mut entries = file.key_value_metadata().cloned();
        let mut root = file.schema().clone();
        if let Some(tag) = tag {
            root = with_tags(&root, tag)?;
            let mut fields: Vec<_> = arrow.fields().iter().cloned().collect();
            let item = Field::new_list_field(DataType::Utf8, true);
            fields.push(Arc::new(Field::new(tag, DataType::List(Arc::new(item)), true)));
            let schema = Schema::new_with_metadata(fields, arrow.metadata().clone());
            for entry in entries.iter_mut().flatten() {
                if entry.key == ARROW_SCHEMA_META_KEY {
                    entry.value = Some(encode_arrow_schema(&schema));
                }
            }
        }
        let mut sorting = input.row_groups().iter().map(|group| group.sorting_columns());
        let first = sorting.next().flatten();
        let is_sorted = sorting.all(|other| other == first);
        let properties = properties(input, &[], ZSTANDARD_LEVEL)
            .set_sorting_columns(first.filter(|_| is_sorted).cloned())
            .set_key_value_metadata(entries)
            .build();
        Ok(Layout::new(root, properties))
    }

    /// Rejects: where the row was, why it was rejected, and the row.
    pub fn rejects(input: &ParquetMetaData, arrow: &Schema) -> Result<Layout> {
        let file = input.file_metadata();
        let text = |name| {
            Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
                .with_repetition(Repetition::REQUIRED)
                .with_logical_type(Some(LogicalType::String))
                .build()
        };
        let line = Type::primitive_type_builder("line", Physical::INT64)
            .with_repetition(Repetition::REQUIRED)
            .build()?;
        // A required group adds no level: the levels of the input's columns stay as they are.
        let row = Type::group_type_builder("row")
            .with_repetition(Repetition::REQUIRED)
            .with_fields(file.schema().get_fields().to_vec())
            .build()?;
        let fields = [text("file")?, line, text("reasons")?, row].map(Arc::new).to_vec();
        let root = Type::group_type_builder(file.schema().name()).with_fields(fields).build()?;
        let keys = file.key_value_metadata();
        let has_arrow =
            keys.is_some_and(|all| all.iter().any(|entry| entry.key == ARROW_SCHEMA_META_KEY));
        let schema = Schema::new(vec![
            Field::new("file", DataType::Utf8, false),
            Field::new("line", DataType::Int64, false),
            Field::new("reasons", DataType::Utf8, false),
            Field::new("row", DataType::Struct(arrow.fields().clone()), false),
        ]);
        // Without it in the input, the types are those of Parquet here too.
        let entry =
            || KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&schema));
        let zstandard = zstandard(REJECTS_LEVEL);
        let properties = properties(input, &["row"], REJECTS_LEVEL)
            .set_key_value_metadata(has_arrow.then(|| vec![entry()]))
            .set_column_compression("file".into(), zstandard)
            .set_column_compression("line".into(), zstandard)
            .set_column_compression("reasons".into(), zstandard)
            .set_column_dictionary_enabled("reasons".into(), false)
            .build();
        Ok(Layout::new(root, properties))
    }
}

/// Rejects are looked at now and then; this takes a third of the time, and a fifth more room.
const REJECTS_LEVEL: i32 = 1;

fn zstandard(level: i32) -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(level).expect("the level exists"))
}

/// Columns are compressed and encoded as in the first row group of the input; the level of zstandard
/// is not in a file.
fn properties(
    input: &ParquetMetaData,
    prefix: &[&str],
    level: i32,
) -> parquet::file::properties::WriterPropertiesBuilder {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for column in input.row_groups().first().map_or(&[][..], |group| group.columns()) {
        let path = prefix.iter().map(|part| (*part).to_owned());
        let path = ColumnPath::new(path.chain(column.column_path().parts().to_vec()).collect());
        let codec = match column.compression() {
            Compression::ZSTD(_) => zstandard(level),
            other => other,
        };
        let is_dictionary = column.encodings().any(|encoding| {
            matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
        });
        properties = properties
            .set_column_compression(path.clone(), codec)
            .set_column_dictionary_enabled(path.clone(), is_dictionary);
        let special = column.encodings().find(|encoding| {
            matches!(
                encoding,
                Encoding::DELTA_BINARY_PACKED
                    | Encoding::DELTA_LENGTH_BYTE_ARRAY
                    | Encoding::DELTA_BYTE_ARRAY
                    | Encoding::BYTE_STREAM_SPLIT
            )
        });
        // What a writer falls back to where a dictionary becomes too large is its own affair.
        if let Some(encoding) = special.filter(|_| !is_dictionary) {
            properties = properties.set_column_encoding(path, encoding);
        }
    }
    properties
}

/// Adds `optional list<string>` as the last column.
fn with_tags(root: &Type, name: &str) -> Result<Type> {
    let item = Type::primitive_type_builder("element", Physical::BYTE_ARRAY)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::String))
        .build()?;
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(item)])
        .build()?;
    let tags = Type::group_type_builder(name)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(list)])
        .build()?;
    let mut fields = root.get_fields().to_vec();
    fields.push(Arc::new(tags));
    Type::group_type_builder(root.name()).with_fields(fields).build()
}

/// A [`Sink`] as the writer of Parquet wants it.
struct Bytes(Sink);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One output: a file, or several if it is split.
pub struct Output<'a> {
    path: &'a Path,
    making: &'a Path,
    split: Split,
    layout: &'a Layout,
    /// That of nothing, with which each part begins.
    digest: Digest,
    /// The rows and the sha256 of the parts that are full.
    full: Vec<(u64, String)>,
    /// In this part.
    rows: u64,
    writer: SerializedFileWriter<BufWriter<Bytes>>,
}

impl<'a> Output<'a> {
    /// The file that will be at `path`, made in the folder `making`; see [`Sink::create`]. `digest` is a new one.
    pub fn create(
        path: &'a Path,
        making: &'a Path,
        split: Split,
        layout: &'a Layout,
        digest: Digest,
    ) -> Result<Output<'a>, Error> {
        let name = split.part(path, 0);
        let writer = start(&name, making, layout, digest.clone()).map_err(Error::write(&name))?;
        Ok(Output { path, making, split, layout, digest, full: Vec::new(), rows: 0, writer })
    }

    /// Appends a row group to this part, which is the last one or the next. Returns its size in
    /// bytes, uncompressed.
    pub fn append(
        &mut self,
        part: u64,
        chunks: Vec<Chunk>,
        codecs: &mut Codecs,
    ) -> Result<u64, Error> {
        while (self.full.len() as u64) < part {
            let next = self.split.part(self.path, self.full.len() as u64 + 1);
            let writer = start(&next, self.making, self.layout, self.digest.clone())
                .map_err(Error::write(&next))?;
            let full = std::mem::replace(&mut self.writer, writer);
            let path = self.split.part(self.path, self.full.len() as u64);
            let sink = end(full).map_err(Error::write(&path))?;
            sink.sync().map_err(Error::write(&path))?;
            self.full.push((std::mem::take(&mut self.rows), sink.digest().sha256()));
        }
        let path = self.split.part(self.path, self.full.len() as u64);
        let write = || -> Result<u64> {
            let mut group = self.writer.next_row_group()?;
            for (bytes, close) in chunks {
                group.append_column(&bytes, close)?;
                codecs.spare(bytes);
            }
            let group = group.close()?;
            self.rows += group.num_rows() as u64;
            Ok(group.total_byte_size() as u64)
        };
        write().map_err(|error| Error::write(&path)(to_io(error)))
    }

    /// Moves all parts to their places. Returns the rows and the sha256 of each.
    pub fn finish(self) -> Result<(Vec<u64>, Vec<String>), Error> {
        let mut parts = self.full;
        let path = self.split.part(self.path, parts.len() as u64);
        let sink = end(self.writer).map_err(Error::write(&path))?;
        for part in 0..parts.len() as u64 {
            let path = self.split.part(self.path, part);
            fs::rename(temporary(&path, self.making), &path).map_err(Error::write(&path))?;
        }
        parts.push((self.rows, sink.finish().map_err(Error::write(&path))?));
        Ok(parts.into_iter().unzip())
    }
}

fn start(
    path: &Path,
    making: &Path,
    layout: &Layout,
    digest: Digest,
) -> io::Result<SerializedFileWriter<BufWriter<Bytes>>> {
    // The library writes 8 KiB at a time.
    let sink = BufWriter::with_capacity(1 << 20, Bytes(Sink::open(path, making, digest)?));
    let (root, properties) = (Arc::clone(&layout.root), Arc::clone(&layout.properties));
    SerializedFileWriter::new(sink, root, properties).map_err(to_io)
}

fn end(writer: SerializedFileWriter<BufWriter<Bytes>>) -> io::Result<Sink> {
    let buffer = writer.into_inner().map_err(to_io)?;
    Ok(buffer.into_inner().map_err(io::IntoInnerError::into_error)?.0)
}
