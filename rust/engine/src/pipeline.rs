//! Lets several threads work on one shard, and keeps what they make in order.
//!
//! A worker takes the next chunk of the file, decompresses it if that is left to do, exchanges the
//! unfinished lines at its ends with its neighbours, works on the whole lines, and hands in its
//! result when its turn comes. There is no queue and no pool: a worker holds one chunk, so memory
//! is bounded by the number of workers; threads end with the call, so a fork finds none.
//!
//! Three things are taken in turns, each in the order of the file: reading, joining lines (short),
//! and handing in.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::source::{Decompressor, Source};

/// How much one worker takes at a time, uncompressed.
pub const CHUNK_BYTES: usize = 4 << 20;

/// How much of it is looked at together: index and lines stay in the second cache. Measured on
/// number rows: 64 KiB to 1 MiB are equal within 5 %, and 4 MiB is hardly slower.
const WINDOW_BYTES: usize = 256 << 10;

/// How many bytes of a line that is too long are remembered.
pub const HEAD_BYTES: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whole lines of a shard, in the order of the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The position of its chunk, from 0.
    pub chunk: u64,
    /// The number of its first line, from 0.
    pub first_line: u64,
    /// A line with more than `max_line_bytes` that was streamed past.
    pub too_long: Option<TooLong>,
    /// A line that began in a chunk before, or nothing.
    pub joined: Vec<u8>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Block {
    /// The lines that lie in this chunk alone.
    pub fn lines(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// All lines that were kept in memory, in order, in parts of some whole lines each.
    pub fn windows(&self) -> impl Iterator<Item = &[u8]> {
        [self.joined.as_slice(), self.lines()].into_iter().flat_map(|mut rest| {
            std::iter::from_fn(move || {
                let (window, after) = rest.split_at(window(rest));
                rest = after;
                (!window.is_empty()).then_some(window)
            })
        })
    }
}

/// The length of the next lines to look at together: whole lines, at least one if there is any.
fn window(rest: &[u8]) -> usize {
    if rest.len() <= WINDOW_BYTES {
        return rest.len();
    }
    match memchr::memrchr(b'\n', &rest[..WINDOW_BYTES]) {
        Some(at) => at + 1,
        None => memchr::memchr(b'\n', &rest[WINDOW_BYTES..])
            .map_or(rest.len(), |at| WINDOW_BYTES + at + 1),
    }
}

/// A line that was not kept in memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TooLong {
    /// Its first [`HEAD_BYTES`] bytes.
    pub head: Vec<u8>,
    /// Its length in bytes, terminator included.
    pub length: u64,
}

/// The bytes of a line that a JSON object can be in: no line feed, no `\r\n`; the byte-order mark
/// at the start of a file does not belong to them either.
pub fn content(line: &[u8], is_first_of_file: bool) -> (usize, usize) {
    let mut content = line.strip_suffix(b"\n").unwrap_or(line);
    content = content.strip_suffix(b"\r").unwrap_or(content);
    let mark = if is_first_of_file && content.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 };
    (mark, content.len())
}

/// What one chunk leaves to the next.
#[derive(Default)]
struct Carry {
    /// The beginning of a line; it contains no line feed.
    tail: Vec<u8>,
    /// The line that is being streamed past, instead of `tail`.
    too_long: Option<TooLong>,
    next_line: u64,
}

impl Carry {
    /// Makes a block of a chunk with `line_feeds` line feeds.
    fn split(&mut self, chunk: u64, bytes: Vec<u8>, line_feeds: u64, longest: usize) -> Block {
        let mut block = Block { chunk, first_line: self.next_line, bytes, ..Block::default() };
        self.next_line += line_feeds;
        let first = memchr::memchr(b'\n', &block.bytes);
        if let Some(too_long) = &mut self.too_long {
            block.start = first.map_or(block.bytes.len(), |at| at + 1);
            too_long.length += block.start as u64;
            if first.is_none() {
                block.end = block.start;
                return block;
            }
            block.too_long = self.too_long.take();
        } else if !self.tail.is_empty() || first.is_none() {
            block.start = first.map_or(block.bytes.len(), |at| at + 1);
            self.tail.extend_from_slice(&block.bytes[..block.start]);
            let is_long = self.tail.len() > longest;
            let too_long = || TooLong {
                head: self.tail[..HEAD_BYTES.min(self.tail.len())].to_vec(),
                length: self.tail.len() as u64,
            };
            match (first, is_long) {
                (Some(_), true) => block.too_long = Some(too_long()),
                (Some(_), false) => block.joined = std::mem::take(&mut self.tail),
                (None, true) => self.too_long = Some(too_long()),
                (None, false) => {}
            }
            if is_long {
                self.tail = Vec::new();
            }
            if first.is_none() {
                block.end = block.start;
                return block;
            }
        }
        let last = memchr::memrchr(b'\n', &block.bytes[block.start..]);
        block.end = last.map_or(block.start, |at| block.start + at + 1);
        self.tail.clear();
        self.tail.extend_from_slice(&block.bytes[block.end..]);
        block
    }

    /// The last line, which has no line feed.
    fn finish(&mut self, chunk: u64) -> Option<Block> {
        if self.tail.is_empty() && self.too_long.is_none() {
            return None;
        }
        Some(Block {
            chunk,
            first_line: self.next_line,
            too_long: self.too_long.take(),
            joined: std::mem::take(&mut self.tail),
            ..Block::default()
        })
    }
}

/// Something that one thread at a time may use, in the order of the chunks.
pub(crate) struct InOrder<T> {
    state: Mutex<(u64, T)>,
    changed: Condvar,
}

impl<T> InOrder<T> {
    pub fn new(value: T) -> InOrder<T> {
        InOrder { state: Mutex::new((0, value)), changed: Condvar::new() }
    }

    /// Waits until all chunks before this one have passed. `None` if the work was stopped.
    pub fn wait(&self, chunk: u64, stopped: &AtomicBool) -> Option<MutexGuard<'_, (u64, T)>> {
        let mut state = lock(&self.state);
        loop {
            if stopped.load(Ordering::Relaxed) {
                return None;
            }
            if state.0 == chunk {
                return Some(state);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn pass(&self, mut state: MutexGuard<'_, (u64, T)>) {
        state.0 += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// What all of them left.
    pub fn into_inner(self) -> T {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Wakes whoever waits, so that it sees that the work was stopped.
    pub fn wake(&self) {
        drop(lock(&self.state));
        self.changed.notify_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked stops the others; the panic comes out of the scope.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The turn of one chunk to hand in its results.
pub struct Turn<'a, T> {
    order: &'a InOrder<T>,
    stopped: &'a AtomicBool,
    chunk: u64,
    state: Option<MutexGuard<'a, (u64, T)>>,
}

impl<T> Turn<'_, T> {
    /// Waits for the turn, and keeps it from then on.
    pub fn wait(&mut self) -> Result<&mut T, Error> {
        if self.state.is_none() {
            self.state = self.order.wait(self.chunk, self.stopped);
        }
        self.state.as_mut().map(|state| &mut state.1).ok_or(Error::Interrupted)
    }

    /// Was the work stopped by another thread?
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What one thread does with its blocks, and what they hand in to.
pub trait Worker<T> {
    /// Works on one block. What must be in order happens after [`Turn::wait`].
    fn work(&mut self, block: &Block, turn: &mut Turn<'_, T>) -> Result<(), Error>;
}

struct Shared<'a, T> {
    path: &'a Path,
    /// The source, the position of its next chunk, and whether it is at its end.
    source: Mutex<(Source, u64, bool)>,
    carry: InOrder<Carry>,
    results: InOrder<T>,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    longest: usize,
}

/// Runs one worker a thread over all blocks of a shard, and returns what they handed in to.
///
/// `make` is called once a thread. The first error stops all of them.
pub fn run<T: Send, W: Worker<T>>(
    path: &Path,
    source: Source,
    max_line_bytes: usize,
    threads: usize,
    results: T,
    make: impl Fn() -> W + Sync,
) -> Result<T, Error> {
    let shared = Shared {
        path,
        source: Mutex::new((source, 0, false)),
        carry: InOrder::new(Carry::default()),
        results: InOrder::new(results),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
        longest: max_line_bytes.saturating_add(BYTE_ORDER_MARK.len() + 2),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| shared.guard(&mut make()));
        }
        shared.guard(&mut make());
    });
    match lock(&shared.failure).take() {
        Some(error) => Err(error),
        None => Ok(shared.results.into_inner()),
    }
}

impl<T> Shared<'_, T> {
    fn guard<W: Worker<T>>(&self, worker: &mut W) {
        /// Stops the others, also when this thread panics.
        struct Stop<'a, 'b, T>(&'a Shared<'b, T>, bool);
        impl<T> Drop for Stop<'_, '_, T> {
            fn drop(&mut self) {
                if self.1 {
                    self.0.stopped.store(true, Ordering::Relaxed);
                    self.0.carry.wake();
                    self.0.results.wake();
                }
            }
        }
        let mut stop = Stop(self, true);
        match self.loop_over_chunks(worker) {
            Ok(()) => stop.1 = false,
            Err(error) => {
                let mut failure = lock(&self.failure);
                // Those that were stopped have nothing to say.
                if failure.is_none() || matches!(*failure, Some(Error::Interrupted)) {
                    *failure = Some(error);
                }
            }
        }
    }

    fn loop_over_chunks<W: Worker<T>>(&self, worker: &mut W) -> Result<(), Error> {
        let mut decompressor = Decompressor::default();
        let (mut buffer, mut spare) = (Vec::new(), Vec::new());
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let mut source = lock(&self.source);
            if source.2 {
                return Ok(());
            }
            let chunk = source.0.next_chunk(&mut buffer).map_err(Error::read(self.path))?;
            let position = source.1;
            source.1 += 1;
            source.2 = chunk.is_none();
            drop(source);
            let mut line_feeds = 0;
            if let Some(chunk) = &chunk {
                decompressor
                    .decompress(chunk, &mut buffer, &mut spare)
                    .map_err(Error::read(self.path))?;
                line_feeds = memchr::memchr_iter(b'\n', &buffer).count() as u64;
            }
            let Some(mut carry) = self.carry.wait(position, &self.stopped) else {
                return Err(Error::Interrupted);
            };
            let block = if chunk.is_some() {
                let bytes = std::mem::take(&mut buffer);
                Some(carry.1.split(position, bytes, line_feeds, self.longest))
            } else {
                carry.1.finish(position)
            };
            self.carry.pass(carry);
            let mut turn =
                Turn { order: &self.results, stopped: &self.stopped, chunk: position, state: None };
            if let Some(mut block) = block {
                worker.work(&block, &mut turn)?;
                buffer = std::mem::take(&mut block.bytes);
            }
            turn.wait()?;
            self.results.pass(turn.state.expect("the turn has come"));
        }
    }
}

/// The line with this number, from 0, with its terminator. `None` if the file has fewer lines.
pub fn read_line(path: &Path, number: u64) -> Result<Option<Vec<u8>>, Error> {
    let mut source = Source::open(path, CHUNK_BYTES).map_err(Error::read(path))?;
    let mut decompressor = Decompressor::default();
    let (mut buffer, mut spare, mut line) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = number;
    while let Some(chunk) = source.next_chunk(&mut buffer).map_err(Error::read(path))? {
        decompressor.decompress(&chunk, &mut buffer, &mut spare).map_err(Error::read(path))?;
        let mut rest = buffer.as_slice();
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (found, after) = rest.split_at(at + 1);
            if before == 0 {
                line.extend_from_slice(found);
                return Ok(Some(line));
            }
            before -= 1;
            rest = after;
        }
        if before == 0 {
            line.extend_from_slice(rest);
        }
    }
    Ok((!line.is_empty()).then_some(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Line {
        Whole(Vec<u8>),
        TooLong(Vec<u8>, u64),
    }

    struct Collect;

    impl Worker<Vec<(u64, Line)>> for Collect {
        fn work(
            &mut self,
            block: &Block,
            turn: &mut Turn<'_, Vec<(u64, Line)>>,
        ) -> Result<(), Error> {
            let mut number = block.first_line;
            let mut lines = Vec::new();
            if let Some(too_long) = &block.too_long {
                lines.push((number, Line::TooLong(too_long.head.clone(), too_long.length)));
                number += 1;
            }
            for part in [&block.joined, block.lines()] {
                for line in part.split_inclusive(|&byte| byte == b'\n') {
                    lines.push((number, Line::Whole(line.to_vec())));
                    number += 1;
                }
            }
            turn.wait()?.extend(lines);
            Ok(())
        }
    }

    fn read(
        bytes: &[u8],
        chunk_bytes: usize,
        max_line_bytes: usize,
        threads: usize,
    ) -> Vec<(u64, Line)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let source = Source::open(file.path(), chunk_bytes).unwrap();
        run(file.path(), source, max_line_bytes, threads, Vec::new(), || Collect).unwrap()
    }

    #[test]
    fn a_line_feed_ends_a_line_and_nothing_else_does() {
        let lines = read(b"a\r\n\n\r\nlast", 2, 100, 1);
        let whole = |bytes: &[u8]| Line::Whole(bytes.to_vec());
        assert_eq!(
            lines,
            [(0, whole(b"a\r\n")), (1, whole(b"\n")), (2, whole(b"\r\n")), (3, whole(b"last"))]
        );
        assert_eq!(content(b"\xEF\xBB\xBFa\r\n", true), (3, 4));
        assert_eq!(content(b"\xEF\xBB\xBFa\n", false), (0, 4));
        assert_eq!(content(b"\n", true), (0, 0));
    }

    #[test]
    fn a_long_line_is_not_kept_in_memory() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let lines = read(&bytes, 1000, 2000, 2);
        let Line::TooLong(head, length) = &lines[0].1 else { panic!("{:?}", lines[0]) };
        assert_eq!((head.len(), *length), (3000, (1 << 20) + 1));
        assert_eq!(lines[1..], [(1, Line::Whole(b"next\n".to_vec()))]);
    }

    #[test]
    fn one_line_is_found_by_its_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\r\n\nlast").unwrap();
        let line = |number| read_line(file.path(), number).unwrap();
        assert_eq!([line(0), line(1)], [Some(b"a\r\n".to_vec()), Some(b"\n".to_vec())]);
        assert_eq!([line(2), line(3)], [Some(b"last".to_vec()), None]);
        let long = "x".repeat(CHUNK_BYTES + 7) + "\nnext\n";
        std::fs::write(file.path(), &long).unwrap();
        assert_eq!(read_line(file.path(), 0).unwrap().unwrap().len(), CHUNK_BYTES + 8);
        assert_eq!(read_line(file.path(), 1).unwrap().unwrap(), b"next\n");
        assert_eq!(read_line(file.path(), 2).unwrap(), None);
    }

    #[test]
    fn an_error_stops_every_thread() {
        struct Fail;
        impl Worker<()> for Fail {
            fn work(&mut self, block: &Block, turn: &mut Turn<'_, ()>) -> Result<(), Error> {
                turn.wait()?;
                let path = "x".into();
                if block.chunk == 7 { Err(Error::SameFile { path }) } else { Ok(()) }
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "line\n".repeat(100)).unwrap();
        for threads in 1..4 {
            let source = Source::open(file.path(), 5).unwrap();
            let error = run(file.path(), source, 10, threads, (), || Fail).unwrap_err();
            assert!(matches!(error, Error::SameFile { .. }), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_splitting_everything_at_once(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["a", "bc", "\n", "\r", "\r\n", "\u{feff}", "0123456789"]),
                0..40,
            ),
            chunk_bytes in 1usize..30,
            max_line_bytes in 1usize..30,
            threads in 1usize..4,
        ) {
            let bytes = pieces.concat().into_bytes();
            let found = read(&bytes, chunk_bytes, max_line_bytes, threads);
            let expected: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            prop_assert_eq!(found.len(), expected.len());
            for (number, ((at, line), expected)) in found.iter().zip(expected).enumerate() {
                prop_assert_eq!(*at, number as u64);
                match line {
                    Line::Whole(line) => prop_assert_eq!(line, expected),
                    Line::TooLong(head, length) => {
                        prop_assert!(expected.starts_with(head));
                        prop_assert_eq!(*length, expected.len() as u64);
                        prop_assert!(expected.len() > max_line_bytes);
                    }
                }
            }
        }
    }
}
