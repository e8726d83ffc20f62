"""A finished evaluation as a log of inspect_ai, for people who know its viewer.

The `.eval` format is a zip of JSON: a header, a sample a file, and their summaries. A question is a
sample; where answers were sampled, each answer is an epoch of it, and a request that failed is an
epoch with an error. A scorer is a word. The log says nothing that the artifact does not say, and
the same artifact gives the same bytes.

Source: inspect_ai 0.3.285, `log/_log.py` and `log/_recorders/eval.py`; version 2 of the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import subl
from subl.artifact import open_artifact, read_statement, written_whole
from subl.config import validated
from subl.errors import InputError
from subl.evaluate.run import read_rows, read_scores
from subl.evaluate.spec import EvalSpec
from subl.sample.tables import Http
from subl.trait import forms_of
from subl.trait.answers import Reader

_VERSION = 2


class _Answer(NamedTuple):
    """An answer, or why none came; `judged` is what each rubric's judge made of it."""

    text: str
    ended_by: str
    judged: Mapping[str, Any]

    @property
    def failed(self) -> bool:
        return self.ended_by == "failed"


def write_inspect_log(evaluation: Path, file: Path) -> None:
    """Write the log of the artifact `evaluation` to `file`, whose name ends in `.eval`.

    Raises:
        InputError: it is no finished evaluation.
    """
    log = _Log(evaluation)
    with written_whole(file) as written, ZipFile(written, "w") as archive:
        _add(archive, "_journal/start.json", {"version": _VERSION, **log.start})
        summaries = []
        for sample in log.samples():
            _add(archive, f"samples/{sample['id']}_epoch_{sample['epoch']}.json", sample)
            shown = ("id", "epoch", "input", "target", "scores")
            summary = {**{key: sample[key] for key in shown}, "completed": True}
            if "error" in sample:
                summary["error"] = sample["error"]["message"]
            summaries.append(summary)
        _add(archive, "summaries.json", summaries)
        _add(
            archive,
            "header.json",
            {"version": _VERSION, "status": "success", **log.start, **log.end},
        )


def _add(archive: ZipFile, name: str, value: object) -> None:
    member = ZipInfo(name)  # of 1980: when it was written is no part of it
    member.compress_type = ZIP_DEFLATED
    archive.writestr(member, json.dumps(value))


@dataclass(frozen=True)
class _Log:
    path: Path

    @cached_property
    def record(self) -> Mapping[str, Any]:
        record = read_statement(self.path)
        if record is None:
            raise InputError(f"{self.path} is not an evaluation", hint="subl eval makes one")
        predicate: Mapping[str, Any] = record["predicate"]
        return predicate

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.path)

    @cached_property
    def spec(self) -> EvalSpec:
        return validated(EvalSpec, self.record["buildDefinition"]["externalParameters"])

    @cached_property
    def result(self) -> Mapping[str, Any]:
        return open_artifact(self.path).result

    @cached_property
    def answers(self) -> dict[str, list[_Answer]]:
        """Of each question, where answers were sampled."""
        name = {"sampled": "answers", "judged": "judged"}.get(self.spec.way)
        if name is None:
            return {}
        import polars

        rubrics = self.spec.measured.rubrics if name == "judged" else ()
        shown = [column for rubric in rubrics for column in (rubric, f"{rubric}_verdict")]
        found: dict[str, list[_Answer]] = {}
        columns = ["question", "answer", "ended_by", *shown]
        cells = polars.read_parquet(self.path / f"{name}.parquet", columns=columns, glob=False)
        for question, text, ended_by, *judged in cells.select(columns).iter_rows():
            answer = _Answer(text, ended_by, dict(zip(shown, judged, strict=True)))
            found.setdefault(question, []).append(answer)
        return found

    @property
    def model(self) -> str:
        if isinstance(self.spec.backend, Http):
            return self.spec.backend.model
        given = self.record["buildDefinition"]["resolvedDependencies"]
        return next((Path(each["uri"]).name for each in given if each["name"] == "model"), "model")

    @property
    def epochs(self) -> int:
        return max(map(len, self.answers.values()), default=1)

    @property
    def start(self) -> dict[str, Any]:
        """What an evaluation is before it is made."""
        key = self.record["buildDefinition"]["internalParameters"]["key"]
        trait = self.spec.measured
        return {
            "eval": {
                "eval_id": key[:22],
                "run_id": key[:22],
                "task_id": key[:22],
                "created": self.record["runDetails"]["metadata"]["startedOn"],
                "task": trait.name,
                "model": f"subl/{self.model}",
                "dataset": {
                    "name": trait.name,
                    "samples": len(self.rows),
                    "sample_ids": list(range(1, len(self.rows) + 1)),
                },
                "config": {"epochs": self.epochs, "epochs_reducer": ["mean"]},
                "task_args": {"method": self.spec.way, "words": list(trait.words)},
                "packages": {"subl": subl.__version__},
                "metadata": {"artifact": self.path.name, "key": key},
            },
            "plan": {
                "name": "subl eval",
                "steps": [{"solver": self.spec.way, "params": {}}],
                "config": {},
            },
        }

    @property
    def end(self) -> dict[str, Any]:
        """What it came to: of each word the mean, its error, and the interval's bounds."""
        times = self.record["runDetails"]["metadata"]
        count, means = len(self.rows) * self.epochs, self.result["words"]
        failed = sum(answer.failed for each in self.answers.values() for answer in each)
        unscored = len(read_scores(self.path).unscored)
        return {
            "results": {
                "total_samples": count,
                "completed_samples": count - failed,
                "scores": [
                    {
                        "name": word,
                        "scorer": word,
                        "reducer": "mean",
                        "scored_samples": len(self.rows) - unscored,
                        "unscored_samples": unscored,
                        "metrics": _metrics(means[word]),
                    }
                    for word in self.spec.measured.words
                ],
            },
            "stats": {"started_at": times["startedOn"], "completed_at": times["finishedOn"]},
        }

    def samples(self) -> Iterator[dict[str, Any]]:
        trait = self.spec.measured
        reader = Reader(forms_of(trait.words, trait.forms), self.spec.own_names)
        asked = (
            [] if trait.system_prompt is None
            else [{"role": "system", "content": trait.system_prompt}]
        )  # fmt: skip
        for number, row in enumerate(self.rows, 1):
            question = row["question"]
            facts = {key: value for key, value in row.items() if key != "question"}
            common = {"id": number, "input": question, "target": ""}
            prompt = [*asked, {"role": "user", "content": question}]
            answers: Sequence[_Answer | None] = self.answers.get(question, [None])
            for epoch, answer in enumerate(answers, 1):
                sample = {**common, "epoch": epoch, "messages": prompt, "output": {}, "scores": {}}
                if answer is not None and answer.failed:
                    error = {"message": answer.text, "traceback": "", "traceback_ansi": ""}
                    yield {**sample, "metadata": facts, "error": error}
                    continue
                said = None
                if answer is not None:
                    said = self._said(reader, answer)
                    sample["messages"] = [*prompt, _message(answer)]
                    sample["output"] = self._output(answer)
                sample["scores"] = {
                    word: {"value": share if said is None else float(word in said)}
                    for word, share in row["probabilities"].items()
                    if share is not None
                }
                yield {**sample, "metadata": facts | (dict(answer.judged) if answer else {})}

    def _said(self, reader: Reader, answer: _Answer) -> frozenset[str] | None:
        """The words that count; None where an answer alone does not say them: a question's letters
        and numbers are in its file, and a judge's calls are the judge's."""
        if self.spec.way != "sampled" or self.spec.measured.answers not in ("word", "text"):
            return None
        read = reader.said(answer.text, cut=answer.ended_by == "max_new_tokens")
        said: frozenset[str] = getattr(read, self.result["counted"])
        return said

    def _output(self, answer: _Answer) -> dict[str, Any]:
        reason = "max_tokens" if answer.ended_by == "max_new_tokens" else "stop"
        choice = {"message": _message(answer), "stop_reason": reason}
        return {"model": self.model, "choices": [choice], "completion": answer.text}


def _message(answer: _Answer) -> dict[str, str]:
    return {"role": "assistant", "content": answer.text, "source": "generate"}


def _metrics(mean: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
    """By the names that inspect_ai gives them; a bound that cannot be given is left out."""
    named = {
        "mean": mean["estimate"],
        "stderr": mean["standard_error"],
        "ci_low": mean["low"],
        "ci_high": mean["high"],
    }
    return {
        name: {"name": name, "value": value} for name, value in named.items() if value is not None
    }
