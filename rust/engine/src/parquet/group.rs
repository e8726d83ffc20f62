//! A row group while it is filtered. The column chunks that rules look at are read once, and what was
//! decompressed of them to judge their rows is still there when the rows are written.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::threads::lock;

/// How many decompressed bytes of a row group are kept until they are written. What is more than that
/// is decompressed again.
const KEPT_BYTES: usize = 64 << 20;

/// A row group, and what was read of it.
pub struct Group {
    file: Arc<File>,
    metadata: Arc<ParquetMetaData>,
    index: usize,
    columns: Mutex<Vec<Option<Arc<Column>>>>,
    room: Arc<AtomicUsize>,
}

impl Group {
    pub fn new(file: &Arc<File>, metadata: &Arc<ParquetMetaData>, index: usize) -> Group {
        Group {
            file: Arc::clone(file),
            metadata: Arc::clone(metadata),
            index,
            columns: Mutex::new(vec![None; metadata.row_group(index).num_columns()]),
            room: Arc::new(AtomicUsize::new(KEPT_BYTES)),
        }
    }

    pub fn metadata(&self) -> &RowGroupMetaData {
        self.metadata.row_group(self.index)
    }

    /// Takes a column out of it, opened now if it was not.
    pub fn take(&self, index: usize) -> Result<Arc<Column>> {
        let column = lock(&self.columns)[index].take();
        column.map_or_else(|| Column::open(&self.file, self.metadata().column(index)), Ok)
    }
}

impl RowGroups for Group {
    fn num_rows(&self) -> usize {
        self.metadata().num_rows().max(0) as usize
    }

    fn column_chunks(&self, index: usize) -> Result<Box<dyn PageIterator>> {
        let column = self.take(index)?;
        lock(&self.columns)[index] = Some(Arc::clone(&column));
        Ok(Box::new(One(Some(column.pages_to_keep(Arc::clone(&self.room))))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(Group::metadata(self)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of one column chunk, as the reader of Arrow wants them.
struct One(Option<Pages>);

impl Iterator for One {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as _))
    }
}

impl PageIterator for One {}

/// A column chunk in its file.
pub struct Column {
    file: Arc<File>,
    pub metadata: ColumnChunkMetaData,
    place: Range<u64>,
    /// The first pages, decompressed.
    kept: Mutex<Vec<Piece>>,
}

/// A page, and where it is in the file: a header of so many bytes, and what is compressed.
#[derive(Clone)]
pub struct Piece {
    pub page: Page,
    pub place: Range<u64>,
    pub header: usize,
}

impl Column {
    pub fn open(file: &Arc<File>, chunk: &ColumnChunkMetaData) -> Result<Arc<Column>> {
        let (start, length) = chunk.byte_range();
        // A footer that lies must not make room for more than there is.
        let end = start.checked_add(length).filter(|end| *end <= file.len()).ok_or_else(|| {
            ParquetError::EOF(format!("a column of {length} bytes at {start} is not in the file"))
        })?;
        let (file, metadata) = (Arc::clone(file), chunk.clone());
        Ok(Arc::new(Column { file, metadata, place: start..end, kept: Mutex::default() }))
    }

    /// Where it is in the file.
    pub fn place(&self) -> Range<u64> {
        self.place.clone()
    }

    /// The bytes of the file there.
    pub fn bytes(&self, place: Range<u64>) -> Result<Bytes> {
        self.file.get_bytes(place.start, usize::try_from(place.end - place.start)?)
    }

    /// Its pages, decompressed. As many of them are kept as there is room for.
    fn pages_to_keep(self: Arc<Column>, room: Arc<AtomicUsize>) -> Pages {
        Pages { next: 0, at: self.place.start, column: self, room, reader: None }
    }

    /// Its pages, decompressed now or before.
    pub fn pages(self: &Arc<Column>) -> Pages {
        Arc::clone(self).pages_to_keep(Arc::default())
    }
}

/// Goes through the pages of a column chunk.
pub struct Pages {
    column: Arc<Column>,
    /// The index of the next one, and where it begins.
    next: usize,
    at: u64,
    room: Arc<AtomicUsize>,
    /// For those that were not kept.
    reader: Option<(SerializedPageReader<Tracked>, Arc<Tracked>)>,
}

impl Pages {
    /// The next page.
    pub fn next_piece(&mut self) -> Result<Option<Piece>> {
        let mut kept = lock(&self.column.kept);
        let piece = match kept.get(self.next) {
            Some(piece) => Some(piece.clone()),
            None => {
                let (reader, file) = match &mut self.reader {
                    Some(reader) => reader,
                    None => self.reader.insert(open(&self.column, self.at)?),
                };
                let page = reader.get_next_page()?;
                let body = lock(&file.last).clone();
                page.map(|page| Piece {
                    page,
                    place: self.at..body.end,
                    header: (body.start - self.at) as usize,
                })
            }
        };
        if let Some(piece) = &piece {
            if kept.len() == self.next {
                let size = piece.page.buffer().len();
                let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
                if self.room.fetch_update(set, get, |room| room.checked_sub(size)).is_ok() {
                    kept.push(piece.clone());
                }
            }
            self.next += 1;
            self.at = piece.place.end;
        }
        Ok(piece)
    }
}

/// A reader of the pages from here on.
fn open(column: &Column, from: u64) -> Result<(SerializedPageReader<Tracked>, Arc<Tracked>)> {
    let file = Arc::new(Tracked { file: Arc::clone(&column.file), last: Mutex::default() });
    let rest = column.metadata.clone().into_builder();
    let rest = rest
        .set_data_page_offset(from as i64)
        .set_dictionary_page_offset(None)
        .set_total_compressed_size((column.place.end - from) as i64)
        .build()?;
    // It asks how many rows there are only where there is a page index.
    Ok((SerializedPageReader::new(Arc::clone(&file), &rest, 0, None)?, file))
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        Ok(self.next_piece()?.map(|piece| piece.page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        if let Some(piece) = lock(&self.column.kept).get(self.next) {
            let num_rows = match &piece.page {
                Page::DataPageV2 { num_rows, .. } => Some(*num_rows as usize),
                _ => None,
            };
            let is_dict = piece.page.is_dictionary_page();
            let num_levels = (!is_dict).then_some(piece.page.num_values() as usize);
            return Ok(Some(PageMetadata { num_rows, num_levels, is_dict }));
        }
        let (reader, _) = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(open(&self.column, self.at)?),
        };
        reader.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.get_next_page().map(drop)
    }
}

/// A file that knows which of its bytes were read last: a page does not say where it was.
struct Tracked {
    file: Arc<File>,
    last: Mutex<Range<u64>>,
}

impl Length for Tracked {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Tracked {
    type T = <File as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        *lock(&self.last) = start..start + length as u64;
        self.file.get_bytes(start, length)
    }
}
