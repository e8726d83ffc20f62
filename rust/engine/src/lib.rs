//! The filter engine of `subl`: from the bytes of a shard to the bytes of its kept rows.
//!
//! A shard is JSON lines (plain, gzip or zstandard) or Parquet ([`format`]). Each row is judged by the rules of a [`Plan`].
//! A row that no rule drops is written back byte by byte; any other row is written to the rejects
//! with every rule that it breaks and the span that broke it. A line that cannot be read is
//! rejected too, so that `rows_in == kept + rejected` always.
//!
//! The hot path: threads take chunks of the file ([`source`], [`pipeline`]), mark the bytes that
//! matter and locate the needed fields without building a document ([`json`]),
//! match ([`plan`], [`scan`], [`rules`]), and copy whole runs of lines ([`shard`]). In Parquet the
//! chunks are row groups ([`parquet`]); the same rules look at Arrow arrays, and at rows that other
//! languages hold ([`batch`]).

pub mod batch;
mod count;
pub mod duplicates;
pub mod error;
pub mod format;
mod gzip;
mod json;
mod judge;
mod output;
pub mod parquet;
mod pipe;
pub mod pipeline;
pub mod plan;
mod reject;
pub mod rules;
mod scan;
pub mod shard;
mod sign;
mod sink;
pub mod source;
pub mod statistics;
pub mod stream;
pub mod tokenizer;
mod unicode;

pub use batch::BatchMatcher;
pub use count::count_rows;
pub use error::{Error, PlanError, shown};
pub use json::MAX_DEPTH;
pub use output::part_name;
pub use pipeline::{CHUNK_BYTES, read_line};
pub use plan::{Plan, PlanSpec};
pub use reject::explain;
pub use shard::{Duplicates, Flow, Progress, Shard, Split, check_shard, filter_shard};
pub use sign::sign_shard;
pub use statistics::Statistics;
pub use stream::{Streams, filter_stream};
