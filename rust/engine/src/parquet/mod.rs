//! A shard of Parquet, row group by row group.
//!
//! A worker takes the next row group, decodes the columns that the rules look at, and judges the
//! rows. A row group that loses no row is copied as it is, encoded and compressed; of any other one
//! texts lose what is dropped page by page ([`texts`]), and all else is decoded and encoded again
//! without it ([`columns`]). Results are written in the order of the input. A row group of the output
//! comes from one of the input, so neither the number of threads nor their speed changes a byte.
//!
//! A worker holds what it made of one row group, encoded, and some of the pages that it judged, so as
//! not to decompress them again ([`group`]): memory is bounded by the size of the row groups and the
//! number of threads. There is no journal: a shard that was interrupted is filtered again.
//!
//! What is kept: schema, field ids, key-value metadata, the codec of each column, whether it has a
//! dictionary, statistics, and the order that the file says it is sorted in. What is not: page
//! indexes, Bloom filters, and the level of compression, which is not in the file. The columns that
//! no rule looks at are not checked where they are copied.

mod chunk;
mod codec;
mod columns;
mod errors;
mod filter;
mod group;
mod hybrid;
mod input;
mod judge;
mod look;
mod output;
mod sign;
mod texts;
mod values;

pub(crate) use filter::filter;
pub(crate) use look::check;
pub use look::{JsonRows, explain, measure, take_rows};
pub(crate) use sign::sign;

#[cfg(test)]
mod tests;
