//! JSON lines, from bytes to bytes: plain, gzip or zstandard.
//!
//! Threads take chunks of the file (`source`, `pipeline`), cut them into whole lines (`block`), judge
//! them, and copy whole runs of those that are kept (`judge`); what they make is written in order
//! (`output`, or `stream` where rows pass from one process to the next).

mod block;
mod codec;
mod filter;
mod gzip;
mod judge;
mod look;
mod output;
mod pipe;
mod pipeline;
mod rejects;
mod sign;
mod source;
mod stream;

pub(crate) use filter::filter;
pub(crate) use look::{check, count};
pub use look::{explain, read_line};
pub(crate) use sign::sign;
pub use source::{CHUNK_BYTES, Decompressor, Source};
pub use stream::{Streams, filter_stream};

#[cfg(test)]
mod tests;
