//! Rows that repeat an earlier row of the whole input, in three steps.
//!
//! "Earlier" means the order of shards, then of rows, so a row can only be judged once every row
//! before it is known. To stay exact and independent of threads, the work is split: a [`Signer`]
//! turns each value into a few fixed bytes, in any thread and any order of shards; [`cluster`] sorts
//! the [`Signatures`] of all shards and finds the clusters; [`settle`] decides by those of all rules;
//! a second pass over the rows asks
//! [`Decisions::first`]. Each step depends on its input alone: same rows, same decisions.
//!
//! Three methods, from strict to loose:
//!
//! * `exact`: the values are equal, byte for byte.
//! * `normalized`: their words are equal; `normalize.rs` says what a word is.
//! * `minhash`: their sets of word n-grams are similar. Sure to find equal values; finds similar
//!   ones with [`Signer::probability`].
//!
//! Which rows take part is up to the caller, who leaves out rows with [`Signatures::push_none`]; see
//! [`Among`].
//!
//! Similarity is not transitive, but its clusters are: of a chain a ~ b ~ c only a is kept, even if
//! a and c have little in common. datatrove does the same.

mod decide;
mod minhash;
mod normalize;
mod signatures;
mod signer;
mod spec;

pub use decide::{Clusters, Decisions, DuplicatesError, cluster, settle};
pub use signatures::Signatures;
pub use signer::{SignScratch, Signer};
pub use spec::{Among, DuplicateSpec, Method};

#[cfg(test)]
mod tests;
