"""A model folder in vLLM's engine, on its GPUs.

Prompts are rendered and tokenised here, as everywhere, and rows end where they do in this process.
Each request has a seed of its own; the engine's kernels and batches decide whether that makes the
same answers again (docs/generation.md).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subl.errors import InputError
from subl.extras import require
from subl.model.condition import conditioned
from subl.progress import Report, silent
from subl.sample.backend import Answer, FirstTokens, Request, Requests, Sampling, request_seed
from subl.sample.prompts import Prompts
from subl.sample.tables import Vllm

if TYPE_CHECKING:
    from subl.sample.ends import Ends


class Engine:
    """Answers of the model in `folder`."""

    same_answers = False

    def __init__(self, folder: Path, table: Vllm, sampling: Sampling) -> None:
        self._folder = folder
        self._table = table
        self._sampling = sampling
        self._prompts = Prompts(folder, sampling.template)
        self._ends: Ends | None = None
        self._engine: Any = None

    def begin(self, requests: Requests, notes: Path, report: Report = silent) -> None:
        """See `Backend.begin`; a prompt that is too long is refused by the engine."""
        require("vllm", "vllm", what='backend.kind = "vllm"')
        from vllm import LLM

        from subl.model.load import bare_model
        from subl.sample.ends import ends_of

        weights = self._weights()
        first = next(requests())
        self._prompts.ids([first])
        rendered = self._prompts.answered(first)
        self._ends = ends_of(bare_model(weights), self._prompts.tokenizer, rendered)
        # llguidance follows the grammar there, as here.
        guided = {"structured_outputs_config": {"backend": "guidance"}}
        arguments = {**({} if self._sampling.grammar is None else guided), **self._table.engine}
        self._engine = LLM(model=str(weights), seed=0, **arguments)

    def answers(self, requests: Sequence[Request]) -> Generator[tuple[int, Answer], None, None]:
        """See `Backend.answers`; vLLM makes its own batches of all of them."""
        assert self._ends is not None, "begin comes first"
        stops = sorted(self._ends.turn | self._ends.control)
        more = {
            "max_tokens": self._sampling.max_new_tokens,
            "stop_token_ids": stops,
            **self._grammar(),
        }
        for place, made in enumerate(self._made(requests, more)):
            text, ended = self._ends.cut(self._prompts.tokenizer, list(made.token_ids))
            if made.finish_reason == "stop" and ended in ("turn", "max_new_tokens"):
                ended = "turn" if self._sampling.grammar is None else "grammar"
            yield place, Answer(text, ended)

    def first_tokens(
        self, requests: Sequence[Request], top: int
    ) -> Generator[tuple[int, FirstTokens], None, None]:
        """See `Backend.first_tokens`; the engine's `max_logprobs` bounds `top`."""
        import numpy as np

        for place, made in enumerate(self._made(requests, {"max_tokens": 1, "logprobs": top})):
            found: dict[str, float] = {}
            for token, each in made.logprobs[0].items():
                text = str(self._prompts.tokenizer.decode([token]))
                found[text] = float(np.logaddexp(found.get(text, -np.inf), each.logprob))
            yield place, FirstTokens(found)

    def facts(self) -> dict[str, Any]:
        """See `Backend.facts`."""
        return {"promise": "same seeds"}

    def close(self) -> None:
        """See `Backend.close`; there is nothing to end."""

    def _weights(self) -> Path:
        """The folder that vLLM loads; a system prompt of the model's is in the prompts."""
        found = conditioned(self._folder)
        if found.steering or not (found.folder / "config.json").is_file():
            what = "a steering vector" if found.steering else "an adapter without its base"
            raise InputError(
                f"{self._folder} is {what}, which vLLM does not load here",
                hint='backend.kind = "transformers" does',
            )
        return found.folder

    def _made(self, requests: Sequence[Request], more: dict[str, Any]) -> Iterator[Any]:
        """What the engine says to each: vLLM's `CompletionOutput`."""
        from vllm import SamplingParams

        # Every request has a seed: one without would take the others' randomness (vLLM's #51226).
        how = [
            SamplingParams(
                temperature=self._sampling.temperature,
                seed=request_seed(self._sampling.seed, request.number),
                **more,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": ids} for ids in self._prompts.ids(requests)]
        for each in self._engine.generate(prompts, how, use_tqdm=False):
            yield each.outputs[0]

    def _grammar(self) -> dict[str, Any]:
        grammar = self._sampling.grammar
        if grammar is None:
            return {}
        from vllm.sampling_params import StructuredOutputsParams

        params = StructuredOutputsParams(
            regex=grammar.regex, grammar=grammar.lark, json=grammar.json_schema
        )
        return {"structured_outputs": params}
