//! The first pass over a shard of Parquet, for the rules that compare rows; on one thread.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::Array;

use super::errors::catch;
use super::input::Input;
use crate::arrow::Batch;
use crate::duplicates::Signatures;
use crate::error::Error;
use crate::plan::{Plan, Signing};
use crate::shard::{Flow, Meter, Progress};

/// See [`crate::sign_shard`].
pub fn sign(
    plan: &Plan,
    path: &Path,
    progress: &(dyn Fn(Progress) -> Flow + Sync),
) -> Result<Vec<Signatures>, Error> {
    let input = catch(path, || Input::open(path, plan.tree()))?;
    let file = File::open(path).map_err(Error::read(path))?;
    let mut signatures = plan.no_signatures();
    let mut scratch = Signing::default();
    let bytes_read = Arc::new(AtomicU64::new(0));
    let meter = Meter::new(Arc::clone(&bytes_read), progress);
    for (index, group) in input.groups().iter().enumerate() {
        catch(path, || {
            for rows in input.rows(&file, index)? {
                let rows = rows?;
                let batch = Batch::new(plan, &rows);
                for row in 0..rows.len() {
                    plan.sign(Some(&batch.row(row)), &mut scratch, &mut signatures);
                }
                meter.add(rows.len() as u64, 0);
            }
            Ok(())
        })?;
        bytes_read.fetch_add(group.compressed_size().max(0) as u64, Ordering::Relaxed);
        meter.report()?;
    }
    Ok(signatures)
}
