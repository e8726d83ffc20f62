//! Threads that work on one shard together: what they make of its chunks is taken in order, and what
//! stops one of them stops all. They end with the call, so a fork finds none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// The threads that work on one shard.
#[derive(Default)]
pub(crate) struct Team {
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Team {
    /// Runs `work` in so many threads. The first error, or a panic, stops the others; `wake` wakes
    /// those that wait for their turn.
    pub fn run(
        &self,
        threads: usize,
        work: impl Fn() -> Result<(), Error> + Sync,
        wake: impl Fn() + Sync,
    ) -> Result<(), Error> {
        let member = || {
            let stop = Stop(self, &wake);
            match work() {
                Ok(()) => std::mem::forget(stop),
                Err(error) => self.fail(error),
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(member);
            }
            member();
        });
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    fn fail(&self, error: Error) {
        let mut failure = lock(&self.failure);
        // Those that were stopped have nothing to say.
        if failure.is_none() || matches!(*failure, Some(Error::Interrupted)) {
            *failure = Some(error);
        }
    }

    /// Was the work stopped by another thread?
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Fails if it was.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Stops the others, also when this thread panics.
struct Stop<'a, W: Fn()>(&'a Team, &'a W);

impl<W: Fn()> Drop for Stop<'_, W> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
        (self.1)();
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

    /// Waits until all chunks before this one have passed, or the team was stopped.
    pub fn wait(&self, chunk: u64, team: &Team) -> Result<MutexGuard<'_, (u64, T)>, Error> {
        let mut state = lock(&self.state);
        loop {
            team.check()?;
            if state.0 == chunk {
                return Ok(state);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the next chunk have it.
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
