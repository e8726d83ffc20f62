//! The filter engine of `subl`: from the bytes of a shard to the bytes of its kept rows.
//!
//! A shard is JSON lines, plain, gzip or zstandard. Each row is judged by the rules of a [`Plan`].
//! A row that breaks none of them is written back byte by byte; any other row is written to the
//! rejects with every rule that it breaks and the span that broke it. A line that cannot be read is
//! rejected too, so that `rows_in == kept + rejected` always.
//!
//! The hot path reads blocks, splits lines ([`lines`]), locates the needed fields without building
//! a document ([`record`]), matches ([`rules`], [`plan`]) and copies the line ([`shard`]).

pub mod error;
pub mod lines;
pub mod plan;
pub mod record;
mod reject;
pub mod rules;
pub mod shard;
mod sink;
mod source;
pub mod statistics;

pub use error::{Error, PlanError};
pub use plan::{Plan, PlanSpec};
pub use reject::explain;
pub use shard::{Flow, Progress, Shard, filter_shard};
pub use statistics::Statistics;
