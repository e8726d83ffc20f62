//! Small numbers as Parquet has them: levels, and the indices of a dictionary. Runs of one number and
//! groups of eight packed ones follow one another, as the writer liked it.

/// The numbers of such bytes. It ends early where the bytes do.
pub struct Numbers<'a> {
    bytes: &'a [u8],
    width: usize,
    /// How many numbers are left in this run, and what they are.
    left: u64,
    run: Run<'a>,
}

enum Run<'a> {
    Same(u32),
    Packed { bytes: &'a [u8], bit: usize },
}

impl<'a> Numbers<'a> {
    /// Of numbers that have at most so many bits: not more than 32.
    pub fn new(bytes: &'a [u8], width: usize) -> Numbers<'a> {
        Numbers { bytes, width, left: 0, run: Run::Same(0) }
    }

    fn start(&mut self) -> Option<()> {
        let mut header = 0u64;
        for shift in (0..35).step_by(7) {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            header |= u64::from(byte & 0x7F) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        let is_packed = header & 1 == 1;
        let length = if is_packed { self.width as u64 * (header >> 1) } else { self.bytes_each() };
        // The last group is cut short by some writers.
        let length = usize::try_from(length).ok().filter(|_| !is_packed || self.width > 0);
        let length = length.map_or(0, |length| length.min(self.bytes.len()));
        let (bytes, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        if is_packed {
            self.left = (header >> 1) * 8;
            self.run = Run::Packed { bytes, bit: 0 };
        } else {
            self.left = header >> 1;
            (length as u64 == self.bytes_each()).then_some(())?;
            self.run = Run::Same((little(bytes) & self.mask()) as u32);
        }
        Some(())
    }

    fn mask(&self) -> u64 {
        (1 << self.width) - 1
    }

    fn bytes_each(&self) -> u64 {
        self.width.div_ceil(8) as u64
    }
}

impl Iterator for Numbers<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            self.start()?;
        }
        self.left -= 1;
        let mask = self.mask();
        match &mut self.run {
            Run::Same(number) => Some(*number),
            Run::Packed { bytes, bit } => {
                let from = *bit / 8;
                let shift = *bit % 8;
                *bit += self.width;
                if bit.div_ceil(8) > bytes.len() {
                    return None;
                }
                let word = match bytes.get(from..from + 8) {
                    Some(word) => little(word),
                    None => little(&bytes[from..]),
                };
                Some((word >> shift & mask) as u32)
            }
        }
    }
}

/// The first bytes, at most eight, as a number.
fn little(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// How many bits the numbers up to this one need.
pub fn width(largest: u32) -> usize {
    (u32::BITS - largest.leading_zeros()) as usize
}

/// Appends these numbers of so many bits.
pub fn encode(numbers: &[u32], width: usize, output: &mut Vec<u8>) {
    // What waits to be packed, up to here.
    let mut waiting = 0;
    let mut at = 0;
    while at < numbers.len() {
        let same = numbers[at..].iter().take_while(|number| **number == numbers[at]).count();
        // Packed groups are whole, so some of the run may have to go with them.
        let fill = (waiting..at).len().next_multiple_of(8) - (at - waiting);
        if same >= 8 + fill {
            pack(&numbers[waiting..at + fill], width, output);
            write_header(((same - fill) as u64) << 1, output);
            output.extend_from_slice(&numbers[at].to_le_bytes()[..width.div_ceil(8)]);
            waiting = at + same;
        }
        at += same;
    }
    pack(&numbers[waiting..], width, output);
}

fn pack(numbers: &[u32], width: usize, output: &mut Vec<u8>) {
    if numbers.is_empty() {
        return;
    }
    let groups = numbers.len().div_ceil(8);
    write_header((groups as u64) << 1 | 1, output);
    let end = output.len() + groups * width;
    let (mut word, mut bits) = (0u64, 0);
    for number in numbers {
        word |= u64::from(*number) << bits;
        bits += width;
        while bits >= 8 {
            output.push(word as u8);
            word >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        output.push(word as u8);
    }
    output.resize(end, 0);
}

fn write_header(mut header: u64, output: &mut Vec<u8>) {
    while header >= 0x80 {
        output.push(header as u8 | 0x80);
        header >>= 7;
    }
    output.push(header as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            runs in proptest::collection::vec((any::<u32>(), 1..40usize), 0..30),
            width in 0..=32usize,
        ) {
            let fit = |number: u32| (u64::from(number) & ((1 << width) - 1)) as u32;
            let numbers: Vec<_> = runs
                .iter()
                .flat_map(|(number, count)| std::iter::repeat_n(fit(*number), *count))
                .collect();
            let mut bytes = Vec::new();
            encode(&numbers, width, &mut bytes);
            let back: Vec<_> = Numbers::new(&bytes, width).take(numbers.len()).collect();
            prop_assert_eq!(back, numbers);
        }

        #[test]
        fn any_bytes_are_some_numbers(bytes in any::<Vec<u8>>(), width in 0..=32usize) {
            for number in Numbers::new(&bytes, width).take(1000) {
                prop_assert!(u64::from(number) < 1 << width);
            }
        }
    }

    #[test]
    fn numbers_of_the_specification() {
        // "the numbers 1 through 7 using bit width 3" of the format's documents, and a run.
        let bytes = [3, 0x88, 0xC6, 0xFA, 20, 5];
        let numbers: Vec<_> = Numbers::new(&bytes, 3).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
        assert_eq!([0, 1, 2, 255, 256].map(width), [0, 1, 2, 8, 9]);
    }
}
