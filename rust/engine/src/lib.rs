//! The filter engine of `subl`: from the bytes of a shard to the bytes of its kept rows.
//!
//! A shard is JSON lines (plain, gzip or zstandard) or Parquet ([`format`]). Each row is judged by the rules of a [`Plan`].
//! A row that no rule drops is written back byte by byte; any other row is written to the rejects
//! with every rule that it breaks and the span that broke it. A line that cannot be read is
//! rejected too, so that `rows_in == kept + rejected` always.
//!
//! The house, from the top down: `filter` asks which format a shard has, and hands on. `lines` and
//! [`parquet`] read, judge and write, each in its own way; [`arrow`] does the same for rows in memory.
//! All of them ask the `plan`, which compiles the [`rules`] together, and sees rows by what `json`
//! locates in them. `shard` is what a run is told and tells; `sink` and `threads` are what both formats
//! stand on.

pub mod arrow;
mod digest;
pub mod duplicates;
mod error;
mod filter;
pub mod format;
mod json;
mod lines;
pub mod parquet;
mod plan;
pub mod rules;
mod shard;
mod sink;
mod threads;
mod tokenizer;
mod unicode;

pub use arrow::BatchMatcher;
pub use error::{Error, PlanError, shown};
pub use filter::{check_shard, count_rows, filter_shard, sign_shard};
pub use json::MAX_DEPTH;
pub use lines::{CHUNK_BYTES, Decompressor, Source, Streams, explain, filter_stream, read_line};
pub use plan::{Comparison, Plan, PlanSpec, Sha256, Statistics};
pub use shard::{Duplicates, Flow, Progress, Shard, Split, part_name};
