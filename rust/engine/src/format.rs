//! Which format a file has. Its first bytes say so, whatever its name is; this is the one place
//! that knows. What is not read here is refused by its name: taken for lines, every row of it would
//! be rejected, and nobody would know why.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How lines are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstandard.
    Zstandard,
}

impl Compression {
    /// What the name of a file says: `.gz`, `.zst` or `.zstd`, in any case. Outputs are compressed
    /// as their names say.
    pub fn of(path: &Path) -> Compression {
        if ends(path, &["gz"]) {
            Compression::Gzip
        } else if ends(path, &["zst", "zstd"]) {
            Compression::Zstandard
        } else {
            Compression::None
        }
    }
}

/// How hard outputs are compressed: the default of the zstandard library.
pub(crate) const ZSTANDARD_LEVEL: i32 = 3;

/// What the rows of a file are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON lines.
    Lines(Compression),
    /// Parquet.
    Parquet,
}

impl Format {
    /// The name of an output must fit the format of its rows. Says what is wrong if it does not.
    pub(crate) fn check_name(self, path: &Path) -> Result<(), String> {
        match (self, is_named_parquet(path)) {
            (Format::Parquet, false) => Err(format!("{} must end in .parquet too", path.display())),
            (Format::Lines(_), true) => {
                Err(format!("it is not Parquet, so {} cannot be", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// A format that is not read.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}")]
pub struct Foreign(&'static str);

/// So many of its first bytes tell what a file is.
pub const FIRST_BYTES: usize = 512;

/// At their place from the start of a file. None of them begins JSON text, but what is not at the
/// very start may be in the middle of a row.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"ARROW1\0\0", "an Arrow file"),
    (0, b"\xFF\xFF\xFF\xFF", "an Arrow stream"),
    (0, b"FEA1", "a Feather file"),
    (0, b"Obj\x01", "Avro data"),
    (0, b"\x04\x22\x4D\x18", "lz4 data"),
    (0, b"\x02\x21\x4C\x18", "lz4 data"),
    (0, b"\xFD7zXZ\0", "xz data"),
    (4, b"1AY&SY", "bzip2 data"),
    (0, b"BZh1\x17\x72\x45\x38\x50\x90", "bzip2 data"),
    (0, b"BZh9\x17\x72\x45\x38\x50\x90", "bzip2 data"),
    (0, b"\x1F\x9D", "compress (.Z) data"),
    (0, b"LZIP\x01", "lzip data"),
    (0, b"\x89LZO\0\r\n\x1A\n", "lzop data"),
    (0, b"\xFF\x06\0\0sNaPpY", "snappy data"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "a zip archive"),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
    (0, b"Rar!\x1A\x07", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89HDF\r\n\x1A\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"<!DOCTYPE html", "an HTML page"),
    (0, b"<!doctype html", "an HTML page"),
    (0, b"<html", "an HTML page"),
    (0, b"<?xml", "XML"),
    (0, b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, not the file itself"),
    (0, b"/annex/objects/", "a pointer of git-annex, not the file itself"),
    (0, b"\xFF\xFE", "UTF-16 text, not UTF-8"),
    (0, b"\xFE\xFF", "UTF-16 text, not UTF-8"),
    // Not less: a first row may be damaged, and is one row then.
    (0, b"{\0\"\0", "UTF-16 text, not UTF-8"),
    (0, b"{\0 \0", "UTF-16 text, not UTF-8"),
    (0, b"\0{\0", "UTF-16 text, not UTF-8"),
    (0, b"{\0\0\0", "UTF-32 text, not UTF-8"),
    (0, b"\0\0\xFE\xFF", "UTF-32 text, not UTF-8"),
    (0, b"\0\0\0{", "UTF-32 text, not UTF-8"),
];

/// The format of the file at `path`.
pub fn of_file(path: &Path) -> io::Result<Format> {
    let mut first = Vec::new();
    File::open(path)?.take(FIRST_BYTES as u64).read_to_end(&mut first)?;
    of_first_bytes(path, &first)
}

/// The format of a file of this name that begins with these bytes, all of them or
/// [`FIRST_BYTES`] at least.
pub fn of_first_bytes(path: &Path, first: &[u8]) -> io::Result<Format> {
    let format = match first {
        [0x1F, 0x8B, ..] => Format::Lines(Compression::Gzip),
        // Or one that a decoder skips.
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
            Format::Lines(Compression::Zstandard)
        }
        // The second where the footer is encrypted.
        [b'P', b'A', b'R', b'1' | b'E', ..] => Format::Parquet,
        _ => {
            refuse_foreign(first)?;
            // A file that is cut or damaged where its format stands shall not pass for rows.
            match (begins_as_rows(first), Compression::of(path)) {
                (false, Compression::Gzip) => return Err(foreign("no gzip data, but named *.gz")),
                (false, Compression::Zstandard) => {
                    return Err(foreign("no zstandard data, but named *.zst"));
                }
                (false, Compression::None) if is_named_parquet(path) => Format::Parquet,
                _ => Format::Lines(Compression::None),
            }
        }
    };
    if let Format::Lines(compression) = format {
        refuse_packed(compression, first)?;
    }
    Ok(format)
}

/// Does a name say that a file is Parquet?
fn is_named_parquet(path: &Path) -> bool {
    ends(path, &["parquet"])
}

/// Could it be JSON lines? White space and a byte-order mark may come before the first object.
fn begins_as_rows(first: &[u8]) -> bool {
    let text = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first);
    text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) == Some(&b'{')
}

fn refuse_foreign(first: &[u8]) -> io::Result<()> {
    let is_rows = begins_as_rows(first);
    for (at, magic, name) in FOREIGN {
        if *at > 0 && is_rows {
            continue;
        }
        if first.get(*at..).is_some_and(|rest| rest.starts_with(magic)) {
            return Err(foreign(name));
        }
    }
    Ok(())
}

/// An archive of files, or Parquet, may be compressed once more.
fn refuse_packed(compression: Compression, first: &[u8]) -> io::Result<()> {
    let mut content = Vec::new();
    let limit = FIRST_BYTES as u64;
    // Whoever reads the file will say what is wrong with it.
    let _ = match compression {
        Compression::None => return Ok(()),
        Compression::Gzip => {
            flate2::bufread::GzDecoder::new(first).take(limit).read_to_end(&mut content)
        }
        Compression::Zstandard => zstd::stream::read::Decoder::with_buffer(first)
            .and_then(|decoder| decoder.take(limit).read_to_end(&mut content)),
    };
    if content.starts_with(b"PAR1") {
        return Err(foreign("Parquet that was compressed as a whole"));
    }
    refuse_foreign(&content)
}

fn foreign(name: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Foreign(name))
}

fn ends(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension
        .is_some_and(|extension| extensions.iter().any(|each| extension.eq_ignore_ascii_case(each)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, first: &[u8]) -> Result<Format, String> {
        of_first_bytes(Path::new(name), first).map_err(|error| error.to_string())
    }

    #[test]
    fn first_bytes_say_what_a_file_is_and_names_do_not() {
        let zstandard = zstd::bulk::compress(b"{}\n", 3).unwrap();
        for name in ["a", "a.jsonl", "A.JSONL.GZ", "a.zst", "a.parquet", "a.bz2", "a.json"] {
            assert_eq!(of(name, b"{\"a\":1}\n"), Ok(Format::Lines(Compression::None)));
            assert_eq!(of(name, b"\xEF\xBB\xBF\r\n {"), Ok(Format::Lines(Compression::None)));
            assert_eq!(of(name, b"\x1F\x8B\x08"), Ok(Format::Lines(Compression::Gzip)));
            assert_eq!(of(name, &zstandard), Ok(Format::Lines(Compression::Zstandard)));
            assert_eq!(of(name, b"PAR1\x15\0"), Ok(Format::Parquet));
            for (at, magic, what) in FOREIGN {
                let first = [&vec![b'x'; *at], *magic, b"rest"].concat();
                assert_eq!(of(name, &first), Err(format!("it is {what}")));
                let packed = zstd::bulk::compress(&first, 3).unwrap();
                assert_eq!(of(name, &packed), Err(format!("it is {what}")));
            }
        }
    }

    #[test]
    fn what_is_in_a_row_says_nothing_of_the_file() {
        for (at, magic, _) in FOREIGN.iter().filter(|(at, ..)| *at > 0) {
            for start in ["{\"", "\u{FEFF}{", "\n\t {"] {
                let pad = "m".repeat(*at - start.len().min(*at));
                let first = [start[..].as_bytes(), pad.as_bytes(), *magic, b"\": 1}\n"].concat();
                assert!(first[*at..].starts_with(magic));
                assert_eq!(of("a", &first), Ok(Format::Lines(Compression::None)));
                let packed = zstd::bulk::compress(&first, 3).unwrap();
                assert_eq!(of("a", &packed), Ok(Format::Lines(Compression::Zstandard)));
            }
        }
    }

    #[test]
    fn what_is_no_row_at_once_is_what_its_name_says() {
        for first in [&b""[..], b"\x1F", b"not json\n"] {
            assert_eq!(of("a.jsonl", first), Ok(Format::Lines(Compression::None)));
            assert_eq!(of("a.PARQUET", first), Ok(Format::Parquet));
            assert_eq!(of("a.gz", first), Err("it is no gzip data, but named *.gz".to_owned()));
            assert!(of("a.zstd", first).is_err());
        }
    }
}
