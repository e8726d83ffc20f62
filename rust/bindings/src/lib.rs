//! The Python module `subl_core`: conversion and errors, nothing else. `subl_core.pyi` documents it.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use subl_engine::{Error, Flow, Plan, Progress, Shard, Split};

create_exception!(subl_core, PlanError, PyValueError, "A plan that cannot be compiled.");
create_exception!(subl_core, FilterError, PyOSError, "A shard that cannot be filtered.");
create_exception!(subl_core, ReadError, FilterError, "An input that cannot be read.");
create_exception!(subl_core, WriteError, FilterError, "An output that cannot be written.");

/// How often the interpreter is asked, which takes its lock: often enough for Ctrl-C, and for a bar.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How much work a crash may cost.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(10);

/// A compiled plan.
#[pyclass(name = "Plan", module = "subl_core", frozen)]
struct PyPlan(Plan);

#[pymethods]
impl PyPlan {
    #[new]
    fn new(py: Python<'_>, json: &str) -> PyResult<PyPlan> {
        py.detach(|| Plan::from_json(json))
            .map(PyPlan)
            .map_err(|error| PlanError::new_err(error.to_string()))
    }

    fn explain(&self, py: Python<'_>, line: &[u8]) -> String {
        py.detach(|| subl_engine::explain(&self.0, line))
    }
}

#[pyfunction]
#[pyo3(signature = (
    plan, input, kept, rejects, *, journal=None, threads=1, split_rows=None, split_bytes=None,
    progress=None,
))]
#[allow(clippy::too_many_arguments)]
fn filter_shard(
    py: Python<'_>,
    plan: &PyPlan,
    input: PathBuf,
    kept: PathBuf,
    rejects: PathBuf,
    journal: Option<PathBuf>,
    threads: usize,
    split_rows: Option<NonZeroU64>,
    split_bytes: Option<NonZeroU64>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let shard = Shard {
        input: &input,
        kept: &kept,
        rejects: &rejects,
        journal: journal.as_deref(),
        journal_interval: JOURNAL_INTERVAL,
        split: Split { rows: split_rows.map(Into::into), bytes: split_bytes.map(Into::into) },
        threads,
    };
    // When the interpreter was asked last, and what it raised: the engine only knows that it stops.
    let asked: Mutex<(Option<Instant>, Option<PyErr>)> = Mutex::new((None, None));
    let ask = |state: Progress| {
        // Another thread is asking already.
        let Ok(mut asked) = asked.try_lock() else { return Flow::Continue };
        if asked.1.is_some() {
            return Flow::Stop;
        }
        if asked.0.is_some_and(|last| last.elapsed() < POLL_INTERVAL) {
            return Flow::Continue;
        }
        let answer = Python::attach(|py| {
            py.check_signals()?;
            match &progress {
                Some(call) => call.call1(py, (state.bytes_read, state.rows, state.kept)).map(drop),
                None => Ok(()),
            }
        });
        asked.0 = Some(Instant::now());
        match answer {
            Ok(()) => Flow::Continue,
            Err(error) => {
                asked.1 = Some(error);
                Flow::Stop
            }
        }
    };
    match py.detach(|| subl_engine::filter_shard(&plan.0, shard, &ask)) {
        Ok(statistics) => serde_json::to_string(&statistics)
            .map_err(|error| FilterError::new_err(error.to_string())),
        Err(error) => {
            let raised = asked.into_inner().ok().and_then(|asked| asked.1);
            Err(raised.unwrap_or_else(|| exception(&error)))
        }
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

/// The native filter engine of subl.
#[pymodule]
fn subl_core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("PlanError", module.py().get_type::<PlanError>())?;
    module.add("FilterError", module.py().get_type::<FilterError>())?;
    module.add("ReadError", module.py().get_type::<ReadError>())?;
    module.add("WriteError", module.py().get_type::<WriteError>())?;
    module.add_class::<PyPlan>()?;
    module.add_function(wrap_pyfunction!(filter_shard, module)?)
}
