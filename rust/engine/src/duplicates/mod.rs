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

use std::fmt;

use serde::Deserialize;
use twox_hash::{XxHash3_64, XxHash3_128};

use minhash::MinHash;
use normalize::Normalizer;

pub use decide::{Clusters, Decisions, cluster, settle};
pub use signatures::Signatures;

/// The most words that a shingle may have.
const MAX_NGRAM: usize = 64;
/// Keeps values without words, hashed with their marks, apart from values with words.
const WORDLESS_SEED: u64 = 1;
/// Keeps values with too few words for a shingle apart from band keys.
const SHORT_SEED: u64 = 2;

/// A value breaks this rule if an earlier row has the same or a similar one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuplicateSpec {
    /// What counts as a repetition.
    pub method: Method,
    /// Which rows are compared: those that are kept unless given.
    #[serde(default)]
    pub among: Among,
    /// Only for minhash: the Jaccard similarity from which two values repeat each other, between 0
    /// and 1, 0.8 unless given.
    pub threshold: Option<f64>,
    /// Only for minhash: words a shingle, 5 unless given.
    pub ngram: Option<usize>,
    /// [`cluster`] refuses to use more. 4096 unless given.
    #[serde(default = "default_max_memory_mib")]
    pub max_memory_mib: u64,
}

fn default_max_memory_mib() -> u64 {
    4096
}

/// Which rows are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Among {
    /// Rows that can be read and that no other rule drops, so that the first of these stays. Rules
    /// about rules that compare rows are no such others: they are asked afterwards.
    #[default]
    Kept,
    /// All rows with a value, so that the first may be one that another rule drops.
    All,
}

/// What counts as a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The same bytes.
    Exact,
    /// The same words.
    Normalized,
    /// Similar sets of word n-grams.
    Minhash,
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Method::Exact => "exact",
            Method::Normalized => "normalized",
            Method::Minhash => "minhash",
        })
    }
}

/// Why duplicates cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum DuplicatesError {
    /// It would take more memory than the rule allows.
    #[error(
        "rule `{rule}`: finding duplicates among {rows} rows needs {needed_mib} MiB, but \
         max_memory_mib is {max_memory_mib}: set max_memory_mib = {needed_mib}, or filter fewer \
         shards at once{leaner}"
    )]
    Memory {
        /// The name of the rule.
        rule: String,
        /// Rows of all shards.
        rows: u64,
        /// What would be enough.
        needed_mib: u64,
        /// What the rule allows.
        max_memory_mib: u64,
        /// Another way out, if there is one.
        leaner: &'static str,
    },
    /// Rows are counted in 32 bits.
    #[error("rule `{rule}`: {rows} rows, expected at most {max}: filter fewer shards at once",
        max = u32::MAX)]
    Rows {
        /// The name of the rule.
        rule: String,
        /// Rows of all shards.
        rows: u64,
    },
    /// The signatures of a shard were made by another rule.
    #[error("rule `{rule}`: shard {shard} was signed with `{found}`, expected `{expected}`")]
    Parameters {
        /// The name of the rule.
        rule: String,
        /// The index of the shard.
        shard: usize,
        /// How it was signed.
        found: String,
        /// How the rule signs.
        expected: String,
    },
}

/// A compiled [`DuplicateSpec`]. It is immutable, and shared between threads.
pub struct Signer {
    name: String,
    max_memory_mib: u64,
    among: Among,
    /// All that a signature depends on; signatures are comparable if these are equal.
    parameters: String,
    method: Recipe,
}

enum Recipe {
    Exact,
    Normalized(Normalizer),
    MinHash(Normalizer, MinHash),
}

/// Buffers that signing reuses from row to row.
#[derive(Default)]
pub struct SignScratch {
    composed: String,
    words: Vec<u8>,
    minhash: minhash::Scratch,
}

impl Signer {
    /// Compiles a rule of this name about this field.
    pub fn new(name: &str, field: &str, spec: &DuplicateSpec) -> Result<Signer, String> {
        if spec.method != Method::Minhash {
            for (option, given) in
                [("threshold", spec.threshold.is_some()), ("ngram", spec.ngram.is_some())]
            {
                if given {
                    let method = spec.method;
                    return Err(format!("{option} needs method minhash, not {method}"));
                }
            }
        }
        let threshold = spec.threshold.unwrap_or(0.8);
        if !(threshold > 0.0 && threshold < 1.0) {
            return Err(format!(
                "threshold is {threshold}, expected a number between 0 and 1 (for equal values \
                 use method normalized)"
            ));
        }
        let ngram = spec.ngram.unwrap_or(5);
        if !(1..=MAX_NGRAM).contains(&ngram) {
            return Err(format!("ngram is {ngram}, expected 1 to {MAX_NGRAM}"));
        }
        if spec.max_memory_mib == 0 {
            return Err("max_memory_mib is 0".to_owned());
        }
        let mut parameters =
            format!("method={} field={field:?} among={:?}", spec.method, spec.among);
        let method = match spec.method {
            Method::Exact => Recipe::Exact,
            Method::Normalized => Recipe::Normalized(Normalizer::new()),
            Method::Minhash => {
                let minhash = MinHash::new(threshold, ngram);
                let (bands, rows) = (minhash.bands(), minhash.rows());
                parameters += &format!(" ngram={ngram} bands={bands} rows={rows}");
                Recipe::MinHash(Normalizer::new(), minhash)
            }
        };
        if spec.method != Method::Exact {
            parameters += &format!(" unicode={}", normalize::unicode_version());
        }
        let (name, max_memory_mib, among) = (name.to_owned(), spec.max_memory_mib, spec.among);
        Ok(Signer { name, max_memory_mib, among, parameters, method })
    }

    /// Which rows are compared.
    pub fn among(&self) -> Among {
        self.among
    }

    /// An empty column for the rows of one shard.
    pub fn signatures(&self) -> Signatures {
        match &self.method {
            Recipe::Exact | Recipe::Normalized(_) => Signatures::new(&self.parameters, 1, true),
            Recipe::MinHash(_, minhash) => {
                Signatures::new(&self.parameters, minhash.bands(), false)
            }
        }
    }

    /// Appends the signature of one row. `signatures` must come from [`Signer::signatures`].
    pub fn sign(&self, value: &str, scratch: &mut SignScratch, signatures: &mut Signatures) {
        match &self.method {
            Recipe::Exact => signatures.push_hash(XxHash3_128::oneshot(value.as_bytes())),
            Recipe::Normalized(normalizer) => {
                normalizer.normalize(value, &mut scratch.composed, &mut scratch.words);
                signatures.push_hash(if scratch.words.is_empty() {
                    normalizer.compose(value, &mut scratch.composed);
                    let marks = scratch.composed.trim().as_bytes();
                    XxHash3_128::oneshot_with_seed(WORDLESS_SEED, marks)
                } else {
                    XxHash3_128::oneshot(&scratch.words)
                });
            }
            Recipe::MinHash(normalizer, minhash) => {
                normalizer.normalize(value, &mut scratch.composed, &mut scratch.words);
                if let Some(keys) = minhash.keys(&scratch.words, &mut scratch.minhash) {
                    signatures.push_keys(keys);
                } else if scratch.words.is_empty() {
                    normalizer.compose(value, &mut scratch.composed);
                    let marks = scratch.composed.trim().as_bytes();
                    signatures.push_key(XxHash3_64::oneshot_with_seed(WORDLESS_SEED, marks));
                } else {
                    signatures.push_key(XxHash3_64::oneshot_with_seed(SHORT_SEED, &scratch.words));
                }
            }
        }
    }

    /// How likely two values of this Jaccard similarity are found to repeat each other.
    pub fn probability(&self, similarity: f64) -> f64 {
        match &self.method {
            Recipe::MinHash(_, minhash) => minhash.probability(similarity),
            Recipe::Exact | Recipe::Normalized(_) => f64::from(similarity >= 1.0),
        }
    }

    /// How much memory [`cluster`] needs for so many rows with one thread.
    ///
    /// Signatures are part of it, so ask this between shards of the first pass.
    pub fn check_memory(&self, rows: u64) -> Result<(), DuplicatesError> {
        decide::threads_that_fit(self, rows, 1).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
