//! Opens a shard for reading: plain, gzip (any number of members) or zstandard (any number of
//! frames), by the end of its name.
//!
//! A truncated or corrupt stream is an error of the reader, never an early end of file: a shorter
//! output would look like a finished one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// How a shard is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, for names that end in `.gz`.
    Gzip,
    /// zstandard, for names that end in `.zst` or `.zstd`.
    Zstandard,
}

impl Compression {
    /// What the name of a file says.
    pub fn of(path: &Path) -> Compression {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Compression::Gzip,
            Some("zst" | "zstd") => Compression::Zstandard,
            _ => Compression::None,
        }
    }

    /// What the first bytes of a file say. JSON text starts like none of these.
    fn of_first_bytes(first: &[u8]) -> Compression {
        match first {
            [0x1F, 0x8B, ..] => Compression::Gzip,
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Compression::Zstandard,
            _ => Compression::None,
        }
    }
}

/// The uncompressed bytes of a shard.
pub struct Source {
    reader: Box<dyn Read + Send>,
    bytes_read: Arc<AtomicU64>,
}

impl Source {
    /// Opens `path`.
    pub fn open(path: &Path) -> io::Result<Source> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let file = Counted { file: File::open(path)?, bytes_read: Arc::clone(&bytes_read) };
        let compression = Compression::of(path);
        if compression == Compression::None && !path.is_file() {
            // A pipe cannot be looked at ahead of time, and has no size to speak of.
            return Ok(Source { reader: Box::new(file), bytes_read });
        }
        let mut file = BufReader::with_capacity(128 * 1024, file);
        let first = file.fill_buf()?;
        if first.is_empty() && compression != Compression::None {
            return Err(invalid("empty file, expected a compressed stream"));
        }
        let reader: Box<dyn Read + Send> = match compression {
            Compression::None => match Compression::of_first_bytes(first) {
                Compression::None => Box::new(file),
                Compression::Gzip => return Err(invalid("gzip data, but not named *.gz")),
                Compression::Zstandard => {
                    return Err(invalid("zstandard data, but not named *.zst"));
                }
            },
            Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
            Compression::Zstandard => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
                // Files made with `zstd --long=31` are common in public corpora.
                decoder.window_log_max(31)?;
                Box::new(decoder)
            }
        };
        Ok(Source { reader, bytes_read })
    }

    /// A counter of the bytes read from the file so far, before decompression.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    const TEXT: &[u8] = b"{\"completion\": \"1, 2\"}\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut source = Source::open(&path)?;
        let mut all = Vec::new();
        source.read_to_end(&mut all)?;
        assert_eq!(source.bytes_read().load(Ordering::Relaxed), bytes.len() as u64);
        Ok(all)
    }

    #[test]
    fn reads_every_member_and_every_frame() {
        assert_eq!(read("a.jsonl", TEXT).unwrap(), TEXT);
        assert_eq!(read("a.jsonl", b"").unwrap(), b"");
        let twice = [TEXT, TEXT].concat();
        assert_eq!(read("a.jsonl.gz", &[gzip(TEXT), gzip(TEXT)].concat()).unwrap(), twice);
        assert_eq!(
            read("a.jsonl.zst", &[zstandard(TEXT), zstandard(TEXT)].concat()).unwrap(),
            twice
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        // Incompressible enough that the streams have several blocks of bytes to cut.
        let text: Vec<u8> =
            (0..2000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (name, whole) in [("a.jsonl.gz", gzip(&text)), ("a.jsonl.zst", zstandard(&text))] {
            for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
                assert!(read(name, &whole[..length]).is_err(), "{name} cut at {length}");
            }
            let two = [&whole[..], &whole[..whole.len() / 2]].concat();
            assert!(read(name, &two).is_err(), "{name}: second member cut");
        }
    }

    #[test]
    fn a_wrong_name_is_an_error() {
        assert!(read("a.jsonl", &gzip(TEXT)).is_err());
        assert!(read("a.jsonl", &zstandard(TEXT)).is_err());
        assert!(read("a.jsonl.gz", TEXT).is_err());
        assert!(read("a.jsonl.zst", TEXT).is_err());
    }
}
