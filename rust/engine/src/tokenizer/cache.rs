//! The tokens of pieces that a thread has met, in bounded memory and without allocating.
//!
//! Two tables of fixed size: one for pieces of at most 15 bytes and three tokens, which almost all
//! are, and one for up to 31 bytes and six tokens. In a bucket, a new piece displaces the older of
//! two. Anything larger is rarely met twice, and is encoded each time.

use super::merge::Ids;

/// 4 MiB and 2 MiB for each tokenizer and thread.
const SHORT_BITS: u32 = 16;
const LONG_BITS: u32 = 14;

#[derive(Clone, Copy, Default)]
struct Slot<const WORDS: usize, const TOKENS: usize>
where
    [u128; WORDS]: Default,
    [u32; TOKENS]: Default,
    [u8; TOKENS]: Default,
{
    /// The bytes of the piece, and in the uppermost byte their number; 0 is a free slot.
    key: [u128; WORDS],
    ids: [u32; TOKENS],
    ends: [u8; TOKENS],
    count: u8,
}

type Short = Slot<1, 3>;
type Long = Slot<2, 6>;

/// Half of a bucket of the short table fills half a cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Bucket<S>([S; 2]);

/// What is known about pieces of one tokenizer.
pub struct Cache {
    short: Box<[Bucket<Short>]>,
    long: Box<[Bucket<Long>]>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            short: vec![Bucket::default(); 1 << SHORT_BITS].into_boxed_slice(),
            long: vec![Bucket::default(); 1 << LONG_BITS].into_boxed_slice(),
        }
    }
}

impl Cache {
    /// Calls `push` for each token of `value[start..end]`, with its id and the offset in the piece
    /// at which it ends; asks `encode` for pieces that it does not know.
    #[inline]
    pub fn encode(
        &mut self,
        value: &[u8],
        (start, end): (usize, usize),
        ids: &mut Ids,
        encode: impl FnOnce(&[u8], &mut Ids),
        mut push: impl FnMut(u32, usize),
    ) {
        let piece = &value[start..end];
        let mut short = None;
        if piece.len() <= 15 {
            let key = [word(value, start, piece.len()) | length(piece)];
            let bucket = &mut self.short[hash(key[0], 0) >> (64 - SHORT_BITS)];
            if let Some(slot) = bucket.find(key) {
                return slot.push(push);
            }
            short = Some((key, bucket));
        }
        let mut long = None;
        if piece.len() <= 31 {
            let first = piece.len().min(16);
            let key = [
                word(value, start, first),
                word(value, start + first, piece.len() - first) | length(piece),
            ];
            let bucket = &mut self.long[hash(key[0], key[1]) >> (64 - LONG_BITS)];
            if let Some(slot) = bucket.find(key) {
                return slot.push(push);
            }
            long = Some((key, bucket));
        }
        encode(piece, ids);
        match (ids.len(), short, long) {
            (1..=3, Some((key, bucket)), _) => bucket.insert(key, ids),
            (1..=6, _, Some((key, bucket))) => bucket.insert(key, ids),
            _ => {}
        }
        ids.iter().for_each(|&(id, end)| push(id, end as usize));
    }
}

impl<const WORDS: usize, const TOKENS: usize> Bucket<Slot<WORDS, TOKENS>>
where
    [u128; WORDS]: Default,
    [u32; TOKENS]: Default,
    [u8; TOKENS]: Default,
    Slot<WORDS, TOKENS>: Copy + Default,
{
    #[inline]
    fn find(&self, key: [u128; WORDS]) -> Option<&Slot<WORDS, TOKENS>> {
        self.0.iter().find(|slot| slot.key == key)
    }

    fn insert(&mut self, key: [u128; WORDS], ids: &Ids) {
        let mut slot = Slot { key, count: ids.len() as u8, ..Slot::default() };
        for (at, &(id, end)) in ids.iter().enumerate() {
            (slot.ids[at], slot.ends[at]) = (id, end as u8);
        }
        let [first, second] = &mut self.0;
        *second = std::mem::replace(first, slot);
    }
}

impl<const WORDS: usize, const TOKENS: usize> Slot<WORDS, TOKENS>
where
    [u128; WORDS]: Default,
    [u32; TOKENS]: Default,
    [u8; TOKENS]: Default,
{
    #[inline]
    fn push(&self, mut push: impl FnMut(u32, usize)) {
        for at in 0..usize::from(self.count).min(TOKENS) {
            push(self.ids[at], usize::from(self.ends[at]));
        }
    }
}

/// Up to 16 bytes of the value from `start`, as a number.
#[inline]
fn word(value: &[u8], start: usize, length: usize) -> u128 {
    match value.get(start..start + 16) {
        Some(bytes) if length == 16 => u128::from_le_bytes(bytes.try_into().unwrap_or_default()),
        Some(bytes) => {
            let mask = (1 << (8 * length)) - 1;
            u128::from_le_bytes(bytes.try_into().unwrap_or_default()) & mask
        }
        None => {
            let mut bytes = [0; 16];
            bytes[..length].copy_from_slice(&value[start..start + length]);
            u128::from_le_bytes(bytes)
        }
    }
}

#[inline]
fn length(piece: &[u8]) -> u128 {
    (piece.len() as u128) << 120
}

#[inline]
fn hash(first: u128, second: u128) -> usize {
    let fold = |word: u128, odd: u64| (word as u64).wrapping_mul(odd) ^ (word >> 64) as u64;
    let mixed = fold(first, 0x9E37_79B9_7F4A_7C15) ^ fold(second, 0xC2B2_AE3D_27D4_EB4F);
    (mixed ^ mixed >> 32).wrapping_mul(0x9FB2_1C65_1E98_DF25) as usize
}
