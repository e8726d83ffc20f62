//! Turns each value into the few bytes by which it is compared.

use std::path::Path;

use twox_hash::{XxHash3_64, XxHash3_128};

use super::minhash::{self, MinHash};
use super::normalize::{self, Normalizer};
use super::signatures::Signatures;
use super::spec::{Among, DuplicateSpec, Method};
use crate::error::Error;

/// The most words that a shingle may have.
const MAX_NGRAM: usize = 64;
/// Keeps values without words, hashed with their marks, apart from values with words.
const WORDLESS_SEED: u64 = 1;
/// Keeps values with too few words for a shingle apart from band keys.
const SHORT_SEED: u64 = 2;

/// A compiled [`DuplicateSpec`]. It is immutable, and shared between threads.
pub struct Signer {
    pub(super) name: String,
    pub(super) max_memory_mib: u64,
    among: Among,
    /// All that a signature depends on; signatures are comparable if these are equal.
    pub(super) parameters: String,
    pub(super) method: Recipe,
}

/// How a row is signed.
pub enum Recipe {
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

    /// Reads what [`Signatures::save`] wrote.
    ///
    /// An error if the file is truncated or corrupt, or was made with other parameters than those
    /// of this rule; then the shard must be signed again.
    pub fn load(&self, path: &Path) -> Result<Signatures, Error> {
        Signatures::load(path, self.signatures())
    }
}
