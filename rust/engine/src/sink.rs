//! Writes a shard that is either absent or complete: to a temporary name next to it, then flushed,
//! synced and renamed. Compressed like its name says, with bytes that depend on the data alone.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

use crate::source::Compression;

const BUFFER_BYTES: usize = 256 * 1024;

/// A file in the making. Dropped before [`Sink::finish`], it leaves nothing behind.
pub struct Sink {
    encoder: Option<Encoder>,
    path: PathBuf,
    temporary: PathBuf,
}

enum Encoder {
    Plain(BufWriter<File>),
    Gzip(BufWriter<GzEncoder<File>>),
    Zstandard(BufWriter<zstd::stream::write::Encoder<'static, File>>),
}

impl Sink {
    /// Starts the file that will be at `path`; its directory must exist.
    ///
    /// The temporary name is `path` + `.tmp`, the same in every run, so a run that was killed
    /// leaves at most one of them, and the next run overwrites it.
    pub fn create(path: &Path) -> io::Result<Sink> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary)?;
        let encoder = match Compression::of(path) {
            Compression::None => Encoder::Plain(buffered(file)),
            // No time stamp and no name: the same rows give the same bytes.
            Compression::Gzip => Encoder::Gzip(buffered(
                GzBuilder::new().mtime(0).write(file, flate2::Compression::default()),
            )),
            Compression::Zstandard => {
                let mut encoder = zstd::stream::write::Encoder::new(file, 3)?;
                encoder.include_checksum(true)?;
                Encoder::Zstandard(buffered(encoder))
            }
        };
        Ok(Sink { encoder: Some(encoder), path: path.to_owned(), temporary })
    }

    /// Makes the file appear under its name, with everything that was written on disk.
    pub fn finish(mut self) -> io::Result<()> {
        let file = match self.encoder.take().expect("only finish takes the encoder") {
            Encoder::Plain(writer) => unbuffered(writer)?,
            Encoder::Gzip(writer) => unbuffered(writer)?.finish()?,
            Encoder::Zstandard(writer) => unbuffered(writer)?.finish()?,
        };
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_directory(&self.path)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.encoder.as_mut().expect("only finish takes the encoder") {
            Encoder::Plain(writer) => writer.write(bytes),
            Encoder::Gzip(writer) => writer.write(bytes),
            Encoder::Zstandard(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.encoder.as_mut().expect("only finish takes the encoder") {
            Encoder::Plain(writer) => writer.flush(),
            Encoder::Gzip(writer) => writer.flush(),
            Encoder::Zstandard(writer) => writer.flush(),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // After a successful finish the name is gone and this does nothing. An error cannot be
        // reported from here; the next run overwrites the file.
        if let Some(Encoder::Plain(writer)) = self.encoder.take() {
            // Do not write a buffer that is about to be deleted.
            drop(writer.into_parts());
        }
        let _ = fs::remove_file(&self.temporary);
    }
}

fn buffered<W: Write>(writer: W) -> BufWriter<W> {
    BufWriter::with_capacity(BUFFER_BYTES, writer)
}

fn unbuffered<W: Write>(writer: BufWriter<W>) -> io::Result<W> {
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// A rename is durable once the directory that holds the name is synced.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::source::Source;

    #[test]
    fn what_is_written_can_be_read_and_has_the_same_bytes_each_time() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let mut bytes = Vec::new();
            for _ in 0..2 {
                let path = directory.path().join(name);
                let mut sink = Sink::create(&path).unwrap();
                for number in 0..50_000 {
                    writeln!(sink, "{{\"completion\": \"{number}\"}}").unwrap();
                }
                sink.finish().unwrap();
                bytes.push(fs::read(&path).unwrap());
                let mut text = String::new();
                Source::open(&path).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text.lines().count(), 50_000);
                assert!(text.ends_with("\"49999\"}\n"));
            }
            assert_eq!(bytes[0], bytes[1], "{name}");
        }
    }

    #[test]
    fn an_unfinished_sink_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let mut sink = Sink::create(&directory.path().join(name)).unwrap();
            sink.write_all(b"something").unwrap();
            drop(sink);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_compressed_file_is_a_valid_stream() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let path = directory.path().join(name);
            Sink::create(&path).unwrap().finish().unwrap();
            let mut text = String::new();
            Source::open(&path).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "");
        }
    }
}
