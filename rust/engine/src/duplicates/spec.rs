//! A rule about rows that repeat others, as it is written in a plan.

use std::fmt;

use serde::Deserialize;

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
    /// [`super::cluster`] refuses to use more. 4096 unless given.
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
