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
use subl_engine::batch::matches_schema;
use subl_engine::{BatchMatcher, Plan};

use crate::PlanError;

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
        let matcher = BatchMatcher::new(plan, reasons);
        let mut matcher = matcher.map_err(|error| PlanError::new_err(error.to_string()))?;
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
