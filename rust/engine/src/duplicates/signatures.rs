//! What the first pass remembers of the rows of one shard, in memory and on disk.
//!
//! Columns, because [`super::cluster`] reads one band of all rows at a time. For exact and
//! normalized a row has 12 bytes: 96 bits of XXH3-128, so that hash and row number fill one
//! 128-bit number when sorted. That two of n different values collide has a probability of about
//! n^2 / 2^97: 6e-10 for 10^10 rows. For minhash a row has 8 bytes a band; a collision of two keys
//! is a false positive, of which n rows have n^2 * bands / 2^65 in all: 0.25 for 10^9 rows in 9
//! bands. XXH3 is no cryptographic hash: who knows it can make values that collide.
//!
//! The key 0 stands for none. A hash of 0 becomes 1.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use twox_hash::XxHash3_64;

use crate::error::Error;
use crate::sink::Sink;

/// The last byte is the version of the format, and of all that [`super::Signer::sign`] does.
const MAGIC: &[u8; 8] = b"subldup\x01";
/// A file that claims longer parameters is corrupt.
const MAX_PARAMETER_BYTES: u64 = 1 << 16;
/// How much is read or written at once; memory grows only by what was really there.
const BUFFER_BYTES: usize = 64 * 1024;

/// The signatures of the rows of one shard, in their order.
///
/// Invariants: all `keys` have the same length; `tails` has that length too, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    parameters: String,
    /// One column a band.
    keys: Vec<Vec<u64>>,
    /// The rest of a 96-bit hash. Empty for minhash.
    tails: Vec<u32>,
    has_tails: bool,
}

impl Signatures {
    pub(super) fn new(parameters: &str, bands: usize, has_tails: bool) -> Signatures {
        let keys = vec![Vec::new(); bands];
        Signatures { parameters: parameters.to_owned(), keys, tails: Vec::new(), has_tails }
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.keys[0].len() as u64
    }

    /// What a row takes in memory and on disk.
    pub fn bytes_per_row(&self) -> u64 {
        self.keys.len() as u64 * 8 + if self.has_tails { 4 } else { 0 }
    }

    /// Appends a row that cannot be read: it repeats nothing, and nothing repeats it.
    pub fn push_none(&mut self) {
        self.keys.iter_mut().for_each(|column| column.push(0));
        if self.has_tails {
            self.tails.push(0);
        }
    }

    /// Moves the rows of the next part of the shard here.
    pub fn append(&mut self, next: &mut Signatures) {
        assert_eq!(self.parameters, next.parameters);
        for (column, next) in self.keys.iter_mut().zip(&mut next.keys) {
            column.append(next);
        }
        self.tails.append(&mut next.tails);
    }

    pub(super) fn push_hash(&mut self, hash: u128) {
        assert!(self.has_tails && self.keys.len() == 1);
        self.keys[0].push(((hash >> 64) as u64).max(1));
        self.tails.push((hash >> 32) as u32);
    }

    pub(super) fn push_keys(&mut self, keys: &[u64]) {
        assert_eq!(keys.len(), self.keys.len());
        for (column, key) in self.keys.iter_mut().zip(keys) {
            column.push((*key).max(1));
        }
    }

    /// Appends a row that can be found by one key only.
    pub(super) fn push_key(&mut self, key: u64) {
        self.keys.iter_mut().for_each(|column| column.push(0));
        *self.keys[0].last_mut().expect("it was just pushed") = key.max(1);
    }

    pub(super) fn parameters(&self) -> &str {
        &self.parameters
    }

    pub(super) fn bands(&self) -> usize {
        self.keys.len()
    }

    /// One column of keys and the rest of the hashes, which may be empty.
    pub(super) fn band(&self, band: usize) -> (&[u64], &[u32]) {
        (&self.keys[band], &self.tails)
    }

    /// Gives back what growing has reserved.
    pub(super) fn shrink(&mut self) {
        self.keys.iter_mut().for_each(Vec::shrink_to_fit);
        self.tails.shrink_to_fit();
    }

    /// Writes a file that is either absent or complete, for [`super::Signer::load`]. It is made in the
    /// folder `making`, in which nothing else is put.
    ///
    /// Little-endian: magic and version (8 bytes), length of the parameters (8), parameters (UTF-8),
    /// rows (8), the columns, XXH3-64 of all that (8).
    pub fn save(&self, path: &Path, making: &Path) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let mut output = Checked::new(Sink::create(path, making)?);
            output.write(MAGIC)?;
            output.write(&(self.parameters.len() as u64).to_le_bytes())?;
            output.write(self.parameters.as_bytes())?;
            output.write(&self.rows().to_le_bytes())?;
            for column in &self.keys {
                output.write_column(column, |key| key.to_le_bytes())?;
            }
            output.write_column(&self.tails, |tail| tail.to_le_bytes())?;
            let checksum = output.hasher.finish();
            output.inner.write_all(&checksum.to_le_bytes())?;
            output.inner.finish().map(drop)
        };
        write().map_err(Error::write(path))
    }

    /// Fills an empty column with what [`Signatures::save`] wrote.
    pub(super) fn load(path: &Path, empty: Signatures) -> Result<Signatures, Error> {
        let read = || Signatures::read(BufReader::new(File::open(path)?), empty);
        read().map_err(Error::read(path))
    }

    fn read(input: impl Read, mut signatures: Signatures) -> io::Result<Signatures> {
        let mut input = Checked::new(input);
        if &input.read::<8>()? != MAGIC {
            return Err(invalid("not a file of signatures, or one of another version"));
        }
        let length = u64::from_le_bytes(input.read()?);
        if length > MAX_PARAMETER_BYTES {
            return Err(invalid("corrupt length of the parameters"));
        }
        let mut parameters = vec![0; length as usize];
        input.fill(&mut parameters)?;
        if parameters != signatures.parameters.as_bytes() {
            let found = String::from_utf8_lossy(&parameters);
            let expected = &signatures.parameters;
            return Err(invalid(&format!("signed with `{found}`, expected `{expected}`")));
        }
        let rows = u64::from_le_bytes(input.read()?);
        for column in &mut signatures.keys {
            input.read_column(column, rows, u64::from_le_bytes)?;
        }
        if signatures.has_tails {
            input.read_column(&mut signatures.tails, rows, u32::from_le_bytes)?;
        }
        let checksum = input.hasher.finish();
        if u64::from_le_bytes(input.read()?) != checksum {
            return Err(invalid("the checksum does not match"));
        }
        if input.inner.read(&mut [0])? != 0 {
            return Err(invalid("there is more after the end"));
        }
        Ok(signatures)
    }
}

/// A reader or writer that hashes what goes through.
struct Checked<T> {
    inner: T,
    hasher: XxHash3_64,
}

impl<T> Checked<T> {
    fn new(inner: T) -> Checked<T> {
        Checked { inner, hasher: XxHash3_64::new() }
    }
}

impl<W: Write> Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.write(bytes);
        self.inner.write_all(bytes)
    }

    fn write_column<T: Copy, const N: usize>(
        &mut self,
        column: &[T],
        to_bytes: impl Fn(T) -> [u8; N],
    ) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        for part in column.chunks(BUFFER_BYTES / N) {
            buffer.clear();
            part.iter().for_each(|&value| buffer.extend_from_slice(&to_bytes(value)));
            self.write(&buffer)?;
        }
        Ok(())
    }
}

impl<R: Read> Checked<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => invalid("truncated"),
            _ => error,
        })?;
        self.hasher.write(bytes);
        Ok(())
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn read_column<T, const N: usize>(
        &mut self,
        column: &mut Vec<T>,
        rows: u64,
        from_bytes: impl Fn([u8; N]) -> T,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = rows;
        while left > 0 {
            let count = left.min((BUFFER_BYTES / N) as u64);
            let bytes = &mut buffer[..count as usize * N];
            self.fill(bytes)?;
            let (values, _) = bytes.as_chunks::<N>();
            column.extend(values.iter().map(|&value| from_bytes(value)));
            left -= count;
        }
        Ok(())
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
