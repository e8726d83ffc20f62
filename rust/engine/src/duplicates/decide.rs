//! From the signatures of all shards to the first row of each cluster.
//!
//! Rows with an equal key are found by sorting (key, row), one band and one part of the key space
//! at a time, so that what is sorted takes a byte or so a row. Within a group of equal keys, each
//! row is linked to the first; a union-find over all rows, in which a root is the smallest row of
//! its tree, makes clusters of the links. In whatever order threads find the links, the smallest
//! row of a cluster is its root in the end: the clusters depend on the signatures alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{mem, thread};

use super::signatures::Signatures;
use super::signer::{Recipe, Signer};
use super::spec::Among;

/// Parts of the key space, by the highest bits of a key.
const PART_BITS: u32 = 5;
const PARTS: usize = 1 << PART_BITS;
/// More threads would not pay for their buffers: each scans the whole column for its part.
const MAX_THREADS: usize = 8;
/// Links that are handed over together: 128 KiB.
const LINKS: usize = 1 << 14;
/// Bits of [`Decisions`] that share a rank.
const RANK_BITS: usize = 512;

/// `(row, first)`, counted over all shards.
type Link = (u32, u32);

/// Why duplicates cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum DuplicatesError {
    /// It would take more memory than the rule allows.
    #[error(
        "rule `{rule}`: finding duplicates among {rows} rows needs {needed_mib} MiB, but \
         max_memory_mib is {max_memory_mib}: set max_memory_mib = {needed_mib}, or filter fewer \
         shards at once{leaner}"
    )]
    Memory {
        /// The name of the rule.
        rule: String,
        /// Rows of all shards.
        rows: u64,
        /// What would be enough.
        needed_mib: u64,
        /// What the rule allows.
        max_memory_mib: u64,
        /// Another way out, if there is one.
        leaner: &'static str,
    },
    /// Rows are counted in 32 bits.
    #[error("rule `{rule}`: {rows} rows, expected at most {max}: filter fewer shards at once",
        max = u32::MAX)]
    Rows {
        /// The name of the rule.
        rule: String,
        /// Rows of all shards.
        rows: u64,
    },
    /// The signatures of a shard were made by another rule.
    #[error("rule `{rule}`: shard {shard} was signed with `{found}`, expected `{expected}`")]
    Parameters {
        /// The name of the rule.
        rule: String,
        /// The index of the shard.
        shard: usize,
        /// How it was signed.
        found: String,
        /// How the rule signs.
        expected: String,
    },
}

/// Which rows repeat which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// For each shard its first row, counted over all shards, and the end of the last shard.
    starts: Vec<u32>,
    /// One bit a row: is it a duplicate?
    duplicates: Vec<u64>,
    /// How many duplicates come before every [`RANK_BITS`] rows.
    ranks: Vec<u32>,
    /// What each duplicate repeats, in order of the duplicates.
    firsts: Vec<u32>,
}

impl Decisions {
    /// The earlier row that this row repeats, as shard and row: the first of its cluster. `None` if
    /// the row is no duplicate.
    ///
    /// # Panics
    ///
    /// If the shard did not have so many rows. Compare with [`Decisions::rows`] if a shard may have
    /// changed since it was signed.
    pub fn first(&self, shard: u32, row: u64) -> Option<(u32, u64)> {
        assert!(row < self.rows(shard), "shard {shard} has no row {row}");
        let at = self.starts[shard as usize] as usize + row as usize;
        let word = self.duplicates[at / 64];
        if word >> (at % 64) & 1 == 0 {
            return None;
        }
        let words = &self.duplicates[at / RANK_BITS * (RANK_BITS / 64)..at / 64];
        let before = words.iter().map(|word| word.count_ones()).sum::<u32>()
            + (word & ((1 << (at % 64)) - 1)).count_ones();
        let first = self.firsts[(self.ranks[at / RANK_BITS] + before) as usize];
        // Of shards that start at the same row, all but the last are empty.
        let shard = self.starts.partition_point(|&start| start <= first) - 1;
        Some((shard as u32, u64::from(first - self.starts[shard])))
    }

    /// The number of rows of a shard.
    pub fn rows(&self, shard: u32) -> u64 {
        u64::from(self.starts[shard as usize + 1] - self.starts[shard as usize])
    }

    /// How many rows are duplicates.
    pub fn count(&self) -> u64 {
        self.firsts.len() as u64
    }

    /// `firsts[row]` is the row that a duplicate repeats, which is a smaller one.
    fn new(starts: Vec<u32>, mut firsts: Vec<u32>) -> Decisions {
        let mut duplicates = vec![0u64; firsts.len().div_ceil(64)];
        let mut ranks = Vec::with_capacity(firsts.len().div_ceil(RANK_BITS));
        // What is done with makes room for the result.
        let mut count = 0;
        for row in 0..firsts.len() {
            if row % RANK_BITS == 0 {
                ranks.push(count as u32);
            }
            if (firsts[row] as usize) < row {
                duplicates[row / 64] |= 1 << (row % 64);
                firsts[count] = firsts[row];
                count += 1;
            }
        }
        firsts.truncate(count);
        firsts.shrink_to_fit();
        Decisions { starts, duplicates, ranks, firsts }
    }
}

/// Rows that repeat each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// For each shard its first row, counted over all shards, and the end of the last shard.
    starts: Vec<u32>,
    /// For each row the smallest row of its cluster.
    roots: Vec<u32>,
}

/// What [`settle`] writes down for the smallest row of a cluster of which no row stays so far.
const NONE_STAYS: u32 = u32::MAX;

/// Decides which rows repeat which, by the clusters of all rules that compare rows; `rules` says for
/// each which rows it compares, and whether it drops what it finds.
///
/// With [`Among::All`] a row repeats the first row of its cluster. With [`Among::Kept`] it repeats
/// the first row of its cluster *that stays*: in the order of rows, one that no rule here drops.
/// Otherwise two rules could drop each other's first rows, and no copy would be left.
pub fn settle(rules: &[(Among, bool)], mut all: Vec<Clusters>) -> Vec<Decisions> {
    assert_eq!(rules.len(), all.len());
    let has_kept = rules.iter().any(|(among, _)| *among == Among::Kept);
    // One rule alone drops no first row.
    let rows = if has_kept && rules.len() > 1 { all[0].roots.len() } else { 0 };
    for row in 0..rows {
        let mut dropped_by = 0u64;
        for (index, ((among, drops), clusters)) in rules.iter().zip(&all).enumerate() {
            let root = clusters.roots[row] as usize;
            let breaks = root < row && (*among == Among::All || clusters.roots[root] != NONE_STAYS);
            dropped_by |= u64::from(breaks && *drops) << index;
        }
        for (index, ((among, _), clusters)) in rules.iter().zip(&mut all).enumerate() {
            if *among == Among::All {
                continue;
            }
            let root = clusters.roots[row] as usize;
            let first = clusters.roots[root];
            let is_open = root == row || first == NONE_STAYS;
            if is_open {
                let stays = dropped_by & !(1 << index) == 0;
                clusters.roots[row] = row as u32;
                clusters.roots[root] = if stays { row as u32 } else { NONE_STAYS };
            } else {
                clusters.roots[row] = first;
            }
        }
    }
    // What is no smaller row says that the row repeats none.
    all.into_iter().map(|clusters| Decisions::new(clusters.starts, clusters.roots)).collect()
}

/// Finds the clusters among the rows of all shards, given in the order of the shards.
///
/// Takes at most the memory that [`Signer::check_memory`] has checked: for each row that of its
/// signature, 4.2 bytes, and 0.6 bytes a thread. Uses fewer threads than offered where that makes it
/// fit.
pub fn cluster(
    signer: &Signer,
    mut shards: Vec<Signatures>,
    threads: usize,
) -> Result<Clusters, DuplicatesError> {
    for (shard, signatures) in shards.iter_mut().enumerate() {
        if signatures.parameters() != signer.parameters {
            return Err(DuplicatesError::Parameters {
                rule: signer.name.clone(),
                shard,
                found: signatures.parameters().to_owned(),
                expected: signer.parameters.clone(),
            });
        }
        signatures.shrink();
    }
    let rows = shards.iter().map(Signatures::rows).sum();
    let threads = threads_that_fit(signer, rows, threads.clamp(1, MAX_THREADS))?;
    let mut starts = vec![0u32];
    for signatures in &shards {
        starts.push(starts[starts.len() - 1] + signatures.rows() as u32);
    }
    let mut parents: Vec<u32> = (0..rows as u32).collect();
    let tasks = shards.first().map_or(0, |signatures| signatures.bands() * PARTS);
    let next_task = AtomicUsize::new(0);
    let (sender, receiver) = sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (shards, starts, next_task) = (&shards, &starts, &next_task);
            let mut sorter = Sorter::new(part_rows(rows), sender.clone());
            scope.spawn(move || {
                loop {
                    let task = next_task.fetch_add(1, Ordering::Relaxed);
                    if task >= tasks {
                        break;
                    }
                    sorter.run(shards, starts, task / PARTS, (task % PARTS) as u64);
                }
                sorter.hand_over();
            });
        }
        drop(sender);
        for links in receiver {
            for (row, first) in links {
                join(&mut parents, row, first);
            }
        }
    });
    drop(shards);
    for row in 0..parents.len() {
        // The parent is smaller, so its own parent is a root by now.
        parents[row] = parents[parents[row] as usize];
    }
    Ok(Clusters { starts, roots: parents })
}

/// Sorts the rows of one band and one part of the key space, and links those with equal keys.
struct Sorter {
    /// Key, tail and row, from the highest bit to the lowest. Sorted, equal hashes are neighbours,
    /// the earliest row first.
    entries: Vec<u128>,
    /// Entries are sorted when there are so many.
    limit: usize,
    links: Vec<Link>,
    sender: SyncSender<Vec<Link>>,
}

impl Sorter {
    fn new(limit: usize, sender: SyncSender<Vec<Link>>) -> Sorter {
        let entries = Vec::with_capacity(limit);
        Sorter { entries, limit, links: Vec::with_capacity(LINKS), sender }
    }

    fn run(&mut self, shards: &[Signatures], starts: &[u32], band: usize, part: u64) {
        for (signatures, &start) in shards.iter().zip(starts) {
            let (keys, tails) = signatures.band(band);
            for (row, &key) in (start..).zip(keys) {
                if key >> (64 - PART_BITS) == part && key != 0 {
                    if self.entries.len() == self.limit {
                        self.make_room();
                    }
                    let tail = tails.get((row - start) as usize).copied().unwrap_or(0);
                    self.entries
                        .push(u128::from(key) << 64 | u128::from(tail) << 32 | u128::from(row));
                }
            }
        }
        self.link();
        self.entries.clear();
    }

    /// Different keys spread evenly over the parts, so if there are too many in this one, most are
    /// equal, and linking leaves few of them.
    fn make_room(&mut self) {
        self.link();
        if self.entries.len() > self.limit / 8 * 7 {
            self.limit += self.limit / 4 + 1;
            self.entries.reserve_exact(self.limit - self.entries.len());
        }
    }

    /// Sorts the entries, links those with equal hashes and leaves the first of them.
    fn link(&mut self) {
        let Sorter { entries, links, sender, .. } = self;
        entries.sort_unstable();
        entries.dedup_by(|entry, first| {
            let is_equal = *entry >> 32 == *first >> 32;
            if is_equal {
                links.push((*entry as u32, *first as u32));
                if links.len() == LINKS {
                    send(sender, mem::replace(links, Vec::with_capacity(LINKS)));
                }
            }
            is_equal
        });
    }

    fn hand_over(self) {
        send(&self.sender, self.links);
    }
}

fn send(sender: &SyncSender<Vec<Link>>, links: Vec<Link>) {
    sender.send(links).expect("the receiver is there as long as the threads");
}

/// Makes one tree of two, with the smaller root.
fn join(parents: &mut [u32], row: u32, other: u32) {
    let (root, other) = (root(parents, row), root(parents, other));
    parents[root.max(other) as usize] = root.min(other);
}

/// The root of the tree of this row. Halves the path to it.
fn root(parents: &mut [u32], mut row: u32) -> u32 {
    loop {
        let parent = parents[row as usize];
        if parent == row {
            return row;
        }
        let grandparent = parents[parent as usize];
        parents[row as usize] = grandparent;
        row = grandparent;
    }
}

/// How many different keys of one band to expect in one part, with an ample margin.
fn part_rows(rows: u64) -> usize {
    let mean = rows / PARTS as u64;
    (mean + mean / 8 + 4096) as usize
}

/// How many of these threads fit into the memory that the rule allows; an error if none does.
fn threads_that_fit(signer: &Signer, rows: u64, threads: usize) -> Result<usize, DuplicatesError> {
    if rows > u64::from(u32::MAX) {
        return Err(DuplicatesError::Rows { rule: signer.name.clone(), rows });
    }
    let signatures = rows * signer.signatures().bytes_per_row();
    let result = rows * 4 + rows / 8 + rows / RANK_BITS as u64 * 4;
    // Its entries, and links that it collects, that wait and that are being joined.
    let thread = (part_rows(rows) * size_of::<u128>() + 3 * LINKS * size_of::<Link>()) as u64;
    let allowed = signer.max_memory_mib.saturating_mul(1 << 20);
    let left = allowed.saturating_sub(signatures + result);
    match (left / thread).min(threads as u64) {
        0 => Err(DuplicatesError::Memory {
            rule: signer.name.clone(),
            rows,
            needed_mib: (signatures + result + thread).div_ceil(1 << 20),
            max_memory_mib: signer.max_memory_mib,
            leaner: match signer.method {
                Recipe::Exact | Recipe::Normalized(_) => "",
                Recipe::MinHash(..) => ", or use method normalized (about 17 bytes a row)",
            },
        }),
        fitting => Ok(fitting as usize),
    }
}

impl Signer {
    /// How much memory [`cluster`] needs for so many rows with one thread.
    ///
    /// Signatures are part of it, so ask this between shards of the first pass.
    pub fn check_memory(&self, rows: u64) -> Result<(), DuplicatesError> {
        threads_that_fit(self, rows, 1).map(|_| ())
    }
}
