//! The n-grams of a value that repeat, from short to long.

use super::table::Table;
use super::words::Word;

/// The n-grams of one length that occur at least twice.
#[derive(Default)]
pub struct Grams {
    /// Every occurrence in order: the index of its first word, and the number of the n-gram, lower
    /// for those that occur first.
    pub occurrences: Vec<(usize, u32)>,
    /// How often the n-gram with this number occurs. Some that occur once have numbers too.
    counts: Vec<u32>,
    /// The two (n-1)-grams that each number stands for; for n = 1, the index of a word.
    keys: Vec<u64>,
    seen: Vec<bool>,
}

impl Grams {
    /// Replaces them by the words of the value that occur at least twice.
    pub fn start(&mut self, value: &str, words: &[Word], table: &mut Table) {
        let words = &words[..words.len() - 1];
        let text = |word: Word| &value.as_bytes()[word.start..word.end];
        table.reset(words.len());
        self.occurrences.clear();
        self.counts.clear();
        self.keys.clear();
        for (index, &word) in words.iter().enumerate() {
            let hash = table.hash(text(word));
            let number = table.number(hash, self.keys.len(), |number| {
                text(words[self.keys[number] as usize]) == text(word)
            });
            self.count(number, index as u64);
            self.occurrences.push((index, number));
        }
        self.retain_repeated();
    }

    /// The characters of the top n-gram times its occurrences, and its first word.
    pub fn top(&self, words: &[Word], n: usize) -> (usize, usize) {
        let Grams { occurrences, counts, .. } = self;
        let mut top = occurrences[0];
        for &occurrence in occurrences {
            if counts[occurrence.1 as usize] > counts[top.1 as usize] {
                top = occurrence;
            }
        }
        let (first, number) = top;
        ((chars(words, first, n) + n - 1) * counts[number as usize] as usize, first)
    }

    /// The characters in duplicate n-grams, and the first word of the first of them.
    pub fn duplicates(&mut self, words: &[Word], n: usize) -> (usize, usize) {
        self.seen.clear();
        self.seen.resize(self.counts.len(), false);
        let mut total = 0;
        let mut first = None;
        // The n-grams between the occurrences occur once: duplicates of nothing.
        let mut next = 0;
        for &(index, number) in &self.occurrences {
            if index < next {
                continue;
            }
            if std::mem::replace(&mut self.seen[number as usize], true) {
                total += chars(words, index, n);
                first.get_or_insert(index);
                next = index + n;
            }
        }
        (total, first.unwrap_or(0))
    }

    fn count(&mut self, number: u32, key: u64) {
        if number as usize == self.keys.len() {
            self.keys.push(key);
            self.counts.push(0);
        }
        self.counts[number as usize] += 1;
    }

    fn retain_repeated(&mut self) {
        let counts = &self.counts;
        self.occurrences.retain(|&(_, number)| counts[number as usize] > 1);
    }

    /// From n-grams to (n+1)-grams: two n-grams that begin at consecutive words.
    pub fn lengthen(&mut self, table: &mut Table) {
        table.reset(self.occurrences.len());
        self.counts.clear();
        self.keys.clear();
        let mut kept = 0;
        for at in 1..self.occurrences.len() {
            let (index, first) = self.occurrences[at - 1];
            let (next_index, second) = self.occurrences[at];
            if index + 1 != next_index {
                continue;
            }
            let key = u64::from(first) << 32 | u64::from(second);
            let hash = table.hash_number(key);
            let number = table.number(hash, self.keys.len(), |number| self.keys[number] == key);
            self.count(number, key);
            self.occurrences[kept] = (index, number);
            kept += 1;
        }
        self.occurrences.truncate(kept);
        self.retain_repeated();
    }
}

/// The characters of n words.
fn chars(words: &[Word], first: usize, n: usize) -> usize {
    words[first + n].chars_before - words[first].chars_before
}
