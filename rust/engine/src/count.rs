//! How many rows a file has, for whoever wants to know that none was lost.

use std::path::Path;

use crate::error::Error;
use crate::format::{self, Format};
use crate::parquet;
use crate::pipeline::CHUNK_BYTES;
use crate::source::{Decompressor, Source};

/// The rows of a shard: lines that are not blank, or what the footer of Parquet says.
///
/// A byte-order mark alone on a line counts as a row here; a filter writes no such line.
pub fn count_rows(path: &Path) -> Result<u64, Error> {
    if format::of_file(path).map_err(Error::read(path))? == Format::Parquet {
        return Ok(parquet::measure(path)?.0);
    }
    let mut source = Source::open(path, CHUNK_BYTES).map_err(Error::read(path))?;
    let mut decompressor = Decompressor::default();
    let (mut buffer, mut spare) = (Vec::new(), Vec::new());
    let mut rows = 0;
    // Has the line that has no end yet something else than whitespace in it?
    let mut begun = false;
    while let Some(chunk) = source.next_chunk(&mut buffer).map_err(Error::read(path))? {
        decompressor.decompress(&chunk, &mut buffer, &mut spare).map_err(Error::read(path))?;
        let mut rest = buffer.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            rows += u64::from(begun || !is_blank(&rest[..at]));
            begun = false;
            rest = &rest[at + 1..];
        }
        begun |= !is_blank(rest);
    }
    Ok(rows + u64::from(begun))
}

fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_blank_are_rows() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = format!(" \r\n{{}}\n{}{{}}", " ".repeat(2 * CHUNK_BYTES));
        for (text, rows) in
            [("", 0), ("\n \t\r\n", 0), ("{}", 1), ("{}\r\n\n{}\n", 2), (long.as_str(), 2)]
        {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(count_rows(file.path()).unwrap(), rows);
        }
        assert!(count_rows(Path::new("nothing.jsonl")).is_err());
        assert!(count_rows(Path::new("nothing.parquet")).is_err());
    }
}
