//! Compresses rows as the name of their file says, with bytes that depend on the data alone.
//!
//! What is handed in together is compressed together, as one gzip member or one zstandard frame.
//! So workers compress in parallel, and a file can be cut and continued after any of them.

use std::io::{self, Write};
use std::path::Path;

use flate2::GzBuilder;

use crate::format::{Compression, ZSTANDARD_LEVEL};
use crate::sink::Sink;

/// Compresses; each worker has its own.
pub struct Codec {
    compression: Compression,
    zstandard: Option<zstd::bulk::Compressor<'static>>,
}

impl Codec {
    /// Compresses as the name of the file says.
    pub fn of(path: &Path) -> Codec {
        Codec { compression: Compression::of(path), zstandard: None }
    }

    /// What to write to the file for these bytes; nothing for nothing. `buffer` may be used for it.
    pub fn encode<'a>(&mut self, bytes: &'a [u8], buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        if bytes.is_empty() {
            return Ok(bytes);
        }
        buffer.clear();
        match self.compression {
            Compression::None => return Ok(bytes),
            Compression::Gzip => gzip(bytes, buffer)?,
            Compression::Zstandard => {
                let zstandard = match &mut self.zstandard {
                    Some(zstandard) => zstandard,
                    empty => {
                        let zstandard = empty.insert(zstd::bulk::Compressor::new(ZSTANDARD_LEVEL)?);
                        zstandard.include_checksum(true)?;
                        zstandard
                    }
                };
                buffer.reserve(zstd_safe::compress_bound(bytes.len()));
                zstandard.compress_to_buffer(bytes, buffer)?;
            }
        }
        Ok(buffer)
    }
}

/// What to write to this file if it has no rows: no bytes at all are no valid stream.
pub fn without_rows(path: &Path) -> io::Result<Vec<u8>> {
    let mut empty = Vec::new();
    match Compression::of(path) {
        Compression::None => {}
        Compression::Gzip => gzip(b"", &mut empty)?,
        Compression::Zstandard => empty = zstd::bulk::compress(b"", ZSTANDARD_LEVEL)?,
    }
    Ok(empty)
}

fn gzip(bytes: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
    // No time stamp and no name: the same rows give the same bytes.
    let mut encoder = GzBuilder::new().mtime(0).write(buffer, flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish().map(drop)
}

/// Finishes a file of rows, which may have none. Returns its sha256.
pub fn finish(mut sink: Sink) -> io::Result<String> {
    if sink.length() == 0 {
        let empty = without_rows(sink.path())?;
        sink.write_all(&empty)?;
    }
    sink.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::source::{Decompressor, Source};
    use super::*;
    use crate::sink::temporary;

    const NAMES: [&str; 3] = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"];

    fn read(path: &Path) -> Vec<u8> {
        let mut source = Source::open(path, 1 << 16).unwrap();
        let (mut all, mut buffer, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let mut decompressor = Decompressor::default();
        while let Some(chunk) = source.next_chunk(&mut buffer).unwrap() {
            decompressor.decompress(&chunk, &mut buffer, &mut spare).unwrap();
            all.extend_from_slice(&buffer);
        }
        all
    }

    #[test]
    fn what_is_written_can_be_read_and_has_the_same_bytes_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let lines: Vec<u8> =
            (0..50_000).flat_map(|n| format!("{{\"n\": {n}}}\n").into_bytes()).collect();
        let making = directory.path().join("making");
        for name in NAMES {
            let path = directory.path().join(name);
            let mut files = Vec::new();
            for cut in [0, 1, 2] {
                let mut codec = Codec::of(&path);
                let mut buffer = Vec::new();
                let mut sink = Sink::create(&path, &making).unwrap();
                for (number, part) in lines.chunks(200_000).enumerate() {
                    let encoded = codec.encode(part, &mut buffer).unwrap();
                    sink.write_all(encoded).unwrap();
                    // What a run wrote that was killed is cut off.
                    if number + 1 == cut {
                        let written = sink.digest().clone();
                        sink.write_all(b"half a frame").unwrap();
                        drop(sink);
                        sink = Sink::open(&path, &making, written).unwrap();
                    }
                }
                finish(sink).unwrap();
                assert_eq!(read(&path), lines, "{name}");
                files.push(fs::read(&path).unwrap());
            }
            assert!(files.iter().all(|file| *file == files[0]), "{name}");
        }
    }

    #[test]
    fn an_unfinished_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let making = directory.path().join("making");
        for name in NAMES {
            let path = directory.path().join(name);
            let mut sink = Sink::create(&path, &making).unwrap();
            sink.write_all(b"something").unwrap();
            let before = sink.digest().clone();
            sink.write_all(b" and more").unwrap();
            let written = sink.digest().clone();
            drop(sink);
            assert!(!path.exists());
            drop(Sink::open(&path, &making, before).unwrap());
            assert!(Sink::open(&path, &making, written).is_err());
            finish(Sink::create(&path, &making).unwrap()).unwrap();
            assert_eq!(read(&path), b"");
            assert!(!temporary(&path, &making).exists());
        }
    }
}
