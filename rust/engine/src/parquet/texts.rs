//! Sends the rows of a column chunk of texts, or of other byte arrays, to several outputs, page by
//! page: most of the bytes of a data set are there.
//!
//! Nothing is decoded to be encoded again. In a plain page a value is its length and its bytes, so
//! neighbours that go to the same output are copied as one piece; a page that goes there whole is
//! copied as it is in the file, compressed. Of a dictionary an output gets the values that its rows
//! have, in the order in which they come up: what was dropped is not in its file any more. Levels are
//! taken over as they are.
//!
//! [`super::columns`] decodes and encodes the other chunks: numbers; pages that are neither plain nor
//! have a dictionary; codecs that [`Codecs`] does not know; values that are not ordered byte by byte
//! (decimals), of which the statistics would be wrong.

use std::io::Write;
use std::mem::discriminant;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, SortOrder, Type as Physical};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::{DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT, DEFAULT_PAGE_SIZE};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescriptor;

use super::chunk::{Chunk, Description};
use super::codec::Codecs;
use super::group::{Column, Piece};
use super::hybrid::{self, Numbers};
use super::values::{Extremes, Levels, corrupt, end_of, values_of};

/// Sends the rows of a column chunk to the outputs that `routes` names. `None` if it is not one of
/// those chunks. `after_page` is asked now and then whether to go on.
pub fn route(
    column: &Arc<Column>,
    routes: &[u32],
    outputs: &[Description],
    codecs: &mut Codecs,
    after_page: &dyn Fn() -> Result<()>,
) -> Result<Option<Vec<Chunk>>> {
    let chunk = &column.metadata;
    let mut parts: Vec<_> = outputs.iter().map(|output| Part::new(output, chunk, codecs)).collect();
    let is_text = chunk.column_type() == Physical::BYTE_ARRAY
        && chunk.column_descr().sort_order() == SortOrder::UNSIGNED;
    if !is_text || !parts.iter().all(|part| Codecs::knows(part.codec)) {
        return Ok(None);
    }
    let mut rows = Rows { routes, next: 0 };
    let mut dictionary = Vec::new();
    let mut pages = column.pages();
    while let Some(piece) = pages.next_piece()? {
        if let Page::DictionaryPage { buf, num_values, .. } = piece.page {
            dictionary = values_of(&buf, num_values)?;
            continue;
        }
        let Some(page) = DataPage::open(&piece, chunk.column_descr())? else { return Ok(None) };
        match page.destination(&rows)? {
            // What goes nowhere needs no look.
            Some((to, count)) if to as usize >= parts.len() => rows.next += count,
            Some((to, count)) if page.is_plain && parts[to as usize].takes(&piece) => {
                rows.next += count;
                let raw = column.bytes(piece.place.clone())?;
                parts[to as usize].copy(&page, &piece, &raw, codecs)?;
            }
            _ => page.divide(&mut rows, &dictionary, &mut parts, codecs)?,
        }
        after_page()?;
    }
    if rows.next < routes.len() {
        return Err(ParquetError::EOF("a column has fewer rows than its row group".into()));
    }
    let chunks = parts.into_iter().map(|part| part.close(&dictionary, codecs));
    chunks.collect::<Result<_>>().map(Some)
}

/// Where the rows go.
struct Rows<'a> {
    routes: &'a [u32],
    /// The row that begins next.
    next: usize,
}

/// A page of values that was opened.
struct DataPage {
    /// How many levels there are, or values and nulls.
    count: u32,
    repetition: Bytes,
    definition: Bytes,
    values: Bytes,
    /// Or are they indices?
    is_plain: bool,
    /// The largest levels of the column.
    deepest: u32,
    highest: u32,
}

impl DataPage {
    /// `None` if it is encoded in a way that is not known here.
    fn open(piece: &Piece, column: &ColumnDescriptor) -> Result<Option<DataPage>> {
        let (deepest, highest) = (column.max_rep_level() as u32, column.max_def_level() as u32);
        let is_plain = match piece.page.encoding() {
            Encoding::PLAIN => true,
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => false,
            _ => return Ok(None),
        };
        let mut values = piece.page.buffer().clone();
        let mut split = |length: u32| {
            let length = length as usize;
            if length > values.len() { Err(corrupt()) } else { Ok(values.split_to(length)) }
        };
        let (repetition, definition) = match &piece.page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                (split(*rep_levels_byte_len)?, split(*def_levels_byte_len)?)
            }
            Page::DataPage { def_level_encoding, rep_level_encoding, .. } => {
                let is_known =
                    |largest, encoding: &Encoding| largest == 0 || *encoding == Encoding::RLE;
                if !is_known(deepest, rep_level_encoding) || !is_known(highest, def_level_encoding)
                {
                    return Ok(None);
                }
                let mut levels = |largest| {
                    if largest == 0 {
                        return Ok(Bytes::new());
                    }
                    let length = split(4)?;
                    split(u32::from_le_bytes(*length.first_chunk().ok_or_else(corrupt)?))
                };
                (levels(deepest)?, levels(highest)?)
            }
            Page::DictionaryPage { .. } => return Err(corrupt()),
        };
        let count = piece.page.num_values();
        Ok(Some(DataPage { count, repetition, definition, values, is_plain, deepest, highest }))
    }

    fn repetition(&self) -> Levels<'_> {
        Levels::new(&self.repetition, self.deepest)
    }

    fn definition(&self) -> Levels<'_> {
        Levels::new(&self.definition, self.highest)
    }

    /// Where its rows go, and how many begin here, if all go to the same output.
    fn destination(&self, rows: &Rows) -> Result<Option<(u32, usize)>> {
        let (mut count, mut goes_on) = (self.count as usize, false);
        if self.deepest > 0 {
            let mut levels = self.repetition();
            count = 0;
            for position in 0..self.count {
                let is_start = levels.next()? == 0;
                goes_on |= position == 0 && !is_start;
                count += usize::from(is_start);
            }
        }
        let from = rows.next.checked_sub(usize::from(goes_on)).ok_or_else(corrupt)?;
        let routes = rows.routes.get(from..rows.next + count).ok_or_else(corrupt)?;
        let to = routes.first().filter(|first| routes.iter().all(|route| route == *first));
        Ok(to.map(|to| (*to, count)))
    }

    /// Appends its rows to the parts that they go to.
    fn divide(
        &self,
        rows: &mut Rows,
        dictionary: &[Bytes],
        parts: &mut [Part],
        codecs: &mut Codecs,
    ) -> Result<()> {
        for part in &mut *parts {
            if part.is_plain != self.is_plain {
                part.flush(codecs)?;
                part.is_plain = self.is_plain;
            }
        }
        let (mut repetition, mut definition) = (self.repetition(), self.definition());
        let mut indices = self.indices()?;
        // Of the plain values, these are for the part in whose turn it is.
        let (mut from, mut at) = (0, 0);
        // A row may go on from the page before.
        let mut to = rows.next.checked_sub(1).map(|row| rows.routes[row]);
        for _ in 0..self.count {
            let (repeated, defined) = (repetition.next()?, definition.next()?);
            if repeated == 0 {
                let next = *rows.routes.get(rows.next).ok_or_else(corrupt)?;
                rows.next += 1;
                let pending = if to == Some(next) { at - from } else { 0 };
                let is_full = parts.get(next as usize).is_some_and(|part| part.is_full(pending));
                if to != Some(next) || is_full {
                    if let Some(part) = to.and_then(|to| parts.get_mut(to as usize)) {
                        part.values.extend_from_slice(&self.values[from..at]);
                    }
                    from = at;
                }
                if is_full {
                    parts[next as usize].flush(codecs)?;
                }
                to = Some(next);
            }
            let mut part = parts.get_mut(to.ok_or_else(corrupt)? as usize);
            if let Some(part) = &mut part {
                part.push_levels(repeated, defined);
            }
            if defined < self.highest {
                continue;
            }
            if let Some(indices) = &mut indices {
                let index = indices.next().ok_or_else(corrupt)? as usize;
                let value = dictionary.get(index).ok_or_else(corrupt)?;
                if let Some(part) = part {
                    part.push_index(index, value, dictionary.len());
                }
            } else {
                let start = at + 4;
                at = end_of(&self.values, at)?;
                if let Some(part) = part {
                    part.extremes.note(&self.values, start..at);
                }
            }
        }
        if let Some(part) = to.and_then(|to| parts.get_mut(to as usize)) {
            part.values.extend_from_slice(&self.values[from..at]);
        }
        Ok(())
    }

    /// The indices of a dictionary. Without any, even their width may be missing.
    fn indices(&self) -> Result<Option<Numbers<'_>>> {
        match self.values.split_first() {
            _ if self.is_plain => Ok(None),
            Some((width, _)) if *width > 32 => Err(corrupt()),
            Some((width, indices)) => Ok(Some(Numbers::new(indices, usize::from(*width)))),
            None => Ok(Some(Numbers::new(&[], 0))),
        }
    }
}

/// Room for the levels in front of the values: those of most pages are a run or two.
const HEAD: usize = 32;

/// A column chunk of an output.
struct Part<'a> {
    description: &'a Description,
    codec: Compression,
    is_same_codec: bool,
    /// The pages so far.
    sink: TrackedWrite<Vec<u8>>,
    /// The page in the making. Its values come after [`HEAD`] bytes.
    repetition: Vec<u32>,
    definition: Vec<u32>,
    values: Vec<u8>,
    indices: Vec<u32>,
    is_plain: bool,
    page_count: u32,
    page_rows: usize,
    /// By index in the dictionary of the input: the index in that of the output, from 1.
    numbers: Vec<u32>,
    /// And the other way round.
    order: Vec<usize>,
    /// Is there a page of indices, if only of nulls?
    has_indices: bool,
    extremes: Extremes,
    rows: usize,
    count: u64,
    nulls: u64,
    uncompressed: usize,
}

impl<'a> Part<'a> {
    fn new(
        description: &'a Description,
        chunk: &ColumnChunkMetaData,
        codecs: &mut Codecs,
    ) -> Part<'a> {
        let codec = description.1.compression(description.0.path());
        Part {
            description,
            codec,
            is_same_codec: discriminant(&codec) == discriminant(&chunk.compression()),
            sink: TrackedWrite::new(codecs.buffer()),
            repetition: Vec::new(),
            definition: Vec::new(),
            values: vec![0; HEAD],
            indices: Vec::new(),
            is_plain: true,
            page_count: 0,
            page_rows: 0,
            numbers: Vec::new(),
            order: Vec::new(),
            has_indices: false,
            extremes: Extremes::default(),
            rows: 0,
            count: 0,
            nulls: 0,
            uncompressed: 0,
        }
    }

    fn highest(&self) -> u32 {
        self.description.0.max_def_level() as u32
    }

    #[inline]
    fn push_levels(&mut self, repeated: u32, defined: u32) {
        let (column, _) = self.description;
        let highest = self.highest();
        if column.max_rep_level() > 0 {
            self.repetition.push(repeated);
        }
        if highest > 0 {
            self.definition.push(defined);
        }
        self.page_count += 1;
        self.page_rows += usize::from(repeated == 0);
        self.nulls += u64::from(defined < highest);
    }

    fn push_index(&mut self, index: usize, value: &Bytes, count: usize) {
        self.numbers.resize(count, 0);
        if self.numbers[index] == 0 {
            self.order.push(index);
            self.numbers[index] = self.order.len() as u32;
            self.extremes.note(value, 0..value.len());
        }
        self.indices.push(self.numbers[index] - 1);
    }

    /// Is the page large enough, with so many more bytes?
    fn is_full(&self, pending: usize) -> bool {
        self.values.len() + pending >= HEAD + DEFAULT_PAGE_SIZE
            || self.page_rows >= DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT
    }

    /// May this page be copied as it is in the file?
    fn takes(&self, piece: &Piece) -> bool {
        self.is_same_codec && matches!(piece.page, Page::DataPage { .. })
    }

    fn copy(
        &mut self,
        page: &DataPage,
        piece: &Piece,
        raw: &[u8],
        codecs: &mut Codecs,
    ) -> Result<()> {
        self.flush(codecs)?;
        let (mut repetition, mut definition) = (page.repetition(), page.definition());
        let mut at = 0;
        for _ in 0..page.count {
            self.rows += usize::from(repetition.next()? == 0);
            if definition.next()? < page.highest {
                self.nulls += 1;
                continue;
            }
            let start = at + 4;
            at = end_of(&page.values, at)?;
            self.extremes.note(&page.values, start..at);
        }
        self.sink.write_all(raw)?;
        self.count += u64::from(page.count);
        self.uncompressed += piece.header + piece.page.buffer().len();
        Ok(())
    }

    /// Writes the page in the making, if there is one.
    fn flush(&mut self, codecs: &mut Codecs) -> Result<()> {
        if self.page_count == 0 {
            return Ok(());
        }
        let (column, _) = self.description;
        let mut levels = Vec::new();
        for (numbers, largest) in [
            (&mut self.repetition, column.max_rep_level()),
            (&mut self.definition, column.max_def_level()),
        ] {
            if largest > 0 {
                let at = levels.len();
                levels.extend([0; 4]);
                hybrid::encode(numbers, hybrid::width(largest as u32), &mut levels);
                let length = (levels.len() - at - 4) as u32;
                levels[at..at + 4].copy_from_slice(&length.to_le_bytes());
                numbers.clear();
            }
        }
        if !self.is_plain {
            self.has_indices = true;
            let width = hybrid::width(self.order.len().saturating_sub(1) as u32);
            self.values.push(width as u8);
            hybrid::encode(&self.indices, width, &mut self.values);
            self.indices.clear();
        }
        let start = match HEAD.checked_sub(levels.len()) {
            Some(start) => {
                self.values[start..HEAD].copy_from_slice(&levels);
                start
            }
            None => {
                self.values.splice(..HEAD, levels);
                0
            }
        };
        let buf = codecs.compress(&self.values[start..], self.codec)?;
        let page = Page::DataPage {
            buf: buf.clone(),
            num_values: self.page_count,
            encoding: if self.is_plain { Encoding::PLAIN } else { Encoding::RLE_DICTIONARY },
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, self.values.len() - start);
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        codecs.take_back(buf);
        self.values.clear();
        self.values.resize(HEAD, 0);
        self.uncompressed += written.uncompressed_size;
        self.count += u64::from(std::mem::take(&mut self.page_count));
        self.rows += std::mem::take(&mut self.page_rows);
        Ok(())
    }

    fn close(mut self, dictionary: &[Bytes], codecs: &mut Codecs) -> Result<Chunk> {
        self.flush(codecs)?;
        let mut bytes = Vec::new();
        if self.has_indices {
            bytes = self.dictionary(dictionary, codecs)?;
        }
        let start = bytes.len() as i64;
        let pages =
            std::mem::replace(&mut self.sink, TrackedWrite::new(Vec::new())).into_inner()?;
        // Without a copy where there is no dictionary.
        bytes = if bytes.is_empty() { pages } else { [bytes, pages].concat() };
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        encodings.extend((start > 0).then_some(Encoding::RLE_DICTIONARY));
        let mut metadata = ColumnChunkMetaData::builder(Arc::clone(&self.description.0))
            .set_compression(self.codec)
            .set_encodings(encodings)
            .set_num_values(self.count as i64)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_dictionary_page_offset((start > 0).then_some(0))
            .set_data_page_offset(start);
        if let Some(statistics) = self.extremes.statistics(self.description, self.nulls)? {
            metadata = metadata.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((bytes.into(), close))
    }

    /// The dictionary page.
    fn dictionary(&mut self, dictionary: &[Bytes], codecs: &mut Codecs) -> Result<Vec<u8>> {
        let mut values = Vec::new();
        for index in &self.order {
            let value = &dictionary[*index];
            values.extend_from_slice(&(value.len() as u32).to_le_bytes());
            values.extend_from_slice(value);
        }
        let page = Page::DictionaryPage {
            buf: codecs.compress(&values, self.codec)?,
            num_values: self.order.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        let mut sink = TrackedWrite::new(Vec::new());
        let page = CompressedPage::new(page, values.len());
        let written = SerializedPageWriter::new(&mut sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        sink.into_inner()
    }
}
