//! A pipe as a source of rows: its writer may be slow, or wait for what becomes of its last row.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a read waits for something to come, before it says that there is nothing: often enough
/// for whoever wants to stop.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long it waits for more to come to what is there. A busy writer needs a few microseconds.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// Whether rows wait to be worked on while more is read.
#[derive(Clone, Default)]
pub(crate) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// None do: there is time.
    pub fn wait(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Some do.
    pub fn hurry(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Its reads fail with [`io::ErrorKind::WouldBlock`] where nothing comes.
pub(crate) struct Pipe {
    file: File,
    patience: Patience,
}

impl Pipe {
    pub fn new(file: File, patience: Patience) -> Pipe {
        Pipe { file, patience }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = if self.patience.0.load(Ordering::Relaxed) { &TICK } else { &PAUSE };
        let mut asked = [PollFd::new(&self.file, PollFlags::IN)];
        match poll(&mut asked, Some(timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(_) => self.file.read(buffer),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes all of it. Whoever made the pipe may have said that it shall not block, for itself: then
/// this waits until it has room again.
pub(crate) fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Does nobody read what is written to this any more?
pub(crate) fn is_abandoned(file: &File) -> bool {
    let mut asked = [PollFd::new(file, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}
