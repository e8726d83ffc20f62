//! One shard, filtered, signed, looked at or counted: asks which format it is, and hands on.

use std::fs;
use std::path::Path;

use crate::duplicates::Signatures;
use crate::error::Error;
use crate::format::{self, Format};
use crate::plan::{Plan, Statistics};
use crate::shard::{Flow, Progress, Shard, Split};
use crate::{lines, parquet};

/// Filters one shard. On any error, neither output appears under its name; what there is of them
/// stays in the shard's folder for work, if it has one.
///
/// `progress` is called by all threads, each time that one has worked on 256 KiB.
pub fn filter_shard(
    plan: &Plan,
    shard: Shard<'_>,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Statistics, Error> {
    refuse_same_file(shard)?;
    if shard.duplicates.len() != plan.comparisons().len() {
        return Err(Error::NotSigned);
    }
    let format = format_of(shard.input)?;
    for path in [shard.kept, shard.rejects] {
        let unfit = |message| Error::Unfit { path: shard.input.to_owned(), message };
        format.check_name(path).map_err(unfit)?;
    }
    match format {
        Format::Lines(compression) => lines::filter(plan, shard, compression, progress),
        Format::Parquet => parquet::filter(plan, shard, progress),
    }
}

/// The first pass over a shard, for the rules that compare rows: one column of signatures for each
/// of [`Plan::comparisons`], with a row for each line.
pub fn sign_shard(
    plan: &Plan,
    input: &Path,
    threads: usize,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Vec<Signatures>, Error> {
    match format_of(input)? {
        Format::Lines(_) => lines::sign(plan, input, threads, progress),
        Format::Parquet => parquet::sign(plan, input, progress),
    }
}

/// Looks at the beginning of a shard, so that what can fail at once does not fail late.
pub fn check_shard(plan: &Plan, input: &Path, split: Split) -> Result<(), Error> {
    match format_of(input)? {
        Format::Lines(_) => lines::check(input),
        Format::Parquet => parquet::check(plan, input, split),
    }
}

/// The rows of a shard: lines that are not blank, or what the footer of Parquet says.
///
/// A byte-order mark alone on a line counts as a row here; a filter writes no such line.
pub fn count_rows(input: &Path) -> Result<u64, Error> {
    match format_of(input)? {
        Format::Lines(_) => lines::count(input),
        Format::Parquet => Ok(parquet::measure(input)?.0),
    }
}

fn format_of(input: &Path) -> Result<Format, Error> {
    format::of_file(input).map_err(Error::read(input))
}

/// Writing over the input, or both outputs over each other, would lose rows.
fn refuse_same_file(shard: Shard<'_>) -> Result<(), Error> {
    let same = |one: &Path, other: &Path| {
        one == other
            || match (fs::canonicalize(one), fs::canonicalize(other)) {
                (Ok(one), Ok(other)) => one == other,
                _ => false,
            }
    };
    for (one, other) in
        [(shard.kept, shard.input), (shard.rejects, shard.input), (shard.kept, shard.rejects)]
    {
        if same(one, other) {
            return Err(Error::SameFile { path: one.to_owned() });
        }
    }
    Ok(())
}
