//! What can stop a run. A row that cannot be read is not an error: it goes to the rejects.

use std::io;
use std::path::{Path, PathBuf};

/// A plan that cannot be compiled. The message names the rule, and the pattern where there is one.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The plan is not the JSON that [`crate::PlanSpec`] describes.
    #[error("invalid plan: {0}")]
    Json(#[from] serde_json::Error),
    /// The plan as a whole makes no sense.
    #[error("invalid plan: {0}")]
    Plan(String),
    /// One rule makes no sense.
    #[error("rule `{rule}`: {message}")]
    Rule {
        /// The name of the rule.
        rule: String,
        /// What is wrong with it.
        message: String,
    },
    /// A pattern is not a regular expression, or is too large when compiled.
    #[error("rule `{rule}`: pattern `{pattern}`: {message}")]
    Pattern {
        /// The name of the rule.
        rule: String,
        /// The pattern as written in the rule.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
}

/// A shard that cannot be filtered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is missing, unreadable, truncated or corrupt.
    #[error("cannot read {path}: {source}", path = shown(path))]
    Read {
        /// The input.
        path: PathBuf,
        /// What the system or the decompressor said.
        source: io::Error,
    },
    /// An output cannot be created, written or renamed.
    #[error("cannot write {path}: {source}", path = shown(path))]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two of input, kept and rejects are the same file.
    #[error("{path} cannot be read and written, or written twice, at once", path = shown(path))]
    SameFile {
        /// The file in question.
        path: PathBuf,
    },
    /// The plan compares rows, and nobody said which of them repeat others.
    #[error("the plan has a duplicate rule: all shards must be signed first")]
    NotSigned,
    /// The plan or the outputs do not fit the input.
    #[error("cannot filter {path}: {message}", path = shown(path))]
    Unfit {
        /// The input.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// The input does not begin as it did when the work that shall go on was done.
    #[error("the input is another one than when this was begun")]
    OtherInput,
    /// The progress callback asked to stop. The outputs were not made.
    #[error("interrupted")]
    Interrupted,
}

/// A path as text. A byte of a name that is not UTF-8 is `\\xe9`.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

impl Error {
    /// Turns an error of reading `path` into one that names it.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Read { path: path.to_owned(), source }
    }

    /// Turns an error of writing `path` into one that names it.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Write { path: path.to_owned(), source }
    }
}
