//! Numbers for things that are compared often: comparing two is comparing integers.

use std::hash::{BuildHasher, RandomState};

/// Numbers for things, in the order in which they are first seen. It holds no things, only numbers:
/// the caller compares. There are fewer than 2³² words in a value, or it would have 8 GiB.
pub struct Table {
    slots: Vec<u32>,
    /// Of this run of the program: no text knows it.
    seed: [u64; 2],
}

const FREE: u32 = u32::MAX;

impl Default for Table {
    fn default() -> Table {
        let random = RandomState::new();
        Table { slots: Vec::new(), seed: [random.hash_one(0), random.hash_one(1) | 1] }
    }
}

impl Table {
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let (chunks, rest) = bytes.as_chunks();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let hash = |hash: u64, chunk: &[u8; 8]| self.hash_number(hash ^ u64::from_le_bytes(*chunk));
        hash(chunks.iter().fold(bytes.len() as u64, hash), &last)
    }

    /// Both halves of a product: every bit of the number tells in every bit of the hash.
    pub fn hash_number(&self, number: u64) -> u64 {
        let product = u128::from(number ^ self.seed[0]) * u128::from(self.seed[1]);
        product as u64 ^ (product >> 64) as u64
    }

    /// Forgets everything and makes room, so that at least half of it stays free.
    pub fn reset(&mut self, entries: usize) {
        self.slots.clear();
        self.slots.resize((2 * entries).next_power_of_two(), FREE);
    }

    /// The number of something that has this hash and is the same, or else `next`, which it then is.
    pub fn number(&mut self, hash: u64, next: usize, same: impl Fn(usize) -> bool) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            match self.slots[at] {
                FREE => {
                    self.slots[at] = next as u32;
                    return next as u32;
                }
                number if same(number as usize) => return number,
                _ => at = (at + 1) & mask,
            }
        }
    }
}
