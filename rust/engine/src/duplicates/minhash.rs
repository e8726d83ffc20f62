//! MinHash signatures of the word n-grams ("shingles") of a text, cut into bands (Broder 1997;
//! Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, chapter 3).
//!
//! Under a random permutation of all shingles, two sets have the same smallest member with a
//! probability that is their Jaccard similarity s. `rows` such minima make a band; the hash of a
//! band is its key; two texts are candidates, and duplicates, if one of `bands` keys is the same:
//! probability 1 - (1 - s^rows)^bands, an S-shaped curve that is steep at the threshold. No text is
//! compared after that, so a signature is its keys and nothing else.

use twox_hash::XxHash3_64;

/// `bands * rows` is at most this: the usual number, and what datasketch takes unless told.
const MAX_PERMUTATIONS: usize = 128;
/// Permutations that go through the shingles together. See [`MinHash::lower`].
const LANES: usize = 8;
/// How much text is cut into shingles before the minima are updated: what that takes stays in the
/// L1 cache.
const BLOCK_BYTES: usize = 2048;
/// Steps of the integration that [`optimal_split`] does on either side of the threshold.
const STEPS: usize = 512;

/// The permutations, and how they are cut into bands.
pub struct MinHash {
    ngram: usize,
    bands: usize,
    rows: usize,
    permutations: Vec<Permutations>,
}

/// [`LANES`] permutations of the 32-bit numbers: x -> (x ^ flip) * factor, for an odd factor.
///
/// Shingles come well mixed out of XXH3, so their images are too, whatever the permutation: each
/// one alone is min-wise exactly. The xor makes any two of them differ in more than a factor.
/// 32 bits are enough to tell the shingles of one text apart, and are what SIMD units multiply.
struct Permutations {
    flips: [u32; LANES],
    factors: [u32; LANES],
}

/// Buffers that are reused from text to text.
#[derive(Default)]
pub struct Scratch {
    /// Where words start whose shingles are not complete yet.
    starts: Vec<usize>,
    shingles: Vec<u32>,
    minima: Vec<[i32; LANES]>,
    band: Vec<u8>,
    keys: Vec<u64>,
}

impl MinHash {
    pub fn new(threshold: f64, ngram: usize) -> MinHash {
        let (bands, rows) = optimal_split(threshold);
        let mut state = 0x7375_626C_2E64_7570;
        let permutations = (0..(bands * rows).div_ceil(LANES))
            .map(|_| Permutations {
                flips: std::array::from_fn(|_| (split_mix(&mut state) >> 32) as u32),
                factors: std::array::from_fn(|_| (split_mix(&mut state) >> 32) as u32 | 1),
            })
            .collect();
        MinHash { ngram, bands, rows, permutations }
    }

    pub fn bands(&self) -> usize {
        self.bands
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How likely two texts with this Jaccard similarity share a key.
    pub fn probability(&self, similarity: f64) -> f64 {
        probability(similarity, self.bands, self.rows)
    }

    /// One key a band, or `None` if there are fewer words than one shingle has. Words are separated
    /// by single spaces.
    pub fn keys<'a>(&self, words: &[u8], scratch: &'a mut Scratch) -> Option<&'a [u64]> {
        let Scratch { starts, shingles, minima, band, keys } = scratch;
        minima.clear();
        minima.resize(self.permutations.len(), [i32::MAX; LANES]);
        let hash = |from: usize, next: usize| XxHash3_64::oneshot(&words[from..next - 1]) as u32;
        let mut any = false;
        starts.clear();
        starts.push(0);
        for (index, block) in words.chunks(BLOCK_BYTES).enumerate() {
            find_starts(block, index * BLOCK_BYTES, starts);
            shingles.clear();
            shingles.extend(starts.windows(self.ngram + 1).map(|at| hash(at[0], at[self.ngram])));
            self.lower(minima, shingles);
            any |= !shingles.is_empty();
            starts.drain(..starts.len().saturating_sub(self.ngram));
        }
        // The last shingle is not followed by another word.
        if starts.len() == self.ngram && !words.is_empty() {
            self.lower(minima, &[hash(starts[0], words.len() + 1)]);
            any = true;
        }
        if !any {
            return None;
        }
        keys.clear();
        let mut minima = minima.iter().flatten();
        for index in 0..self.bands {
            band.clear();
            for minimum in minima.by_ref().take(self.rows) {
                band.extend_from_slice(&minimum.to_le_bytes());
            }
            keys.push(XxHash3_64::oneshot_with_seed(index as u64, band));
        }
        Some(keys)
    }

    /// Lowers the minima to those of the permuted shingles.
    fn lower(&self, minima: &mut [[i32; LANES]], shingles: &[u32]) {
        for (minima, permutations) in minima.iter_mut().zip(&self.permutations) {
            let Permutations { flips, factors } = permutations;
            let mut block = *minima;
            for &shingle in shingles {
                for lane in 0..LANES {
                    let image = (shingle ^ flips[lane]).wrapping_mul(factors[lane]);
                    // Signed, because SSE2 cannot compare unsigned numbers.
                    let image = image.cast_signed();
                    block[lane] = if image < block[lane] { image } else { block[lane] };
                }
            }
            *minima = block;
        }
    }
}

/// Appends where in the text words start after the spaces of a block at `offset`. Where words end is
/// not predictable, so there is no branch on it: 2x over `memchr_iter`.
fn find_starts(block: &[u8], offset: usize, starts: &mut Vec<usize>) {
    let mut count = starts.len();
    starts.resize(count + block.len(), 0);
    for (at, &byte) in (offset + 1..).zip(block) {
        starts[count] = at;
        count += usize::from(byte == b' ');
    }
    starts.truncate(count);
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn probability(similarity: f64, bands: usize, rows: usize) -> f64 {
    1.0 - power(1.0 - power(similarity, rows), bands)
}

/// By squaring. `f64::powi` may differ between machines; products do not.
fn power(mut base: f64, mut exponent: usize) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent % 2 == 1 {
            result *= base;
        }
        base *= base;
        exponent /= 2;
    }
    result
}

/// The bands and rows a band that separate best: as in datasketch (`_optimal_param`), the area of
/// false positives below the threshold and that of false negatives above it sum up to the least.
fn optimal_split(threshold: f64) -> (usize, usize) {
    let area = |from: f64, to: f64, height: &dyn Fn(f64) -> f64| {
        let step = (to - from) / STEPS as f64;
        (0..STEPS).map(|index| height(from + (index as f64 + 0.5) * step) * step).sum::<f64>()
    };
    let mut best = (f64::INFINITY, (1, 1));
    for bands in 1..=MAX_PERMUTATIONS {
        for rows in 1..=MAX_PERMUTATIONS / bands {
            let positives = area(0.0, threshold, &|s| probability(s, bands, rows));
            let negatives = area(threshold, 1.0, &|s| 1.0 - probability(s, bands, rows));
            if positives + negatives < best.0 {
                best = (positives + negatives, (bands, rows));
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `_optimal_param(threshold, 128, 0.5, 0.5)` of datasketch 2.0.0, which integrates adaptively.
    #[test]
    fn splits_as_datasketch_does() {
        for (threshold, expected) in [
            (0.1, (64, 2)),
            (0.2, (28, 2)),
            (0.3, (37, 3)),
            (0.4, (32, 4)),
            (0.5, (25, 5)),
            (0.6, (18, 7)),
            (0.7, (14, 9)),
            (0.75, (11, 11)),
            (0.8, (9, 13)),
            (0.85, (8, 16)),
            (0.9, (5, 25)),
            (0.95, (3, 42)),
            (0.99, (1, 128)),
        ] {
            assert_eq!(optimal_split(threshold), expected, "{threshold}");
        }
    }

    /// The keys of the obvious implementation: all n-grams, then all permutations.
    fn reference(minhash: &MinHash, text: &str) -> Vec<u64> {
        let words: Vec<&str> = text.split(' ').collect();
        let minima: Vec<i32> = (0..minhash.bands * minhash.rows)
            .map(|index| {
                let Permutations { flips, factors } = &minhash.permutations[index / LANES];
                let images = words.windows(minhash.ngram).map(|shingle| {
                    let hash = XxHash3_64::oneshot(shingle.join(" ").as_bytes()) as u32;
                    (hash ^ flips[index % LANES]).wrapping_mul(factors[index % LANES]) as i32
                });
                images.min().unwrap()
            })
            .collect();
        let bands = minima.chunks(minhash.rows).enumerate().map(|(index, band)| {
            let bytes: Vec<u8> = band.iter().flat_map(|minimum| minimum.to_le_bytes()).collect();
            XxHash3_64::oneshot_with_seed(index as u64, &bytes)
        });
        bands.collect()
    }

    #[test]
    fn agrees_with_the_obvious_implementation() {
        let mut scratch = Scratch::default();
        for (threshold, ngram) in [(0.8, 5), (0.5, 1), (0.95, 3)] {
            let minhash = MinHash::new(threshold, ngram);
            for count in [ngram, ngram + 1, 100, 1000, 1001, 1002, 5000] {
                let words: Vec<String> = (0..count).map(|n| format!("w{}", n * n)).collect();
                let text = words.join(" ");
                let keys = minhash.keys(text.as_bytes(), &mut scratch).unwrap();
                assert_eq!(keys, reference(&minhash, &text), "{threshold} {ngram} {count}");
            }
            let short = vec!["word"; ngram - 1].join(" ");
            assert!(minhash.keys(short.as_bytes(), &mut scratch).is_none());
        }
    }
}
