//! Lets several threads work on one shard, and keeps what they make in order.
//!
//! A worker takes the next chunk of the file, decompresses it if that is left to do, exchanges the
//! unfinished lines at its ends with its neighbours, works on the whole lines, and hands in its
//! result when its turn comes. There is no queue and no pool: a worker holds one chunk, so memory
//! is bounded by the number of workers.
//!
//! Three things are taken in turns, each in the order of the file: reading, joining lines (short),
//! and handing in.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::block::{BYTE_ORDER_MARK, Block, Carry};
use super::source::{Decompressor, Source};
use crate::error::Error;
use crate::threads::{InOrder, Team, lock};

/// The turn of one chunk to hand in its results.
pub struct Turn<'a, T> {
    order: &'a InOrder<T>,
    team: &'a Team,
    chunk: u64,
    state: Option<MutexGuard<'a, (u64, T)>>,
}

impl<T> Turn<'_, T> {
    /// Waits for the turn, and keeps it from then on.
    pub fn wait(&mut self) -> Result<&mut T, Error> {
        if self.state.is_none() {
            self.state = Some(self.order.wait(self.chunk, self.team)?);
        }
        Ok(&mut self.state.as_mut().expect("it has come").1)
    }

    /// Was the work stopped by another thread?
    pub fn is_stopped(&self) -> bool {
        self.team.is_stopped()
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
    team: Team,
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
        team: Team::default(),
        longest: max_line_bytes.saturating_add(BYTE_ORDER_MARK.len() + 2),
    };
    let work = || shared.loop_over_chunks(&mut make());
    let wake = || {
        shared.carry.wake();
        shared.results.wake();
    };
    shared.team.run(threads, work, wake)?;
    Ok(shared.results.into_inner())
}

impl<T> Shared<'_, T> {
    fn loop_over_chunks<W: Worker<T>>(&self, worker: &mut W) -> Result<(), Error> {
        let mut decompressor = Decompressor::default();
        let (mut buffer, mut spare) = (Vec::new(), Vec::new());
        loop {
            self.team.check()?;
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
            let mut carry = self.carry.wait(position, &self.team)?;
            let block = if chunk.is_some() {
                let bytes = std::mem::take(&mut buffer);
                Some(carry.1.split(position, bytes, line_feeds, self.longest))
            } else {
                carry.1.finish(position)
            };
            self.carry.pass(carry);
            let mut turn =
                Turn { order: &self.results, team: &self.team, chunk: position, state: None };
            if let Some(mut block) = block {
                worker.work(&block, &mut turn)?;
                buffer = std::mem::take(&mut block.bytes);
            }
            turn.wait()?;
            self.results.pass(turn.state.expect("the turn has come"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::block::content;
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
