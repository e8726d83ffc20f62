//! sha256 of files while their bytes pass, so that nothing is read once more to name it.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sha2::digest::Digest as _;
use sha2::digest::common::hazmat::SerializableState;

use crate::threads::lock;

const BUFFER_BYTES: usize = 256 << 10;

/// The digest of the bytes that have passed so far.
#[derive(Clone)]
pub(crate) struct Digest {
    /// `None` if nobody asks for it: it takes as long as most rules.
    hash: Option<Sha256>,
    length: u64,
}

/// A digest on its way, as another process can go on with it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct DigestState {
    length: u64,
    /// The state of sha256, in hexadecimal digits.
    hash: Option<String>,
}

impl Digest {
    /// Of nothing so far. Bytes are only counted if it is not wanted.
    pub fn new(is_wanted: bool) -> Digest {
        Digest { hash: is_wanted.then(Sha256::new), length: 0 }
    }

    /// Of nothing so far, wanted if this one is.
    pub fn anew(&self) -> Digest {
        Digest::new(self.hash.is_some())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.length += bytes.len() as u64;
    }

    /// Adds what comes next in a file, up to the byte at `end`.
    pub fn read(&mut self, file: &File, end: u64) -> io::Result<()> {
        if self.hash.is_none() {
            return Ok(());
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.length < end {
            let next = buffer.len().min((end - self.length) as usize);
            file.read_exact_at(&mut buffer[..next], self.length)?;
            self.update(&buffer[..next]);
        }
        Ok(())
    }

    /// How many bytes have passed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of these, in hexadecimal digits; nothing if it is not wanted.
    pub fn sha256(&self) -> String {
        self.hash.clone().map_or_else(String::new, |hash| hexadecimal(&hash.finalize()))
    }

    pub fn state(&self) -> DigestState {
        let hash = self.hash.as_ref().map(|hash| hexadecimal(&hash.serialize()));
        DigestState { length: self.length, hash }
    }

    /// Goes on from a state.
    pub fn of(state: &DigestState) -> io::Result<Digest> {
        let resume = |digits: &str| {
            let pairs = digits.as_bytes().chunks(2);
            let bytes: Option<Vec<u8>> =
                pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect();
            Sha256::deserialize(bytes?.as_slice().try_into().ok()?).ok()
        };
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is no state of sha256");
        let hash = match &state.hash {
            Some(digits) => Some(resume(digits).ok_or_else(invalid)?),
            None => None,
        };
        Ok(Digest { hash, length: state.length })
    }
}

/// Two digits a byte, as `sha256sum` prints them.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "{byte:02x}");
        all
    })
}

/// How a file began when an earlier run read it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Beginning {
    length: u64,
    sha256: String,
}

impl Beginning {
    /// Was its digest wanted?
    pub fn is_digested(&self) -> bool {
        !self.sha256.is_empty()
    }
}

/// The digest of an input, for whoever reads it and for whoever wants to know.
#[derive(Clone)]
pub(crate) struct InputDigest(Arc<Mutex<Reading>>);

struct Reading {
    digest: Digest,
    before: Beginning,
    /// Was all of that read, and was it the same?
    begins: Option<bool>,
}

impl InputDigest {
    /// `before` is how the input should begin.
    pub fn new(is_wanted: bool, before: Beginning) -> InputDigest {
        let digest = Digest::new(is_wanted);
        InputDigest(Arc::new(Mutex::new(Reading {
            digest,
            begins: (before.length == 0).then_some(true),
            before,
        })))
    }

    pub fn update(&self, mut bytes: &[u8]) {
        let Reading { digest, before, begins } = &mut *lock(&self.0);
        let missing = before.length.saturating_sub(digest.length()) as usize;
        if missing > 0 && missing <= bytes.len() {
            let (first, rest) = bytes.split_at(missing);
            digest.update(first);
            *begins = Some(digest.sha256() == before.sha256);
            bytes = rest;
        }
        digest.update(bytes);
    }

    /// What has been read so far.
    pub fn beginning(&self) -> Beginning {
        let digest = &lock(&self.0).digest;
        Beginning { length: digest.length(), sha256: digest.sha256() }
    }

    /// Does the input begin as it should? `None` as long as too little of it was read.
    pub fn begins(&self) -> Option<bool> {
        lock(&self.0).begins
    }

    /// sha256 of the whole input, which has been read.
    pub fn sha256(&self) -> String {
        lock(&self.0).digest.sha256()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> String {
        let mut digest = Digest::new(true);
        digest.update(bytes);
        digest.sha256()
    }

    #[test]
    fn it_is_what_sha256sum_prints() {
        assert_eq!(of(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(Digest::of(&DigestState { length: 3, hash: Some("no state".to_owned()) }).is_err());
    }

    proptest! {
        #[test]
        fn it_goes_on_from_any_place(bytes: Vec<u8>, cut: usize, length in 0..300usize) {
            let bytes = bytes.repeat(length / bytes.len().max(1) + 1);
            let (first, rest) = bytes.split_at(cut % (bytes.len() + 1));
            let mut digest = Digest::new(true);
            digest.update(first);
            let state = serde_json::to_string(&digest.state()).unwrap();
            let mut digest = Digest::of(&serde_json::from_str(&state).unwrap()).unwrap();
            digest.update(rest);
            prop_assert_eq!((digest.length(), digest.sha256()), (bytes.len() as u64, of(&bytes)));
        }

        #[test]
        fn another_beginning_is_noticed(
            bytes in prop::collection::vec(any::<u8>(), 1..200),
            known: usize,
            step in 1usize..50,
            change in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let known = known % (bytes.len() + 1);
            let before = InputDigest::new(true, Beginning::default());
            before.update(&bytes[..known]);
            let mut now = bytes.clone();
            if let Some(at) = change {
                now[at.index(bytes.len())] ^= 1;
            }
            let input = InputDigest::new(true, before.beginning());
            now.chunks(step).for_each(|part| input.update(part));
            let is_same = bytes[..known] == now[..known];
            prop_assert_eq!(input.begins(), Some(is_same));
            prop_assert_eq!(input.sha256(), of(&now));
            let short = InputDigest::new(true, before.beginning());
            short.update(&bytes[..known / 2]);
            prop_assert_eq!(short.begins().is_none(), known > 0);
        }
    }
}
