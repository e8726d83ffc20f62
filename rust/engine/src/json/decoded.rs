//! Strings with escapes, replaced by what they say.

use super::index::Index;

/// The value of four hexadecimal digits, if they are.
#[inline(always)]
pub fn unit(digits: [u8; 4]) -> Option<u32> {
    digits.iter().all(u8::is_ascii_hexdigit).then(|| checked_unit(digits))
}

/// The value of four hexadecimal digits. The low four bits of a letter are its value less 9.
#[inline(always)]
fn checked_unit(digits: [u8; 4]) -> u32 {
    let digits = u32::from_be_bytes(digits);
    let values = (digits & 0x0F0F_0F0F) + 9 * (digits >> 6 & 0x0101_0101);
    let pairs = values | values >> 4;
    (pairs >> 8 & 0xFF00) | (pairs & 0xFF)
}

/// Text of strings with escapes, in a buffer that is never cleared: what is behind `length` is room.
#[derive(Default)]
pub struct Decoded {
    bytes: Vec<u8>,
    length: usize,
}

/// How much is copied where less may be needed: most runs between escapes are shorter.
const COPY: usize = 32;

impl Decoded {
    pub fn clear(&mut self) {
        self.length = 0;
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Appends what the string `block[start..end]` says, which was checked. Is it ASCII?
    pub fn append(&mut self, block: &[u8], index: &Index, start: usize, end: usize) -> bool {
        // No text is longer than its escaped form; the rest is for copying more than is needed.
        let room = self.length + (end - start) + COPY;
        if self.bytes.len() < room {
            self.bytes.resize(room.next_power_of_two(), 0);
        }
        let (mut from, mut to) = (start, self.length);
        let mut is_ascii = index.is_ascii(start, end);
        while let Some(at) = index.next_escape(from, end) {
            to = self.copy(block, from, at, to);
            let kind = block[at + 1];
            if kind != b'u' {
                self.bytes[to] = simple(kind);
                to += 1;
                from = at + 2;
                continue;
            }
            from = at;
            // Where there is one there are many.
            while let [b'\\', b'u', a, b, c, d, rest @ ..] = &block[from..end] {
                let mut code = checked_unit([*a, *b, *c, *d]);
                from += 6;
                if let (0xD800..0xDC00, [b'\\', b'u', a, b, c, d, ..]) = (code, rest) {
                    let low = checked_unit([*a, *b, *c, *d]);
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    from += 6;
                }
                is_ascii &= code < 0x80;
                to = self.push(code, to);
            }
        }
        self.length = self.copy(block, from, end, to);
        is_ascii
    }

    #[inline(always)]
    fn copy(&mut self, block: &[u8], from: usize, until: usize, to: usize) -> usize {
        let length = until - from;
        match (block.get(from..from + COPY), self.bytes.get_mut(to..to + COPY)) {
            (Some(source), Some(target)) if length <= COPY => target.copy_from_slice(source),
            _ => self.bytes[to..to + length].copy_from_slice(&block[from..until]),
        }
        to + length
    }

    /// In UTF-8.
    #[inline(always)]
    fn push(&mut self, code: u32, to: usize) -> usize {
        let low = |shift: u32| 0x80 | (code >> shift & 0x3F) as u8;
        let (bytes, length) = match code {
            0..0x80 => ([code as u8, 0, 0, 0], 1),
            0x80..0x800 => ([0xC0 | (code >> 6) as u8, low(0), 0, 0], 2),
            0x800..0x1_0000 => ([0xE0 | (code >> 12) as u8, low(6), low(0), 0], 3),
            _ => ([0xF0 | (code >> 18) as u8, low(12), low(6), low(0)], 4),
        };
        self.bytes[to..to + 4].copy_from_slice(&bytes);
        to + length
    }
}

#[inline(always)]
fn simple(kind: u8) -> u8 {
    match kind {
        b'b' => 8,
        b'f' => 0xC,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        // `"`, `\` and `/` stand for themselves.
        other => other,
    }
}
