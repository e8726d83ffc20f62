//! Writes a file that is either absent or complete: in a folder of its own, then synced and moved to
//! its place. Compressed as its name says, with bytes that depend on the data alone.
//!
//! What is handed in together is compressed together, as one gzip member or one zstandard frame.
//! So workers compress in parallel, and a file can be cut and continued after any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::GzBuilder;

use crate::format::Compression;

/// The default of the zstandard library.
pub const ZSTANDARD_LEVEL: i32 = 3;

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

/// A file in the making; what is written to it must be encoded already. Dropped before
/// [`Sink::finish`], it stays where it was made: the next run continues it or starts it again.
pub struct Sink {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    length: u64,
}

impl Sink {
    /// Starts the file that will be at `path`, in the folder `making`, which is made if need be.
    ///
    /// Inputs and outputs are called whatever their owner likes, so no name beside them is safe:
    /// `making` must be a folder where nothing else is put. It is on the file system of `path`.
    pub fn create(path: &Path, making: &Path) -> io::Result<Sink> {
        Sink::open(path, making, 0)
    }

    /// Continues the file after its first `length` bytes.
    pub fn open(path: &Path, making: &Path, length: u64) -> io::Result<Sink> {
        let temporary = temporary(path, making);
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&temporary);
        let mut file = open().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => fs::create_dir_all(making).and_then(|()| open()),
            _ => Err(error),
        })?;
        if file.metadata()?.len() < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the unfinished file is shorter than it was",
            ));
        }
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Sink { file, path: path.to_owned(), temporary, length })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes in the file so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns when all that was written is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Makes the file appear under its name, with everything that was written on the disk.
    ///
    /// The name is on the disk when its folder is synced. That is left to who needs it, once for all
    /// files: it would double the time of a shard with few rows.
    pub fn finish(mut self) -> io::Result<()> {
        if self.length == 0 {
            let empty = without_rows(&self.path)?;
            self.write_all(&empty)?;
        }
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a file is while it is made: it has its name already.
pub fn temporary(path: &Path, making: &Path) -> PathBuf {
    making.join(path.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Decompressor, Source};

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
                        let length = sink.length();
                        sink.write_all(b"half a frame").unwrap();
                        drop(sink);
                        sink = Sink::open(&path, &making, length).unwrap();
                    }
                }
                sink.finish().unwrap();
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
            drop(sink);
            assert!(!path.exists());
            assert!(Sink::open(&path, &making, 10).is_err());
            Sink::create(&path, &making).unwrap().finish().unwrap();
            assert_eq!(read(&path), b"");
            assert!(!temporary(&path, &making).exists());
        }
    }
}
