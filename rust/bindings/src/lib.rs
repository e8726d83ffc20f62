//! The Python module `subl_core`: conversion and errors, nothing else. `subl_core.pyi` documents it.

mod arrow;
mod rows;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use subl_engine::duplicates::{Decisions, DuplicatesError, Signatures, cluster, settle};
use subl_engine::format::{self, Compression, Foreign, Format};
use subl_engine::parquet::{self, JsonRows};
use subl_engine::{
    CHUNK_BYTES, Comparison, Decompressor, Duplicates, Error, Flow, Plan, Progress, Shard, Source,
    Split, Streams,
};

create_exception!(subl_core, PlanError, PyValueError, "A plan that cannot be compiled.");
create_exception!(subl_core, FilterError, PyOSError, "A shard that cannot be filtered.");
create_exception!(subl_core, ReadError, FilterError, "An input that cannot be read.");
create_exception!(subl_core, FormatError, ReadError, "An input in a format that is not read.");
create_exception!(subl_core, WriteError, FilterError, "An output that cannot be written.");

/// How often the interpreter is asked, which takes its lock: often enough for Ctrl-C, and for a bar.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

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

    /// How many rules compare rows.
    #[getter]
    fn comparisons(&self) -> usize {
        self.0.comparisons().len()
    }

    /// By rule.
    #[getter]
    fn remarks(&self) -> Vec<Vec<String>> {
        self.0.rules().iter().map(|rule| rule.remarks.clone()).collect()
    }

    #[pyo3(signature = (line, *, first=true))]
    fn explain(&self, py: Python<'_>, line: &[u8], first: bool) -> String {
        py.detach(|| subl_engine::explain(&self.0, line, first))
    }

    fn explain_parquet(
        &self,
        py: Python<'_>,
        input: PathBuf,
        number: u64,
    ) -> PyResult<Option<String>> {
        let verdict = py.detach(|| parquet::explain(&self.0, &input, number));
        verdict.map_err(|error| exception(&error))
    }

    #[getter]
    fn columns(&self) -> Vec<&str> {
        self.0.columns().collect()
    }

    #[pyo3(signature = (data, *, reasons=false))]
    fn match_batch(&self, data: &Bound<'_, PyAny>, reasons: bool) -> PyResult<arrow::Matches> {
        arrow::match_batch(&self.0, data, reasons)
    }

    #[pyo3(signature = (rows, *, reasons=false))]
    fn match_rows(&self, rows: &Bound<'_, PyAny>, reasons: bool) -> PyResult<arrow::Matches> {
        arrow::match_rows(&self.0, rows, reasons)
    }
}

/// Which rows repeat an earlier one, for each rule that asks.
#[pyclass(name = "Duplicates", module = "subl_core", frozen)]
struct PyDuplicates {
    decisions: Vec<Decisions>,
    files: Vec<String>,
}

#[pymethods]
impl PyDuplicates {
    #[new]
    #[pyo3(signature = (plan, files, signatures, threads=1))]
    fn new(
        py: Python<'_>,
        plan: &PyPlan,
        files: Vec<PathBuf>,
        signatures: Vec<Vec<PathBuf>>,
        threads: usize,
    ) -> PyResult<PyDuplicates> {
        let decisions = py.detach(|| -> PyResult<_> {
            let find = |(index, comparison): (usize, &Comparison)| {
                let signer = &comparison.signer;
                let mut shards = Vec::new();
                let mut rows = 0;
                for shard in &signatures {
                    let path = shard.get(index).ok_or_else(|| {
                        PyValueError::new_err("expected a file of signatures for each rule")
                    })?;
                    let loaded = signer.load(path).map_err(|e| exception(&e))?;
                    rows += loaded.rows();
                    signer.check_memory(rows).map_err(memory)?;
                    shards.push(loaded);
                }
                cluster(signer, shards, threads).map_err(memory)
            };
            let comparisons = plan.0.comparisons().iter().enumerate();
            let clusters = comparisons.map(find).collect::<PyResult<Vec<_>>>()?;
            Ok(settle(&plan.0.settling(), clusters))
        })?;
        let files = files.iter().map(|file| subl_engine::shown(file)).collect();
        Ok(PyDuplicates { decisions, files })
    }

    /// How many rows each rule found.
    fn counts(&self) -> Vec<u64> {
        self.decisions.iter().map(Decisions::count).collect()
    }
}

fn memory(error: DuplicatesError) -> PyErr {
    FilterError::new_err(error.to_string())
}

/// Asks the interpreter now and then whether to go on.
struct Asker<'a> {
    progress: Option<&'a Py<PyAny>>,
    /// When it was asked last, and what it raised: the engine only knows that it stops.
    state: Mutex<(Option<Instant>, Option<PyErr>)>,
}

impl<'a> Asker<'a> {
    fn new(progress: Option<&'a Py<PyAny>>) -> Asker<'a> {
        Asker { progress, state: Mutex::new((None, None)) }
    }

    fn ask(&self, state: Progress) -> Flow {
        // Another thread is asking already.
        let Ok(mut asked) = self.state.try_lock() else { return Flow::Continue };
        if asked.1.is_some() {
            return Flow::Stop;
        }
        if asked.0.is_some_and(|last| last.elapsed() < POLL_INTERVAL) {
            return Flow::Continue;
        }
        let answer = Python::attach(|py| {
            py.check_signals()?;
            match self.progress {
                Some(call) => call
                    .call1(py, (state.bytes_read, state.rows, state.kept, state.skipped))
                    .map(drop),
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
    }

    /// What a stopped run raises.
    fn exception(self, error: &Error) -> PyErr {
        let raised = self.state.into_inner().ok().and_then(|asked| asked.1);
        raised.unwrap_or_else(|| exception(error))
    }
}

#[pyfunction]
#[pyo3(signature = (plan, input, signatures, making, *, threads=1, progress=None))]
fn sign_shard(
    py: Python<'_>,
    plan: &PyPlan,
    input: PathBuf,
    signatures: Vec<PathBuf>,
    making: PathBuf,
    threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<u64> {
    let asker = Asker::new(progress.as_ref());
    let signed = py.detach(|| {
        let all = subl_engine::sign_shard(&plan.0, &input, threads, &|state| asker.ask(state))?;
        for (one, path) in all.iter().zip(&signatures) {
            one.save(path, &making)?;
        }
        Ok(all.first().map_or(0, Signatures::rows))
    });
    signed.map_err(|error| asker.exception(&error))
}

#[pyfunction]
#[pyo3(signature = (
    plan, input, kept, rejects, *, work=None, journal_seconds=10.0, threads=1, split_rows=None, split_bytes=None,
    duplicates=None, shard=0, progress=None, called=None, digests=true,
))]
#[allow(clippy::too_many_arguments)]
fn filter_shard(
    py: Python<'_>,
    plan: &PyPlan,
    input: PathBuf,
    kept: PathBuf,
    rejects: PathBuf,
    work: Option<PathBuf>,
    journal_seconds: f64,
    threads: usize,
    split_rows: Option<NonZeroU64>,
    split_bytes: Option<NonZeroU64>,
    duplicates: Option<&PyDuplicates>,
    shard: u32,
    progress: Option<Py<PyAny>>,
    called: Option<PathBuf>,
    digests: bool,
) -> PyResult<String> {
    let duplicates: Vec<_> = duplicates.map_or_else(Vec::new, |duplicates| {
        let files = &duplicates.files;
        let all = duplicates.decisions.iter();
        all.map(|decisions| Duplicates { decisions, shard, files }).collect()
    });
    let shard = Shard {
        input: &input,
        called: called.as_deref(),
        kept: &kept,
        rejects: &rejects,
        work: work.as_deref(),
        journal_interval: Duration::try_from_secs_f64(journal_seconds.max(0.0))
            .unwrap_or(Duration::MAX),
        split: Split { rows: split_rows.map(Into::into), bytes: split_bytes.map(Into::into) },
        duplicates: &duplicates,
        chunk_bytes: CHUNK_BYTES,
        digests,
        threads,
    };
    let asker = Asker::new(progress.as_ref());
    match py.detach(|| subl_engine::filter_shard(&plan.0, shard, &|state| asker.ask(state))) {
        Ok(statistics) => serde_json::to_string(&statistics)
            .map_err(|error| FilterError::new_err(error.to_string())),
        Err(error) => Err(asker.exception(&error)),
    }
}

#[pyfunction]
#[pyo3(signature = (plan, *, rejects=None, threads=1, progress=None))]
fn filter_stream(
    py: Python<'_>,
    plan: &PyPlan,
    rejects: Option<PathBuf>,
    threads: usize,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let kept = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let streams = Streams { input: &input, kept: &kept, rejects: rejects.as_deref() };
    let asker = Asker::new(progress.as_ref());
    let ask = |state| asker.ask(state);
    match py.detach(|| subl_engine::filter_stream(&plan.0, streams, threads, &ask)) {
        Ok(statistics) => serde_json::to_string(&statistics)
            .map_err(|error| FilterError::new_err(error.to_string())),
        Err(Error::Write { path, source })
            if source.kind() == io::ErrorKind::BrokenPipe && path.as_os_str() == "-" =>
        {
            Err(source.into())
        }
        Err(error) => Err(asker.exception(&error)),
    }
}

/// The lines of a shard, some at a time.
#[pyclass(module = "subl_core", frozen)]
struct Lines {
    path: PathBuf,
    source: Mutex<(Source, Decompressor)>,
    bytes_read: Arc<AtomicU64>,
}

#[pymethods]
impl Lines {
    #[new]
    fn new(py: Python<'_>, input: PathBuf) -> PyResult<Lines> {
        let source = py.detach(|| {
            if input.as_os_str() == "-" {
                let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
                return Source::of(file, &input, READ_BYTES);
            }
            Source::open(&input, READ_BYTES)
        });
        let source = source.map_err(|source| read_error(&input, source))?;
        let bytes_read = source.bytes_read();
        Ok(Lines { path: input, source: Mutex::new((source, Decompressor::default())), bytes_read })
    }

    /// The bytes read from the file so far.
    #[getter]
    fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        loop {
            py.check_signals()?;
            let next = py.detach(|| {
                let mut state = self.source.lock().unwrap_or_else(PoisonError::into_inner);
                let (source, decompressor) = &mut *state;
                let (mut buffer, mut spare) = (Vec::new(), Vec::new());
                let chunk = source.next_chunk(&mut buffer)?;
                if let Some(chunk) = &chunk {
                    decompressor.decompress(chunk, &mut buffer, &mut spare)?;
                }
                Ok((chunk.is_none(), buffer))
            });
            let (is_end, buffer) = next.map_err(|source| read_error(&self.path, source))?;
            if is_end || !buffer.is_empty() {
                return Ok(PyBytes::new(py, &buffer));
            }
        }
    }
}

/// How much is read of a shard at a time: what Python holds of it.
const READ_BYTES: usize = 1 << 20;

fn read_error(path: &Path, source: io::Error) -> PyErr {
    exception(&Error::Read { path: path.to_owned(), source })
}

#[pyfunction]
fn read_format(py: Python<'_>, input: PathBuf) -> PyResult<&'static str> {
    let format = py.detach(|| format::of_file(&input));
    Ok(match format.map_err(|source| read_error(&input, source))? {
        Format::Lines(Compression::None) => ".jsonl",
        Format::Lines(Compression::Gzip) => ".jsonl.gz",
        Format::Lines(Compression::Zstandard) => ".jsonl.zst",
        Format::Parquet => ".parquet",
    })
}

#[pyfunction]
#[pyo3(signature = (plan, input, *, split_bytes=None))]
fn check_shard(
    py: Python<'_>,
    plan: &PyPlan,
    input: PathBuf,
    split_bytes: Option<NonZeroU64>,
) -> PyResult<()> {
    let split = Split { rows: None, bytes: split_bytes.map(Into::into) };
    py.detach(|| subl_engine::check_shard(&plan.0, &input, split)).map_err(|e| exception(&e))
}

#[pyfunction]
fn read_line(py: Python<'_>, input: PathBuf, number: u64) -> PyResult<Option<Vec<u8>>> {
    py.detach(|| subl_engine::read_line(&input, number)).map_err(|error| exception(&error))
}

#[pyfunction]
fn count_rows(py: Python<'_>, input: PathBuf) -> PyResult<u64> {
    py.detach(|| subl_engine::count_rows(&input)).map_err(|error| exception(&error))
}

#[pyfunction]
fn part_name(name: OsString, part: u64) -> OsString {
    subl_engine::part_name(&name, part)
}

#[pyfunction]
fn measure_parquet(py: Python<'_>, input: PathBuf) -> PyResult<(u64, u64)> {
    py.detach(|| parquet::measure(&input)).map_err(|error| exception(&error))
}

#[pyfunction]
fn take_parquet_rows(
    py: Python<'_>,
    input: PathBuf,
    rows: Vec<u64>,
    output: PathBuf,
) -> PyResult<u64> {
    py.detach(|| parquet::take_rows(&input, &rows, &output)).map_err(|error| exception(&error))
}

/// The rows of a Parquet file as lines of JSON.
#[pyclass(name = "ParquetLines", module = "subl_core", frozen)]
struct PyParquetLines(Mutex<JsonRows>);

#[pymethods]
impl PyParquetLines {
    #[new]
    fn new(py: Python<'_>, input: PathBuf) -> PyResult<PyParquetLines> {
        let rows = py.detach(|| JsonRows::open(&input)).map_err(|error| exception(&error))?;
        Ok(PyParquetLines(Mutex::new(rows)))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(Bound<'py, PyBytes>, usize)>> {
        let next = py.detach(|| self.0.lock().map_err(|_| Error::Interrupted)?.next_lines());
        let next = next.map_err(|error| exception(&error))?;
        Ok(next.map(|(lines, rows)| (PyBytes::new(py, &lines), rows)))
    }
}

fn exception(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Read { source, .. } if source.get_ref().is_some_and(|e| e.is::<Foreign>()) => {
            FormatError::new_err(message)
        }
        Error::Read { .. } => ReadError::new_err(message),
        Error::Write { .. } => WriteError::new_err(message),
        Error::SameFile { .. }
        | Error::NotSigned
        | Error::Unfit { .. }
        | Error::OtherInput
        | Error::Interrupted => FilterError::new_err(message),
    }
}

/// The native filter engine of subl.
#[pymodule]
fn subl_core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("PlanError", module.py().get_type::<PlanError>())?;
    module.add("FilterError", module.py().get_type::<FilterError>())?;
    module.add("ReadError", module.py().get_type::<ReadError>())?;
    module.add("FormatError", module.py().get_type::<FormatError>())?;
    module.add("WriteError", module.py().get_type::<WriteError>())?;
    module.add_class::<PyPlan>()?;
    module.add_class::<PyDuplicates>()?;
    module.add_function(wrap_pyfunction!(sign_shard, module)?)?;
    module.add_function(wrap_pyfunction!(read_line, module)?)?;
    module.add_function(wrap_pyfunction!(count_rows, module)?)?;
    module.add_function(wrap_pyfunction!(part_name, module)?)?;
    module.add_function(wrap_pyfunction!(measure_parquet, module)?)?;
    module.add_function(wrap_pyfunction!(take_parquet_rows, module)?)?;
    module.add_class::<PyParquetLines>()?;
    module.add_function(wrap_pyfunction!(read_format, module)?)?;
    module.add_function(wrap_pyfunction!(check_shard, module)?)?;
    module.add_function(wrap_pyfunction!(filter_stream, module)?)?;
    module.add_class::<Lines>()?;
    module.add_class::<arrow::Matches>()?;
    module.add_function(wrap_pyfunction!(filter_shard, module)?)
}
