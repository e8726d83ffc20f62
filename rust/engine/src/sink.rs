//! Writes a file that is either absent or complete: in a folder of its own, then synced and moved to
//! its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::digest::Digest;
use crate::error::Error;

/// A file in the making. Dropped before [`Sink::finish`], it stays where it was made: the next run
/// continues it or starts it again.
pub struct Sink {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
    digest: Digest,
}

impl Sink {
    /// Starts the file that will be at `path`, whose digest nobody wants, in the folder `making`, which
    /// is made if need be.
    ///
    /// Inputs and outputs are called whatever their owner likes, so no name beside them is safe:
    /// `making` must be a folder where nothing else is put. It is on the file system of `path`.
    pub fn create(path: &Path, making: &Path) -> io::Result<Sink> {
        Sink::open(path, making, Digest::new(false))
    }

    /// Continues the file after the bytes that this digest is of; a new digest starts it.
    pub fn open(path: &Path, making: &Path, digest: Digest) -> io::Result<Sink> {
        let length = digest.length();
        let temporary = temporary(path, making);
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&temporary);
        let mut file = open().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => fs::create_dir_all(making).and_then(|()| open()),
            _ => Err(error),
        })?;
        if file.metadata()?.len() < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the unfinished file is shorter than it was",
            ));
        }
        file.set_len(length)?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Sink { file, path: path.to_owned(), temporary, digest })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes in the file so far.
    pub fn length(&self) -> u64 {
        self.digest.length()
    }

    /// Of what was written so far.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns when all that was written is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Makes the file appear under its name, with everything that was written on the disk. Returns its
    /// sha256, if it was wanted.
    ///
    /// The name is on the disk when its folder is synced. That is left to who needs it, once for all
    /// files: it would double the time of a shard with few rows.
    pub fn finish(self) -> io::Result<String> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        Ok(self.digest.sha256())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digest.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a file is while it is made: it has its name already.
pub fn temporary(path: &Path, making: &Path) -> PathBuf {
    making.join(path.file_name().unwrap_or_default())
}

/// A folder of a name that nothing has, removed when it is dropped.
pub(crate) fn folder_beside(path: &Path) -> Result<TempDir, Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".subl-")
        .tempdir_in(parent.unwrap_or(Path::new(".")))
        .map_err(Error::write(path))
}

/// What a shard needs while it is filtered, in a folder in which nothing else is put: one folder for
/// each kind of file, so that only names of one kind meet, and these are all different.
pub(crate) struct Work {
    /// Kept rows and rejects in the making.
    pub kept: PathBuf,
    pub rejects: PathBuf,
    /// How far the shard is, and a folder to write that in.
    pub journal: PathBuf,
    pub making: PathBuf,
    /// Removed with the rest, with what is in them.
    _own: Option<[TempDir; 2]>,
}

impl Work {
    /// In this folder, or in folders of its own beside the outputs that are gone with it.
    pub fn open(kept: &Path, rejects: &Path, folder: Option<&Path>) -> Result<Work, Error> {
        let own = match folder {
            Some(_) => None,
            None => Some([folder_beside(kept)?, folder_beside(rejects)?]),
        };
        let [for_kept, for_rejects] = match (&own, folder) {
            (Some(own), _) => [own[0].path(), own[1].path()],
            (None, folder) => [folder.unwrap_or(Path::new(".")); 2],
        };
        Ok(Work {
            kept: for_kept.join("kept"),
            rejects: for_rejects.join("rejects"),
            journal: for_kept.join("journals").join(kept.file_name().unwrap_or_default()),
            making: for_kept.join("making"),
            _own: own,
        })
    }
}
