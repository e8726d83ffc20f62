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

/// A shard, read chunk by chunk. A chunk is what one worker takes at a time; where one ends depends
/// on the file alone, never on how much a read happened to return.
pub struct Source {
    reader: Reader,
    bytes_read: Arc<AtomicU64>,
    chunk_bytes: usize,
}

enum Reader {
    /// Decompressed while it is read, if it is compressed at all.
    Stream(Box<dyn Read + Send>),
    /// Zstandard frames that can be decompressed one by one, by whoever has time.
    Frames(Frames),
}

/// A piece of a shard.
pub enum Chunk {
    /// As it is.
    Bytes,
    /// Whole zstandard frames that hold this many bytes together.
    Frames(usize),
}

impl Source {
    /// Opens `path`. Chunks have `chunk_bytes` bytes, the last one less; a chunk of frames has at
    /// least so many, and less than that and a frame.
    pub fn open(path: &Path, chunk_bytes: usize) -> io::Result<Source> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let file = Counted { file: File::open(path)?, bytes_read: Arc::clone(&bytes_read) };
        let source = |reader| Source { reader, bytes_read, chunk_bytes };
        let compression = Compression::of(path);
        if compression == Compression::None && !path.is_file() {
            // A pipe cannot be looked at ahead of time, and has no size to speak of.
            return Ok(source(Reader::Stream(Box::new(file))));
        }
        let mut file = BufReader::with_capacity(128 * 1024, file);
        let first = file.fill_buf()?;
        if first.is_empty() && compression != Compression::None {
            return Err(invalid("empty file, expected a compressed stream"));
        }
        Ok(source(match compression {
            Compression::None => match Compression::of_first_bytes(first) {
                // Large reads go past the buffer, straight into the chunk.
                Compression::None => Reader::Stream(Box::new(file)),
                Compression::Gzip => return Err(invalid("gzip data, but not named *.gz")),
                Compression::Zstandard => {
                    return Err(invalid("zstandard data, but not named *.zst"));
                }
            },
            Compression::Gzip => Reader::Stream(Box::new(MultiGzDecoder::new(file))),
            Compression::Zstandard => Reader::Frames(Frames { file, ahead: Vec::new() }),
        }))
    }

    /// A counter of the bytes read from the file so far, before decompression.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }

    /// Replaces `buffer` by the next chunk. `None` at the end of the file.
    pub fn next_chunk(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Chunk>> {
        if let Reader::Frames(frames) = &mut self.reader {
            if let Some(size) = frames.take(self.chunk_bytes, buffer)? {
                return Ok(Some(Chunk::Frames(size)));
            }
            if frames.ahead.is_empty() {
                return Ok(None);
            }
            // The next frame is large, or does not say how large; so may be all that follow.
            let rest = frames.rest()?;
            let mut decoder = zstd::stream::read::Decoder::with_buffer(rest)?;
            // Files made with `zstd --long=31` are common in public corpora.
            decoder.window_log_max(31)?;
            self.reader = Reader::Stream(Box::new(decoder));
        }
        let Reader::Stream(reader) = &mut self.reader else { unreachable!("frames end above") };
        // What is in the buffer is overwritten, not cleared: zeroing it again took 2 % of the time.
        buffer.resize(self.chunk_bytes, 0);
        let mut filled = 0;
        while filled < buffer.len() {
            match reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok((filled > 0).then_some(Chunk::Bytes))
    }
}

/// Finds out where zstandard frames end, which needs no decompression.
struct Frames {
    file: BufReader<Counted>,
    /// Compressed bytes that have been read and not yet handed out.
    ahead: Vec<u8>,
}

impl Frames {
    /// Replaces `buffer` by whole frames until they hold `chunk_bytes`, and returns how much they
    /// hold. `None` if the next frame is larger than that, or does not say its size, or if there
    /// is none.
    fn take(&mut self, chunk_bytes: usize, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        // Compressed frames are hardly ever larger than their content.
        let limit = chunk_bytes + chunk_bytes / 4 + 1024;
        let missing = limit.saturating_sub(self.ahead.len()) as u64;
        self.file.by_ref().take(missing).read_to_end(&mut self.ahead)?;
        let (mut taken, mut content) = (0, 0);
        while content < chunk_bytes {
            let rest = &self.ahead[taken..];
            let Ok(frame) = zstd_safe::find_frame_compressed_size(rest) else { break };
            let Ok(Some(size)) = zstd_safe::get_frame_content_size(rest) else { break };
            if frame == 0 || size > chunk_bytes as u64 {
                break;
            }
            taken += frame;
            content += size as usize;
        }
        buffer.clear();
        buffer.extend_from_slice(&self.ahead[..taken]);
        self.ahead.drain(..taken);
        Ok((taken > 0).then_some(content))
    }

    /// Everything that has not been taken.
    fn rest(&mut self) -> io::Result<impl BufRead + Send + use<>> {
        let counted = self.file.get_ref();
        let file = Counted {
            file: counted.file.try_clone()?,
            bytes_read: Arc::clone(&counted.bytes_read),
        };
        let ahead = [std::mem::take(&mut self.ahead), self.file.buffer().to_vec()].concat();
        Ok(io::Cursor::new(ahead).chain(BufReader::with_capacity(128 * 1024, file)))
    }
}

/// Decompresses chunks of frames. Each worker has its own.
#[derive(Default)]
pub struct Decompressor {
    zstandard: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// Replaces `buffer` by the content of its `chunk`.
    pub fn decompress(
        &mut self,
        chunk: &Chunk,
        buffer: &mut Vec<u8>,
        spare: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Chunk::Frames(size) = *chunk else { return Ok(()) };
        let zstandard = match &mut self.zstandard {
            Some(zstandard) => zstandard,
            empty => empty.insert(zstd::bulk::Decompressor::new()?),
        };
        zstandard.window_log_max(31)?;
        spare.clear();
        // Not one by one: the library takes any number of frames at once.
        spare.reserve_exact(size);
        zstandard.decompress_to_buffer(buffer, spare)?;
        std::mem::swap(buffer, spare);
        Ok(())
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

    /// A frame that says how large its content is.
    fn sized(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    fn read(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut all = read_all(&path, 1 << 20)?;
        for chunk_bytes in [1, 10, 50, 10_000] {
            assert_eq!(read_all(&path, chunk_bytes)?, all);
        }
        Ok(std::mem::take(&mut all))
    }

    fn read_all(path: &Path, chunk_bytes: usize) -> io::Result<Vec<u8>> {
        let mut source = Source::open(path, chunk_bytes)?;
        let (mut all, mut buffer, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let mut decompressor = Decompressor::default();
        while let Some(chunk) = source.next_chunk(&mut buffer)? {
            decompressor.decompress(&chunk, &mut buffer, &mut spare)?;
            all.extend_from_slice(&buffer);
        }
        let size = std::fs::metadata(path)?.len();
        assert_eq!(source.bytes_read().load(Ordering::Relaxed), size);
        Ok(all)
    }

    #[test]
    fn reads_every_member_and_every_frame() {
        assert_eq!(read("a.jsonl", TEXT).unwrap(), TEXT);
        assert_eq!(read("a.jsonl", b"").unwrap(), b"");
        let twice = [TEXT, TEXT].concat();
        assert_eq!(read("a.jsonl.gz", &[gzip(TEXT), gzip(TEXT)].concat()).unwrap(), twice);
        for frames in [
            [zstandard(TEXT), zstandard(TEXT)],
            [sized(TEXT), sized(TEXT)],
            [sized(TEXT), zstandard(TEXT)],
            [zstandard(TEXT), sized(TEXT)],
        ] {
            assert_eq!(read("a.jsonl.zst", &frames.concat()).unwrap(), twice);
        }
        let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3], &sized(TEXT)[..]].concat();
        assert_eq!(read("a.jsonl.zst", &skippable).unwrap(), TEXT);
        assert_eq!(read("a.jsonl.zst", &sized(b"")).unwrap(), b"");
    }

    #[test]
    fn every_truncation_is_an_error() {
        // Incompressible enough that the streams have several blocks of bytes to cut.
        let text: Vec<u8> =
            (0..2000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for (name, whole) in [
            ("a.jsonl.gz", gzip(&text)),
            ("a.jsonl.zst", zstandard(&text)),
            ("a.jsonl.zst", sized(&text)),
        ] {
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
