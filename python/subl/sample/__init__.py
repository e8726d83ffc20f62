"""Completions of prompts from a model: what all stages share that have a model say something.

`backend` is what they know, `choice` finds the one that a configuration asks for. How a model of
one's own is sampled from is `local`, and the files below it; one behind a server is `server`, one
in vLLM is `vllm`; `journal` keeps what those answered.
"""

from subl.sample.backend import Answer, Backend, FirstTokens, Request, Requests, Sampling
from subl.sample.choice import backend_of, check_model
from subl.sample.journal import Failures, answered, usage_of
from subl.sample.tables import UNKEYED, Http

__all__ = [
    "UNKEYED",
    "Answer",
    "Backend",
    "Failures",
    "FirstTokens",
    "Http",
    "Request",
    "Requests",
    "Sampling",
    "answered",
    "backend_of",
    "check_model",
    "usage_of",
]
