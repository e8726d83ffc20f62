//! A file of Parquet, and the columns of it that rules look at.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::StructArray;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};

use super::columns::BATCH_ROWS;
use super::errors::{catch, to_io};
use super::group::Group;
use crate::arrow::is_json;
use crate::error::Error;
use crate::json::Tree;
use crate::plan::Plan;
use crate::shard::Split;

/// A file with a column that is called like that of the tags is refused.
pub fn check_tags(plan: &Plan, path: &Path, input: &Input) -> Result<(), Error> {
    let tag = plan.tag_field();
    let root = input.metadata.metadata().file_metadata().schema();
    if plan.tags() == 0 || root.get_fields().iter().all(|field| field.name() != tag) {
        return Ok(());
    }
    let message = format!("it has a column `{tag}`; choose another tag_field");
    Err(Error::Unfit { path: path.to_owned(), message })
}

/// The input, if it can be filtered in this way.
pub fn fit(plan: &Plan, path: &Path, split: Split) -> Result<Input, Error> {
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

/// A file that was opened, and what its footer says.
pub struct Input {
    pub metadata: ArrowReaderMetadata,
    /// The columns that rules look at.
    pub projection: ProjectionMask,
    /// As the reader wants them, with views for texts: these are not copied out of their pages.
    levels: FieldLevels,
}

impl Input {
    /// For what these paths lead to.
    pub fn open(path: &Path, tree: &Tree) -> io::Result<Input> {
        Input::with(path, |metadata| {
            let mut leaves = Leaves { tree, next: 0, wanted: Vec::new() };
            leaves.fields(metadata.schema().fields(), Some(0));
            ProjectionMask::leaves(metadata.parquet_schema(), leaves.wanted)
        })
    }

    /// For whoever wants all columns.
    pub fn whole(path: &Path) -> io::Result<Input> {
        Input::with(path, |_| ProjectionMask::all())
    }

    fn with(
        path: &Path,
        choose: impl FnOnce(&ArrowReaderMetadata) -> ProjectionMask,
    ) -> io::Result<Input> {
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
        let projection = choose(&metadata);
        let views = Fields::from_iter(metadata.schema().fields().iter().map(with_views));
        let mask = projection.clone();
        let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, Some(&views));
        Ok(Input { levels: levels.map_err(to_io)?, metadata, projection })
    }

    pub fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata.metadata().row_groups()
    }

    /// What rules look at in the rows of a row group.
    pub fn rows(
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
        Ok(structs(batches))
    }

    /// The same of a row group that keeps what was read.
    pub fn rows_of(
        &self,
        group: &Group,
    ) -> io::Result<impl Iterator<Item = io::Result<StructArray>> + use<>> {
        ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, group, BATCH_ROWS, None)
            .map(structs)
            .map_err(to_io)
    }
}

/// The same field with views for its texts.
fn with_views(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(with_views).collect()),
        DataType::List(item) => DataType::List(with_views(item)),
        DataType::LargeList(item) => DataType::LargeList(with_views(item)),
        _ => return Arc::clone(field),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn structs(batches: ParquetRecordBatchReader) -> impl Iterator<Item = io::Result<StructArray>> {
    batches.map(|batch| batch.map(StructArray::from).map_err(io::Error::other))
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
