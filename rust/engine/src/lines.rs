//! Splits a byte stream into lines with a bounded amount of memory.
//!
//! One buffer is filled by large reads and handed out line by line, without copying. It grows only
//! when a single line does not fit, and never beyond `max_line_bytes`: what is longer is streamed
//! past, and reported with its beginning only. A line keeps every byte that it had in the stream
//! (byte-order mark, `\r`, `\n`), because a kept row must be written back exactly as it was read.

use std::io::{self, Read};

/// How many bytes one read asks for. 256 KiB stay in the L2 cache between splitting and matching.
const READ_BYTES: usize = 256 * 1024;

/// How many bytes of a line that is too long are remembered.
pub const HEAD_BYTES: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One line of the stream, terminator included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line that fits in the buffer.
    Whole {
        /// Every byte of the line: byte-order mark, content, terminator.
        raw: &'a [u8],
        /// The part of `raw` that can hold a record: no byte-order mark, no `\n`, no `\r\n`.
        content: &'a [u8],
    },
    /// A line with more than `max_line_bytes` of content.
    TooLong {
        /// The first [`HEAD_BYTES`] or `max_line_bytes` bytes of its content, whichever is less.
        head: &'a [u8],
        /// The length of the line in bytes, terminator included.
        length: u64,
    },
}

impl Line<'_> {
    /// The length of the line in the stream, terminator included.
    pub fn length(&self) -> u64 {
        match self {
            Line::Whole { raw, .. } => raw.len() as u64,
            Line::TooLong { length, .. } => *length,
        }
    }
}

/// A lending iterator over the lines of a reader.
///
/// Invariants:
///
/// * `0 <= start <= searched <= end <= buffer.len()`;
/// * `buffer[start..end]` has been read and not yet handed out;
/// * `buffer[start..searched]` contains no `\n`.
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
    end: usize,
    at_file_start: bool,
    at_file_end: bool,
    max_line_bytes: usize,
    head: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads lines with at most `max_line_bytes` bytes of content (the terminator not counted).
    pub fn new(reader: R, max_line_bytes: usize) -> Lines<R> {
        Lines::with_read_bytes(reader, max_line_bytes, READ_BYTES)
    }

    fn with_read_bytes(reader: R, max_line_bytes: usize, read_bytes: usize) -> Lines<R> {
        Lines {
            reader,
            buffer: vec![0; read_bytes],
            start: 0,
            searched: 0,
            end: 0,
            at_file_start: true,
            at_file_end: false,
            max_line_bytes,
            head: Vec::new(),
        }
    }

    /// The next line, or `None` at the end of the stream.
    ///
    /// A stream that does not end in `\n` has a last line without a terminator. An error of the
    /// reader is final: what was read of an unfinished line is not handed out.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        // The content may be followed by `\r\n`, and preceded by a byte-order mark.
        let longest_raw = self.max_line_bytes.saturating_add(BYTE_ORDER_MARK.len() + 2);
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) {
                let line_end = self.searched + at + 1;
                return Ok(Some(self.hand_out(line_end)));
            }
            self.searched = self.end;
            if self.end - self.start > longest_raw {
                return self.stream_past().map(Some);
            }
            if !self.fill()? {
                if self.start == self.end {
                    return Ok(None);
                }
                return Ok(Some(self.hand_out(self.end)));
            }
        }
    }

    /// Hands out `buffer[start..line_end]` as one line.
    fn hand_out(&mut self, line_end: usize) -> Line<'_> {
        let raw = self.start..line_end;
        self.start = line_end;
        self.searched = line_end;
        let raw = &self.buffer[raw];
        let mut content = raw.strip_suffix(b"\n").unwrap_or(raw);
        content = content.strip_suffix(b"\r").unwrap_or(content);
        if self.at_file_start {
            self.at_file_start = false;
            content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
        }
        if content.len() > self.max_line_bytes {
            let head = &content[..HEAD_BYTES.min(self.max_line_bytes)];
            return Line::TooLong { head, length: raw.len() as u64 };
        }
        Line::Whole { raw, content }
    }

    /// Reads on to the end of a line that is longer than the buffer may become.
    fn stream_past(&mut self) -> io::Result<Line<'_>> {
        let mut seen = &self.buffer[self.start..self.end];
        let mut length = seen.len() as u64;
        if self.at_file_start {
            self.at_file_start = false;
            seen = seen.strip_prefix(BYTE_ORDER_MARK).unwrap_or(seen);
        }
        self.head.clear();
        self.head.extend_from_slice(&seen[..HEAD_BYTES.min(self.max_line_bytes)]);
        loop {
            self.start = 0;
            self.searched = 0;
            self.end = 0;
            if !self.fill()? {
                break;
            }
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[..self.end]) {
                length += at as u64 + 1;
                self.start = at + 1;
                self.searched = at + 1;
                break;
            }
            length += self.end as u64;
        }
        Ok(Line::TooLong { head: &self.head, length })
    }

    /// Reads once into the free end of the buffer, making room first. `false` at the end of file.
    fn fill(&mut self) -> io::Result<bool> {
        if self.at_file_end {
            return Ok(false);
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_file_end = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hands out at most `step` bytes a read, as a pipe or a decompressor may.
    struct Trickle<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(buffer.len()).min(self.bytes.len());
            buffer[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    #[derive(Debug, PartialEq)]
    enum Owned {
        Whole(Vec<u8>, Vec<u8>),
        TooLong(Vec<u8>, u64),
    }

    fn read(bytes: &[u8], max_line_bytes: usize, step: usize, read_bytes: usize) -> Vec<Owned> {
        let mut lines = Lines::with_read_bytes(Trickle { bytes, step }, max_line_bytes, read_bytes);
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            all.push(match line {
                Line::Whole { raw, content } => Owned::Whole(raw.to_vec(), content.to_vec()),
                Line::TooLong { head, length } => Owned::TooLong(head.to_vec(), length),
            });
        }
        all
    }

    /// The obvious reader: all bytes at once.
    fn reference(bytes: &[u8], max_line_bytes: usize) -> Vec<Owned> {
        let mut all = Vec::new();
        for (index, raw) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let mut content = raw.strip_suffix(b"\n").unwrap_or(raw);
            content = content.strip_suffix(b"\r").unwrap_or(content);
            if index == 0 {
                content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
            }
            all.push(if content.len() > max_line_bytes {
                Owned::TooLong(content[..max_line_bytes].to_vec(), raw.len() as u64)
            } else {
                Owned::Whole(raw.to_vec(), content.to_vec())
            });
        }
        all
    }

    #[test]
    fn keeps_terminators_and_strips_content() {
        let lines = read(b"\xEF\xBB\xBFa\r\n\n\r\nlast", 100, 3, 4);
        assert_eq!(
            lines,
            [
                Owned::Whole(b"\xEF\xBB\xBFa\r\n".to_vec(), b"a".to_vec()),
                Owned::Whole(b"\n".to_vec(), b"".to_vec()),
                Owned::Whole(b"\r\n".to_vec(), b"".to_vec()),
                Owned::Whole(b"last".to_vec(), b"last".to_vec()),
            ]
        );
    }

    #[test]
    fn memory_is_bounded_by_the_limit() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::with_read_bytes(&bytes[..], 1000, 64);
        let length = match lines.next_line().unwrap() {
            Some(Line::TooLong { head, length }) => {
                assert_eq!(head.len(), 1000);
                length
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(length, (1 << 20) + 1);
        assert!(lines.buffer.len() <= 2048, "buffer of {} bytes", lines.buffer.len());
        let Some(Line::Whole { content, .. }) = lines.next_line().unwrap() else { panic!() };
        assert_eq!(content, b"next");
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_reader(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["a", "bc", "\n", "\r", "\r\n", "\u{feff}", "0123456789"]),
                0..40,
            ),
            max_line_bytes in 1usize..30,
            step in 1usize..20,
            read_bytes in 1usize..20,
        ) {
            let bytes = pieces.concat().into_bytes();
            let found = read(&bytes, max_line_bytes, step, read_bytes);
            prop_assert_eq!(found, reference(&bytes, max_line_bytes));
        }
    }
}
