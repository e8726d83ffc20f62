"""A graph of stages from one TOML file: what is done is skipped, what came out is compared.

`spec` is what the file may say, `graph` its stages over its axes as nodes, `survey` where each
stands in a folder, `run` makes them, `contrasts` and `outcome` state what came out.
"""

from subl.experiment.graph import Graph, Node
from subl.experiment.load import load_experiment
from subl.experiment.machines import Machine, Outlook, machine, outlook, roomier
from subl.experiment.run import RunResult, plan, run
from subl.experiment.spec import ExperimentSpec
from subl.experiment.survey import NodeState

__all__ = [
    "ExperimentSpec",
    "Graph",
    "Machine",
    "Node",
    "NodeState",
    "Outlook",
    "RunResult",
    "load_experiment",
    "machine",
    "outlook",
    "plan",
    "roomier",
    "run",
]
