//! Escapes in strings, found 64 bytes at a time.
//!
//! Rows of code, chats and reasoning have an escape every thirty bytes, and rows in other scripts
//! are nothing else where Python's `json.dumps` wrote them. So what is right with nearly all of them
//! is seen without a look at any: an [`super::index::Index`] knows where escapes begin, and whether one
//! could be wrong.

/// Which of 64 bytes may follow a backslash, one bit each.
#[derive(Clone, Copy, Default)]
pub struct Letters {
    /// One of `"\/bfnrtu`.
    pub any: u64,
    /// `u`.
    pub u: u64,
}

/// Which of 64 bytes may follow `\u`, one bit each.
#[derive(Clone, Copy, Default)]
pub struct Digits {
    /// A hexadecimal digit.
    pub any: u64,
    /// One of 8 to F.
    pub high: u64,
    /// D.
    pub d: u64,
    /// 0, 1, 2 and 7.
    pub zero: u64,
    pub one: u64,
    pub two: u64,
    pub seven: u64,
}

impl Letters {
    /// Of a byte, each 0 or 1.
    pub fn of(byte: u8) -> Letters {
        let any = matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u');
        Letters { any: u64::from(any), u: u64::from(byte == b'u') }
    }
}

impl Digits {
    /// Of a byte, each 0 or 1.
    pub fn of(byte: u8) -> Digits {
        let any = byte.is_ascii_hexdigit();
        Digits {
            any: u64::from(any),
            high: u64::from(any && byte > b'7'),
            d: u64::from(matches!(byte, b'd' | b'D')),
            zero: u64::from(byte == b'0'),
            one: u64::from(byte == b'1'),
            two: u64::from(byte == b'2'),
            seven: u64::from(byte == b'7'),
        }
    }
}

/// The escapes that begin or end in 64 bytes.
#[derive(Clone, Copy, Default)]
pub struct Escapes {
    /// Where they begin: their backslashes.
    pub starts: u64,
    /// What follows these backslashes.
    pub escaped: u64,
    /// All that belongs to them but the backslashes.
    pub inside: u64,
    /// Where one must be looked at: it is wrong, half of a surrogate pair, or stands for a
    /// character that could be ASCII, or a case variant of one.
    pub unsure: u64,
}

/// What escapes that have begun expect of the bytes to come; the lowest bit is the next byte's.
#[derive(Default)]
pub struct Pending {
    escaped: u64,
    digits: u64,
    /// Where the digit is that comes first, after 0, 2, D, 00, 01 and 21.
    after: [u64; 7],
}

impl Pending {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.escaped | self.digits == 0
    }

    /// Finds the escapes of the next 64 bytes. Most have no `\u`, and nobody asks for digits.
    #[inline(always)]
    pub fn find(
        &mut self,
        backslashes: u64,
        letters: impl FnOnce() -> Letters,
        digits: impl FnOnce() -> Digits,
    ) -> Escapes {
        let letters = letters();
        let escaped = self.escaped(backslashes);
        let mut found = Escapes {
            starts: backslashes & !escaped,
            escaped,
            inside: escaped,
            unsure: escaped & !letters.any,
        };
        let u = escaped & letters.u;
        if u | self.digits != 0 {
            self.find_codes(u, digits(), &mut found);
        }
        found
    }

    #[inline(always)]
    fn find_codes(&mut self, u: u64, of: Digits, found: &mut Escapes) {
        let digits = self.digits | u << 1 | u << 2 | u << 3 | u << 4;
        self.digits = u >> 63 | u >> 62 | u >> 61 | u >> 60;
        let mut next = |at: usize, marks: u64| {
            let after = self.after[at] | marks << 1;
            self.after[at] = marks >> 63;
            after
        };
        let first = next(0, u);
        let after_zero = next(1, first & of.zero);
        let after_two = next(2, first & of.two);
        // D8 to DF is half of a surrogate pair, 0000 to 007F are ASCII, and in 0170 to 017F and 2120
        // to 212F are `ſ` and the Kelvin sign.
        let suspects = (next(3, first & of.d) & of.high)
            | (next(4, after_zero & of.zero) & of.any & !of.high)
            | (next(5, after_zero & of.one) & of.seven)
            | (next(6, after_two & of.one) & of.two);
        found.inside |= digits;
        found.unsure |= (digits & !of.any) | suspects;
    }

    /// What follows a backslash that is not escaped itself: of each run of backslashes every second
    /// one, and what comes after it if their number is odd. The addition carries through each run
    /// that begins at an odd place (Langdale and Lemire 2019).
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        const EVEN: u64 = u64::MAX / 3;
        let backslashes = backslashes & !self.escaped;
        let follows = backslashes << 1 | self.escaped;
        let odd_runs = backslashes & !EVEN & !follows;
        let (carried, is_over) = odd_runs.overflowing_add(backslashes);
        self.escaped = u64::from(is_over);
        (EVEN ^ carried << 1) & follows
    }
}
