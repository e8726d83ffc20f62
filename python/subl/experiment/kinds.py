"""Every kind of configuration file and its model."""

from __future__ import annotations

from pydantic import BaseModel

from subl.distill import CacheSpec, DistillSpec
from subl.evaluate import EvalSpec
from subl.experiment.spec import ExperimentSpec
from subl.filter import FilterSpec
from subl.generate import GenerateSpec
from subl.teach import TeachSpec

KINDS: dict[str, type[BaseModel]] = {
    "experiment": ExperimentSpec,
    "teach": TeachSpec,
    "generate": GenerateSpec,
    "filter": FilterSpec,
    "distill": DistillSpec,
    "cache": CacheSpec,
    "eval": EvalSpec,
}
