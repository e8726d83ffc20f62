"""A rank that trains several jobs one after another: a launch costs more than a tiny run.

torchrun runs this file; test_run gives it the jobs. All ends as the worker's ranks end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from subl.cluster.launch import die_with_parent
from subl.train.loop import TrainJob, train

if __name__ == "__main__":
    die_with_parent()
    for file in sys.argv[1:]:
        train(TrainJob.model_validate_json(Path(file).read_text()))
    torch.distributed.destroy_process_group()
