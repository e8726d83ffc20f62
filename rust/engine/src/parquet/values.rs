//! What is in a page of texts: plain values, levels, and the least and the greatest value.

use std::ops::Range;

use bytes::Bytes;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result};
use parquet::file::statistics::{Statistics, ValueStatistics};

use super::chunk::{Description, encode};
use super::hybrid::{self, Numbers};

/// Of a page that cannot be right.
pub fn corrupt() -> ParquetError {
    ParquetError::General("a column's levels and values do not match".into())
}

/// The plain values of a dictionary.
pub fn values_of(page: &Bytes, count: u32) -> Result<Vec<Bytes>> {
    let mut at = 0;
    let value = |_| {
        let start = at + 4;
        at = end_of(page, at)?;
        Ok(page.slice(start..at))
    };
    (0..count).map(value).collect()
}

/// Where the plain value that begins here ends.
#[inline]
pub fn end_of(values: &[u8], at: usize) -> Result<usize> {
    let length = values[at..].first_chunk().ok_or_else(corrupt)?;
    let end = at + 4 + u32::from_le_bytes(*length) as usize;
    if end > values.len() { Err(corrupt()) } else { Ok(end) }
}

/// The levels of a page; zeros where a column has none.
pub struct Levels<'a> {
    numbers: Numbers<'a>,
    largest: u32,
}

impl Levels<'_> {
    pub fn new(bytes: &[u8], largest: u32) -> Levels<'_> {
        Levels { numbers: Numbers::new(bytes, hybrid::width(largest)), largest }
    }

    #[inline]
    pub fn next(&mut self) -> Result<u32> {
        if self.largest == 0 {
            return Ok(0);
        }
        self.numbers.next().filter(|level| *level <= self.largest).ok_or_else(corrupt)
    }
}

/// The least and the greatest value.
#[derive(Default)]
pub struct Extremes(Option<[Bytes; 2]>);

impl Extremes {
    #[inline]
    pub fn note(&mut self, values: &Bytes, place: Range<usize>) {
        let value = &values[place.clone()];
        match &mut self.0 {
            None => self.0 = Some([values.slice(place.clone()), values.slice(place)]),
            Some([least, _]) if value < &least[..] => *least = values.slice(place),
            Some([_, greatest]) if value > &greatest[..] => *greatest = values.slice(place),
            Some(_) => {}
        }
    }

    /// What the library says of the least and the greatest value, which it may cut, and the nulls.
    pub fn statistics(&self, description: &Description, nulls: u64) -> Result<Option<Statistics>> {
        let values: Vec<_> = self.0.iter().flatten().cloned().map(ByteArray::from).collect();
        let definition = vec![description.0.max_def_level(); values.len()];
        let repetition = vec![0; values.len()];
        let (_, close) = encode::<ByteArrayType>(
            description,
            &values,
            (description.0.max_def_level() > 0).then_some(&definition),
            (description.0.max_rep_level() > 0).then_some(&repetition),
        )?;
        let Some(Statistics::ByteArray(of)) = close.metadata.statistics() else { return Ok(None) };
        let (least, greatest) = (of.min_opt().cloned(), of.max_opt().cloned());
        let statistics = ValueStatistics::new(least, greatest, None, Some(nulls), false)
            .with_min_is_exact(of.min_is_exact())
            .with_max_is_exact(of.max_is_exact());
        Ok(Some(Statistics::ByteArray(statistics)))
    }
}
