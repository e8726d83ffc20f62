"""Completions of prompts from a model: what all stages share that have a model say something.

`backend` is what they know; how a model of one's own is sampled from is `local`, and the files
below it.
"""

from subl.sample.backend import Answer, Backend, Request, Requests, Sampling

__all__ = ["Answer", "Backend", "Request", "Requests", "Sampling"]
