//! The Python module `subl_core`: conversion and errors, nothing else. `subl_core.pyi` documents it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use subl_engine::{Error, Flow, Plan, Shard};

create_exception!(subl_core, PlanError, PyValueError, "A plan that cannot be compiled.");
create_exception!(subl_core, FilterError, PyOSError, "A shard that cannot be filtered.");
create_exception!(subl_core, ReadError, FilterError, "An input that cannot be read.");
create_exception!(subl_core, WriteError, FilterError, "An output that cannot be written.");

/// How often the interpreter is asked, which takes its lock: often enough for Ctrl-C, and for a bar.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

fn compile(plan_json: &str) -> PyResult<Plan> {
    Plan::from_json(plan_json).map_err(|error| PlanError::new_err(error.to_string()))
}

#[pyfunction]
#[pyo3(signature = (plan_json, input, kept, rejects, progress=None))]
fn filter_shard(
    py: Python<'_>,
    plan_json: &str,
    input: PathBuf,
    kept: PathBuf,
    rejects: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    // What a signal handler or the callback raised; the engine itself only knows that it must stop.
    let mut raised = None;
    let result = py.detach(|| {
        let plan = compile(plan_json)?;
        let mut polled: Option<Instant> = None;
        let shard = Shard { input: &input, kept: &kept, rejects: &rejects };
        let result = subl_engine::filter_shard(&plan, shard, &mut |state| {
            if polled.is_some_and(|polled| polled.elapsed() < POLL_INTERVAL) {
                return Flow::Continue;
            }
            let answer = Python::attach(|py| {
                py.check_signals()?;
                match &progress {
                    Some(call) => {
                        call.call1(py, (state.bytes_read, state.rows, state.kept)).map(drop)
                    }
                    None => Ok(()),
                }
            });
            polled = Some(Instant::now());
            match answer {
                Ok(()) => Flow::Continue,
                Err(error) => {
                    raised = Some(error);
                    Flow::Stop
                }
            }
        });
        PyResult::Ok(result)
    })?;
    match result {
        Ok(statistics) => serde_json::to_string(&statistics)
            .map_err(|error| FilterError::new_err(error.to_string())),
        Err(error) => Err(raised.unwrap_or_else(|| exception(&error))),
    }
}

fn exception(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Read { .. } => ReadError::new_err(message),
        Error::Write { .. } => WriteError::new_err(message),
        Error::SameFile { .. } | Error::Interrupted => FilterError::new_err(message),
    }
}

#[pyfunction]
fn check_plan(py: Python<'_>, plan_json: &str) -> PyResult<()> {
    py.detach(|| compile(plan_json).map(drop))
}

#[pyfunction]
fn explain(py: Python<'_>, plan_json: &str, line: &[u8]) -> PyResult<String> {
    py.detach(|| Ok(subl_engine::explain(&compile(plan_json)?, line)))
}

/// The native filter engine of subl.
#[pymodule]
fn subl_core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("PlanError", module.py().get_type::<PlanError>())?;
    module.add("FilterError", module.py().get_type::<FilterError>())?;
    module.add("ReadError", module.py().get_type::<ReadError>())?;
    module.add("WriteError", module.py().get_type::<WriteError>())?;
    module.add_function(wrap_pyfunction!(filter_shard, module)?)?;
    module.add_function(wrap_pyfunction!(check_plan, module)?)?;
    module.add_function(wrap_pyfunction!(explain, module)?)
}
