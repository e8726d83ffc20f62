//! Opens a shard for reading: plain, gzip (any number of members) or zstandard (any number of
//! frames), by its first bytes.
//!
//! A truncated or corrupt stream is an error of the reader, never an early end of file: a shorter
//! output would look like a finished one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::gzip::Members;
use super::pipe::{Patience, Pipe};
use crate::digest::InputDigest;
use crate::format::{self, Compression, Format};

/// How much one worker takes at a time, uncompressed.
pub const CHUNK_BYTES: usize = 512 << 10;

/// Chunks of what is compressed hold so many times more: each of them becomes a frame of its own, and
/// frames of half a megabyte would be larger together. Where nothing is compressed, small chunks stay
/// in the caches: with a rule that asks nothing, 0.77 of the floor instead of 0.66 on rows of 1 kB.
pub const PACKED: usize = 8;

const BUFFER_BYTES: usize = 128 * 1024;

/// A shard, read chunk by chunk. A chunk is what one worker takes at a time; in a file, where one
/// ends depends on the file alone, never on how much a read happened to return.
///
/// A pipe gives what is there: chunks end where its writer pauses, and one without bytes comes now
/// and then while there is nothing to read.
pub struct Source {
    reader: Reader,
    bytes_read: Arc<AtomicU64>,
    chunk_bytes: usize,
}

enum Reader {
    /// A pipe whose first bytes have not all come yet.
    Unknown { pipe: Counted<Pipe>, first: Vec<u8>, patience: Patience },
    /// Decompressed while it is read, if it is compressed at all.
    Stream(Box<dyn Read + Send>, Option<Patience>),
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
        Source::of(File::open(path)?, path, chunk_bytes)
    }

    /// The same, and what passes of the file, as it is on the disk, is added to a digest.
    pub(crate) fn digested(
        path: &Path,
        chunk_bytes: usize,
        digest: InputDigest,
    ) -> io::Result<Source> {
        Source::new(File::open(path)?, path, chunk_bytes, Some(digest))
    }

    /// The same for what is open already, from where it is; `path` is what it is called.
    pub fn of(file: File, path: &Path, chunk_bytes: usize) -> io::Result<Source> {
        Source::new(file, path, chunk_bytes, None)
    }

    fn new(
        file: File,
        path: &Path,
        chunk_bytes: usize,
        digest: Option<InputDigest>,
    ) -> io::Result<Source> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes_read);
        let is_file = file.metadata()?.is_file();
        let reader = if is_file {
            let file = Counted { file, bytes_read: counter, digest };
            let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
            match format::of_first_bytes(path, file.fill_buf()?)? {
                Format::Lines(Compression::Zstandard) => {
                    Reader::Frames(Frames { file, ahead: Vec::new() })
                }
                format => Reader::Stream(decoded(format, file)?, None),
            }
        } else {
            let patience = Patience::default();
            let file = Pipe::new(file, patience.clone());
            let pipe = Counted { file, bytes_read: counter, digest };
            Reader::Unknown { pipe, first: Vec::new(), patience }
        };
        Ok(Source { reader, bytes_read, chunk_bytes })
    }

    /// A counter of the bytes read from the file so far, before decompression.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_read)
    }

    /// Replaces `buffer` by the next chunk. `None` at the end of the file.
    pub fn next_chunk(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Chunk>> {
        if let Reader::Unknown { pipe, first, patience } = &mut self.reader {
            patience.wait();
            if !is_known(pipe, first)? {
                buffer.clear();
                return Ok(Some(Chunk::Bytes));
            }
            let format = format::of_first_bytes(Path::new(""), first)?;
            if format == Format::Parquet {
                let message = "it is Parquet, which cannot be read from a pipe";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            let patience = patience.clone();
            let Reader::Unknown { pipe, first, .. } =
                std::mem::replace(&mut self.reader, Reader::Stream(Box::new(io::empty()), None))
            else {
                unreachable!("it was one above")
            };
            let rest = BufReader::with_capacity(BUFFER_BYTES, pipe);
            let whole = io::Cursor::new(first).chain(rest);
            self.reader = Reader::Stream(decoded(format, whole)?, Some(patience));
        }
        if let Reader::Frames(frames) = &mut self.reader {
            if let Some(size) = frames.take(self.chunk_bytes, buffer)? {
                return Ok(Some(Chunk::Frames(size)));
            }
            if frames.ahead.is_empty() {
                return Ok(None);
            }
            // The next frame is large, or does not say how large; so may be all that follow.
            self.reader = Reader::Stream(unframed(frames.rest()?)?, None);
        }
        match &mut self.reader {
            Reader::Stream(reader, None) => {
                let filled = fill(reader, buffer, self.chunk_bytes)?;
                buffer.truncate(filled);
                Ok((filled > 0).then_some(Chunk::Bytes))
            }
            Reader::Stream(reader, Some(patience)) => {
                patience.wait();
                buffer.resize(self.chunk_bytes.min(LEAST_BYTES), 0);
                let mut filled = 0;
                let mut began = None;
                let is_end = loop {
                    match reader.read(&mut buffer[filled..]) {
                        Ok(0) => break true,
                        Ok(count) => filled += count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                    let waits = began.get_or_insert_with(Instant::now).elapsed();
                    if filled == self.chunk_bytes || waits > LONGEST_WAIT {
                        break false;
                    }
                    if filled == buffer.len() {
                        buffer.resize(self.chunk_bytes.min(2 * filled), 0);
                    }
                    patience.hurry();
                };
                buffer.truncate(filled);
                Ok((filled > 0 || !is_end).then_some(Chunk::Bytes))
            }
            _ => unreachable!("it was made a stream above"),
        }
    }
}

/// Buffers grow from this: neither a row of a slow pipe nor a small file shall cost the clearing of
/// a large one. For files with one row that was half of the engine's time.
const LEAST_BYTES: usize = 64 * 1024;

/// A row that was read waits for others no longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Reads so many bytes, or to the end. What is in the buffer is overwritten, not cleared: zeroing it
/// again took 2 % of the time.
fn fill(reader: &mut dyn Read, buffer: &mut Vec<u8>, chunk_bytes: usize) -> io::Result<usize> {
    let mut filled = 0;
    buffer.truncate(chunk_bytes);
    while filled < chunk_bytes {
        if filled == buffer.len() {
            buffer.resize(chunk_bytes.min(LEAST_BYTES.max(2 * filled)), 0);
        }
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads what has come of a pipe. Is it enough to tell what it is? Text tells at its first byte or
/// at its first line feed, gzip and zstandard at their first bytes.
fn is_known(pipe: &mut impl Read, first: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; format::FIRST_BYTES];
    match pipe.read(&mut buffer) {
        Ok(0) => return Ok(true),
        Ok(count) => first.extend_from_slice(&buffer[..count]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    let is_text = matches!(first.first(), Some(b'{' | b' ' | b'\t' | b'\r' | b'\n'));
    let has_line = first.len() >= 16 && first.contains(&b'\n');
    let is_packed =
        first.starts_with(&[0x1F, 0x8B]) || first.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]);
    Ok(is_text || is_packed || has_line || first.len() >= format::FIRST_BYTES)
}

/// What the lines of a reader are.
fn decoded(
    format: Format,
    reader: impl BufRead + Send + 'static,
) -> io::Result<Box<dyn Read + Send>> {
    match format {
        Format::Lines(Compression::Gzip) => Ok(Box::new(Members::new(reader))),
        Format::Lines(Compression::Zstandard) => unframed(reader),
        // Large reads go past the buffer, straight into the chunk.
        Format::Lines(Compression::None) => Ok(Box::new(reader)),
        Format::Parquet => {
            let message = "it is Parquet, which has no lines";
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// The content of all frames.
fn unframed(reader: impl BufRead + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    // Files made with `zstd --long=31` are common in public corpora.
    decoder.window_log_max(31)?;
    Ok(Box::new(decoder))
}

/// Finds out where zstandard frames end, which needs no decompression.
struct Frames {
    file: BufReader<Counted<File>>,
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
            digest: counted.digest.clone(),
        };
        let ahead = [std::mem::take(&mut self.ahead), self.file.buffer().to_vec()].concat();
        Ok(io::Cursor::new(ahead).chain(BufReader::with_capacity(BUFFER_BYTES, file)))
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

struct Counted<R> {
    file: R,
    bytes_read: Arc<AtomicU64>,
    digest: Option<InputDigest>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(digest) = &self.digest {
            digest.update(&buffer[..count]);
        }
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
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
    fn the_name_does_not_matter() {
        for name in ["a", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.zip"] {
            for bytes in [TEXT.to_vec(), gzip(TEXT), zstandard(TEXT), sized(TEXT)] {
                assert_eq!(read(name, &bytes).unwrap(), TEXT);
            }
        }
        assert!(read("a.jsonl.gz", b"").is_err());
        assert!(read("a.jsonl", b"BZh91AY&SYrest").is_err());
    }

    #[test]
    fn zeros_after_a_member_are_padding_and_nothing_else_is() {
        let member = gzip(TEXT);
        let twice = [TEXT, TEXT].concat();
        for zeros in [0, 1, 511, 200_000] {
            let padded = [&member[..], &vec![0; zeros]].concat();
            assert_eq!(read("a.gz", &padded).unwrap(), TEXT);
            assert_eq!(read("a.gz", &padded.repeat(2)).unwrap(), twice);
            for junk in [&b"junkjunk"[..], b"\n", b"{}\n", &zstandard(TEXT)] {
                let error = read("a.gz", &[&padded, junk].concat()).unwrap_err().to_string();
                let place = format!("the bytes from {} on", padded.len());
                assert!(error.starts_with(&place), "{error}");
            }
            for cut in 1..member.len() {
                let error = read("a.gz", &[&padded, &member[..cut]].concat()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}: {error}");
            }
        }
    }

    /// All chunks of a pipe into which each of these is written when the one before has come out.
    fn read_slowly(parts: &[Vec<u8>], content: &[&[u8]], chunk_bytes: usize) {
        let (reader, mut writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let mut source = Source::of(file, Path::new("-"), chunk_bytes).unwrap();
        let mut buffer = Vec::new();
        for (part, content) in parts.iter().zip(content) {
            writer.write_all(part).unwrap();
            let mut found = Vec::new();
            while found.len() < content.len() {
                source.next_chunk(&mut buffer).unwrap().unwrap();
                found.extend_from_slice(&buffer);
            }
            assert_eq!(found, *content);
        }
        assert!(source.next_chunk(&mut buffer).unwrap().is_some(), "nothing came, and no end");
        assert!(buffer.is_empty());
        drop(writer);
        assert!(source.next_chunk(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_pipe_gives_what_has_come() {
        let contents = [TEXT, b"{}\n", TEXT];
        for chunk_bytes in [1, 10, 1 << 20] {
            read_slowly(&contents.map(<[u8]>::to_vec), &contents, chunk_bytes);
            read_slowly(&contents.map(gzip), &contents, chunk_bytes);
            read_slowly(&contents.map(zstandard), &contents, chunk_bytes);
        }
        // What has come of a row, or of a member, whose end has not.
        let [one, two] = [gzip(TEXT), gzip(b"{}\n")];
        let parts = [[&one[..], &two[..5]].concat(), two[5..].to_vec()];
        read_slowly(&parts, &[TEXT, b"{}\n"], 1 << 20);
    }

    #[test]
    fn a_pipe_of_another_format_is_refused() {
        for bytes in [b"PAR1\x15\0".repeat(99), b"BZh91AY&SY".to_vec(), b"\xFF\xFEx\0".to_vec()] {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(&bytes).unwrap();
            drop(writer);
            let file = File::from(std::os::fd::OwnedFd::from(reader));
            let mut source = Source::of(file, Path::new("-"), 100).unwrap();
            let mut buffer = Vec::new();
            let error = loop {
                if let Err(error) = source.next_chunk(&mut buffer) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
