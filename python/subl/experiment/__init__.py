"""The chain: one TOML file to a measured transmission.

For each trait: teach -> generate -> filter -> distill; then eval of the base, every teacher and
every student; then the verdict and the report. What is done is skipped.
"""

from subl.experiment.chain import RunResult, plan, run
from subl.experiment.spec import ExperimentSpec, load_experiment

__all__ = ["ExperimentSpec", "RunResult", "load_experiment", "plan", "run"]
