//! Compresses pages, with contexts and buffers that are used again.

use std::collections::VecDeque;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};

/// Which buffers of column chunks are used again, and how many.
const SPARE_BYTES: usize = 1 << 20;
const SPARES: usize = 4;

/// What one thread compresses pages with.
pub struct Codecs {
    zstandard: Option<zstd::bulk::Compressor<'static>>,
    snappy: snap::raw::Encoder,
    output: Vec<u8>,
    spare: VecDeque<Vec<u8>>,
}

impl Codecs {
    pub fn new() -> Codecs {
        Codecs {
            zstandard: None,
            snappy: snap::raw::Encoder::new(),
            output: Vec::new(),
            spare: VecDeque::new(),
        }
    }

    /// Other codecs are those of the library.
    pub fn knows(codec: Compression) -> bool {
        use Compression::{SNAPPY, UNCOMPRESSED, ZSTD};
        matches!(codec, UNCOMPRESSED | SNAPPY | ZSTD(_))
    }

    pub fn compress(&mut self, bytes: &[u8], codec: Compression) -> Result<Bytes> {
        let mut output = std::mem::take(&mut self.output);
        match codec {
            Compression::UNCOMPRESSED => {
                output.clear();
                output.extend_from_slice(bytes);
            }
            Compression::SNAPPY => {
                output.resize(snap::raw::max_compress_len(bytes.len()), 0);
                let length = self.snappy.compress(bytes, &mut output);
                output.truncate(length.map_err(|error| ParquetError::External(error.into()))?);
            }
            Compression::ZSTD(level) => {
                let compressor = match &mut self.zstandard {
                    Some(compressor) => compressor,
                    None => self.zstandard.insert(zstd::bulk::Compressor::new(0)?),
                };
                compressor.set_compression_level(level.compression_level())?;
                output.clear();
                output.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
                compressor.compress_to_buffer(bytes, &mut output)?;
            }
            _ => return Err(ParquetError::NYI(format!("compression by {codec}"))),
        }
        Ok(output.into())
    }

    /// A buffer for a column chunk, perhaps one that had another: to ask for the memory of large ones
    /// again and again was a tenth of the time.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop_front().unwrap_or_default()
    }

    /// Takes a column chunk that was written.
    pub fn spare(&mut self, bytes: Bytes) {
        if bytes.len() >= SPARE_BYTES && self.spare.len() < SPARES {
            let mut buffer = Vec::from(bytes);
            buffer.clear();
            self.spare.push_back(buffer);
        }
    }

    /// Takes back what [`Codecs::compress`] returned, for the next one.
    pub fn take_back(&mut self, bytes: Bytes) {
        self.output = bytes.into();
    }
}
