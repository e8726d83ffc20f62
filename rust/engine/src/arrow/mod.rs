//! Rows that are in memory instead of in a file.
//!
//! The paths of a plan are followed once a batch, column by column, down to the arrays of strings
//! that they end in; a row is then judged without a look at the columns around. A null counts as a
//! value that is missing, as in JSON lines. A map is a list of objects with a key and a value each.
//! A column of JSON documents (Arrow's `arrow.json`, a logical type of Parquet) holds what they
//! say: a path leads into them. Rows that are objects of another language come as lines of JSON.

mod arrays;
mod batch;
mod json;
mod matcher;

pub(crate) use arrays::is_json;
pub(crate) use batch::Batch;
pub(crate) use json::write_json;
pub use matcher::{BatchMatcher, matches_schema};

#[cfg(test)]
mod tests;
