//! Byte-pair encoding of one piece: merge the pair of lowest rank, the leftmost first, until no
//! pair is left that has a rank.

/// Tokens of a piece: their ids, and the offsets at which they end.
pub type Ids = Vec<(u32, u32)>;

const EMPTY: u64 = u64::MAX;
/// Of a pair without a rank. Real ones are smaller: no id is `u32::MAX`.
const NO_MERGE: u64 = u64::MAX;

/// The merges of a vocabulary: (left id, right id) to (rank, merged id), in an open hash table.
pub struct Merges {
    /// (left id, right id) and (rank, merged id), the first in the upper half.
    slots: Box<[(u64, u64)]>,
    shift: u32,
    /// The token of each byte.
    bytes: [u32; 256],
}

/// Buffers of [`Merges::encode`].
#[derive(Default)]
pub struct Buffers {
    pairs: Vec<u64>,
}

impl Merges {
    /// `merges` lists left, right and merged id, by rank. A pair that comes twice has the later
    /// rank, as in the `tokenizers` crate.
    pub fn new(bytes: [u32; 256], merges: &[(u32, u32, u32)]) -> Merges {
        let size = (merges.len() * 2).next_power_of_two().max(2);
        let mut table = Merges {
            slots: vec![(EMPTY, NO_MERGE); size].into_boxed_slice(),
            shift: 64 - size.trailing_zeros(),
            bytes,
        };
        for (rank, &(left, right, merged)) in (0u64..).zip(merges) {
            let slot = table.slot(pair(left, right));
            table.slots[slot] = (pair(left, right), rank << 32 | u64::from(merged));
        }
        table
    }

    /// The slot that holds the key, or the empty one that would.
    #[inline]
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize;
        while self.slots[slot].0 != key && self.slots[slot].0 != EMPTY {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[inline]
    fn merge(&self, left: u32, right: u32) -> u64 {
        self.slots[self.slot(pair(left, right))].1
    }

    /// Replaces `ids` with the tokens of a piece, each with the offset at which it ends.
    ///
    /// Takes time quadratic in the piece, but is several times faster than a heap up to some
    /// hundred bytes.
    pub fn encode(&self, piece: &[u8], buffers: &mut Buffers, ids: &mut Ids) {
        ids.clear();
        ids.extend((1u32..).zip(piece).map(|(end, &byte)| (self.bytes[usize::from(byte)], end)));
        let pairs = &mut buffers.pairs;
        pairs.clear();
        pairs.extend(ids.windows(2).map(|pair| self.merge(pair[0].0, pair[1].0)));
        while let Some(best) = pairs.iter().copied().min()
            && best != NO_MERGE
            && let Some(at) = pairs.iter().position(|&pair| pair == best)
        {
            ids[at] = (best as u32, ids[at + 1].1);
            ids.remove(at + 1);
            pairs.remove(at);
            if at < pairs.len() {
                pairs[at] = self.merge(ids[at].0, ids[at + 1].0);
            }
            if at > 0 {
                pairs[at - 1] = self.merge(ids[at - 1].0, ids[at].0);
            }
        }
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
