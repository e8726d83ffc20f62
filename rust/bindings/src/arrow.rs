//! Rows in, matches out, through the Arrow C stream interface: pointers in capsules of Python.
//!
//! <https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>

use std::ffi::CStr;

use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::{ArrayStreamReader, FFI_ArrowArrayStream};
use arrow_array::{ArrayReader, RecordBatch, RecordBatchIterator};
use arrow_schema::DataType;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use subl_engine::arrow::matches_schema;
use subl_engine::{BatchMatcher, Plan};

use crate::PlanError;
use crate::rows::write_row;

const STREAM: &CStr = c"arrow_array_stream";

/// What a plan says about rows: columns for whoever reads Arrow streams.
#[pyclass(name = "Matches", module = "subl_core", frozen)]
pub struct Matches {
    batches: Vec<RecordBatch>,
    reasons: bool,
}

#[pymethods]
impl Matches {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A producer may ignore what it is asked for.
        drop(requested_schema);
        let batches = self.batches.clone().into_iter().map(Ok);
        let batches = RecordBatchIterator::new(batches, matches_schema(self.reasons));
        let stream = FFI_ArrowArrayStream::new(Box::new(batches));
        // Who takes the stream empties the capsule; else its drop releases it.
        PyCapsule::new_with_value(py, stream, STREAM)
    }

    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Lines are matched when there are so many bytes or rows of them.
const WINDOW_BYTES: usize = 4 << 20;
const WINDOW_ROWS: usize = 1 << 14;

/// Matches rows that are objects of Python.
pub fn match_rows(plan: &Plan, rows: &Bound<'_, PyAny>, reasons: bool) -> PyResult<Matches> {
    let py = rows.py();
    let mut matcher = matcher(plan, reasons)?;
    let (mut lines, mut count, mut batches) = (Vec::new(), 0, Vec::new());
    let mut take = |lines: &mut Vec<u8>| {
        py.detach(|| matcher.append_lines(lines, &mut batches));
        lines.clear();
    };
    for row in rows.try_iter()? {
        write_row(&row?, &mut lines)?;
        count += 1;
        if lines.len() >= WINDOW_BYTES || count == WINDOW_ROWS {
            take(&mut lines);
            count = 0;
        }
    }
    take(&mut lines);
    Ok(Matches { batches, reasons })
}

fn matcher(plan: &Plan, reasons: bool) -> PyResult<BatchMatcher<'_>> {
    BatchMatcher::new(plan, reasons).map_err(|error| PlanError::new_err(error.to_string()))
}

/// Matches all rows of a stream of structs.
pub fn match_batch(plan: &Plan, data: &Bound<'_, PyAny>, reasons: bool) -> PyResult<Matches> {
    let stream = import(data)?;
    if !matches!(stream.field().data_type(), DataType::Struct(_)) {
        let found = stream.field().data_type();
        return Err(PyTypeError::new_err(format!(
            "expected rows (a table, a batch, or a series of structs), got values of type {found}"
        )));
    }
    data.py().detach(|| {
        let mut matcher = matcher(plan, reasons)?;
        let mut batches = Vec::new();
        for rows in stream {
            let rows = rows.map_err(|error| PyValueError::new_err(error.to_string()))?;
            matcher.append(rows.as_struct(), &mut batches);
        }
        Ok(Matches { batches, reasons })
    })
}

#[allow(unsafe_code)]
fn import(data: &Bound<'_, PyAny>) -> PyResult<ArrayStreamReader> {
    let method = data.getattr("__arrow_c_stream__").map_err(|_| {
        let name = data.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("expected an Arrow stream (`__arrow_c_stream__`), got {name}"))
    })?;
    let capsule = method.call0()?.cast_into::<PyCapsule>()?;
    let pointer = capsule.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of this name holds a valid stream, and lives until the end of this function.
    // `from_raw` moves the stream out and leaves an empty one, which is how the interface says that
    // it was consumed; whoever tries again finds it released, which is an error and not a crash.
    let stream = unsafe { ArrayStreamReader::from_raw(pointer.as_ptr()) };
    stream.map_err(|error| PyValueError::new_err(error.to_string()))
}
