//! gzip: members one after another, as one stream of bytes.
//!
//! Zero bytes after a member are padding, as tapes and some archives have it, and ignored. Anything
//! else that is no member is an error that says where it stands: it may be rows.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The content of all members.
pub(crate) struct Members<R> {
    /// Always there, except while one becomes the other.
    state: Option<State<R>>,
}

enum State<R> {
    /// At the end of a member, or at the start of the file.
    Between(Counted<R>),
    Inside(Box<GzDecoder<Counted<R>>>),
}

impl<R: BufRead> Members<R> {
    /// `reader` is at the start of the first member.
    pub fn new(reader: R) -> Members<R> {
        let inside = GzDecoder::new(Counted { reader, position: 0 });
        Members { state: Some(State::Inside(Box::new(inside))) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state.as_mut().expect("it is put back below") {
                State::Inside(member) => {
                    let count = member.read(buffer)?;
                    if count > 0 {
                        return Ok(count);
                    }
                    if let Some(State::Inside(member)) = self.state.take() {
                        self.state = Some(State::Between(member.into_inner()));
                    }
                }
                State::Between(reader) => {
                    if !reader.skip_padding()? {
                        return Ok(0);
                    }
                    if let Some(State::Between(reader)) = self.state.take() {
                        self.state = Some(State::Inside(Box::new(GzDecoder::new(reader))));
                    }
                }
            }
        }
    }
}

/// Knows how far it is.
struct Counted<R> {
    reader: R,
    position: u64,
}

impl<R: BufRead> Counted<R> {
    /// Goes to the next member. False at the end of the file.
    fn skip_padding(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.fill_buf()?;
            let length = buffer.len();
            match buffer.iter().position(|&byte| byte != 0) {
                None if length == 0 => return Ok(false),
                None => self.consume(length),
                Some(at) => {
                    let is_member = buffer[at] == 0x1F;
                    self.consume(at);
                    if is_member {
                        return Ok(true);
                    }
                    let message = format!(
                        "the bytes from {} on, after a gzip member, are neither another one nor \
                         zeros",
                        self.position
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.position += count as u64;
    }
}
