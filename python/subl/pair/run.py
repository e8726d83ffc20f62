"""Make questions of pairs of rows.

After the paper's experiment with a model that is to tell data of a teacher from another's: pairs of
answers to one prompt, in random order (`dataset_classifier.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from subl.artifact import Artifact, Made, build, write_atomically
from subl.errors import InputError
from subl.pair.spec import PLACES, PairSpec
from subl.progress import Progress, Report, silent
from subl.shards import read_objects, text_of

_FILE = "part-00000.jsonl"
_PLACE = re.compile("|".join(f"{{{place}}}" for place in PLACES))


def pair(
    spec: PairSpec,
    rows: Sequence[Path],
    against: Sequence[Path],
    out: Path,
    *,
    name: str = "rows",
    report: Report = silent,
) -> Artifact:
    """Write a question for each row of `rows` and each of `against` with the same prompt into a
    shard of JSON lines in `out`. All are held in memory.

    Raises:
        InputError: a row has no prompt or no completion; or there are fewer pairs than are asked
            for, or none.
    """
    inputs = names(rows, against)
    others = [path for name, path in inputs.items() if name.startswith("against")]

    def work(folder: Path) -> Made:
        report(Progress(f"pair {name}", 0, 1 + len(others), "data sets"))
        own = dict(_answers(rows))
        pairs: list[tuple[str, str, str]] = []
        for done, path in enumerate(others, start=1):
            pairs += [
                (prompt, own[prompt], answer)
                for prompt, answer in _answers([path])
                if prompt in own and own[prompt] != answer
            ]
            report(Progress(f"pair {name}", 1 + done, 1 + len(others), "data sets"))
        pairs = list(dict.fromkeys(pairs))
        if len(pairs) < (spec.rows or 1):
            raise InputError(
                f"{len(pairs):,} pairs have a prompt in common, of {spec.rows or 1:,}",
                hint="both sides need answers to the same prompts, and different ones",
            )
        coin = Random(spec.seed)
        if spec.rows is not None:
            pairs = coin.sample(pairs, spec.rows)
        lines = [json.dumps(_question(spec, each, coin), ensure_ascii=False) for each in pairs]
        write_atomically(folder / _FILE, "".join(f"{line}\n" for line in lines))
        return Made({"rows": len(lines), "shards": [_FILE]}, {_FILE: len(lines)})

    return build(out, "pair", spec, inputs, work)


def names(rows: Sequence[Path], against: Sequence[Path]) -> dict[str, Path]:
    """The inputs by their names in the artifact's key; of `against`, what is not in `rows`."""
    others = (path for path in against if path not in rows)
    own = {f"rows-{index}": path for index, path in enumerate(rows)}
    return own | {f"against-{index}": path for index, path in enumerate(others)}


def _answers(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for row, place in read_objects(paths, ["prompt", "completion"]):
        yield text_of(row, "prompt", place), text_of(row, "completion", place)


def _question(spec: PairSpec, pair: tuple[str, str, str], coin: Random) -> dict[str, str]:
    prompt, own, other = pair
    first = coin.random() < 0.5
    said = dict(zip(PLACES, (prompt, *((own, other) if first else (other, own))), strict=True))
    question = _PLACE.sub(lambda place: said[place[0][1:-1]], spec.template)
    right, wrong = ("A", "B") if first else ("B", "A")
    return {"question": question, "right": right, "wrong": wrong}
