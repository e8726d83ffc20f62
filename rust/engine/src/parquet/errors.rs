//! What goes wrong in the reader and writer of Parquet, as errors of files.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;

use crate::error::Error;

/// What the system said, if it was the system that failed.
pub fn to_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// Some broken files make the reader panic instead of saying so.
pub fn catch<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = format!("the reader panicked: {}", message.unwrap_or("without a message"));
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    });
    result.map_err(Error::read(path))
}
