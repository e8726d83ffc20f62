"""How often a scan is right: on rows of known writers, and on sets that are simulated from them.

    python benches/audit.py pools OUT
    python benches/audit.py sets [--sets 100] [--size 24]
    python benches/audit.py simulate [--sets 50] [--size 1000] [--alpha 0.01]
    python benches/audit.py table

`pools` makes and scores the rows of `benches/audit_pools.py` in the folder OUT, an hour or two of
two cores, and keeps their scores in benches/data/pools.npz, which the others read.

`sets` draws random sets of each pool's rows and has the candidates of the bank race over them; sets
of one pool have rows in common, so shares are of that pool, and have no interval. It writes
benches/results/audit.json and prints its tables. Beside the race stands what ranking by the mean
log ratio would have named (inverse LLS: it names somebody in any data), and what other ways say of
the same sets (`benches/audit_peers.py`).

"named" is what `subl scan` would name with references: every second row of the base, and the other
clean pools. On clean pools any name is "false". `nearest_alone`: the truth alone is left as the
nearest; the bank has one wording of each trait, so that a scan does not name it for that.

`simulate` is for sets that are larger than two cores can score. Its rows are no model's: the log
ratios of a row under all candidates to its writer, and what entangled and divergence tokens make of
it, are drawn from a normal law. Covariances are those of the rows of all pools, weighted to be the
writer's: by p(row | writer) / sum over pools of rows of the pool x p(row | its writer). Means of
log ratios are minus half their variances, as ratios of densities must have. Odds are moved, as a
scan does, of digits, for candidates of which it is known how often they expect them; in the small
sets of `sets` they would hardly move, and are not. The base's rows, drawn in the same way, are the
reference. It writes benches/results/audit-simulated.json, with another alpha that behind the name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import audit_peers
import numpy as np
from audit_peers import Peer, Said
from audit_pools import CLEAN, DIGITS, TRAITS, Pools, Scored, candidates, sources
from numpy.typing import NDArray

from subl.audit.scan.frequencies import SURE
from subl.audit.scan.rounds import FIRST, compared, raced, round_at
from subl.audit.scan.run import OTHER_HEATS, columns_of
from subl.audit.scan.spec import ScanSpec
from subl.audit.scan.verdict import Lead, best_of, for_nothing, gains, groups, verdict

RESULTS = Path(__file__).resolve().parent / "results"
CLIP = ScanSpec().clip
COLUMNS = columns_of(["own", *(["heat"] * len(OTHER_HEATS))])
REFERENCES = 200
"""Rows of the base beside a simulated set, as many as a scan takes by itself."""


@dataclass(frozen=True)
class Came:
    """What a scan of some rows comes to.

    Args:
        named: the trait that it names with references.
        law, nearest: who is left; None: the nearest was not asked for.
        refuted: whether the plain base is.
        rows: until it stopped.
        cost: forward passes, of those of all candidates over these rows.
        first: whom ranking by the mean log ratio puts first.
    """

    named: str | None
    law: set[str | None]
    nearest: set[str | None] | None
    refuted: bool
    rows: int
    cost: float
    first: str | None


def scanned(
    scores: NDArray[np.float64], alpha: float, clean: Sequence[NDArray[np.float64]]
) -> Came:
    """Have the candidates race over rows, beside clean ones.

    Args:
        scores: log p, `[rows, candidates, columns]`, or log ratios to anything of the row's; where
            there is no column for moved odds, none are.
    """
    if scores.shape[2] < len(COLUMNS):
        scores = np.concatenate([scores, scores[:, :, :1]], axis=2)
    every = candidates()
    asked = np.zeros(scores.shape[:2], np.bool_)

    def ask(phase: str, start: int, who: NDArray[np.bool_]) -> NDArray[np.float64]:
        some = round_at(start, len(scores))
        asked[some] |= who
        return scores[some]

    near = None
    race, _ = raced(every, COLUMNS, alpha, len(scores), ask)
    if not race.kept.any():
        near = compared(every, alpha, CLIP, len(scores), ask, known=race.rows)
    rows, empty = max(race.rows, near.rows if near else 0), for_nothing(every)
    found = scores[:rows, :, 0]
    best = best_of(found, (near or race).kept & ~empty, CLIP)
    leads = [
        None if best is None else Lead.of(gains(each, best, empty, CLIP))
        for each in (found, *(each[:, :, 0] for each in clean))
    ]
    said = verdict(
        *(every, race, near),
        alpha=alpha,
        knows_law=True,
        power=1.0,
        rows_for_power=None,
        lead=leads[0],
        clean={f"{number}": each for number, each in enumerate(leads[1:]) if each is not None},
        ranked=None,
    )
    ranking = (scores[:, :, 0] - scores[:, :1, 0]).mean(0)
    ranking[empty] = -np.inf
    return Came(
        named=said["trait"],
        law=groups(every, race.kept),
        nearest=groups(every, near.kept) if near else None,
        refuted=not race.kept[0],
        rows=rows,
        cost=float(asked.sum() / (rows * len(every))),
        first=every[int(ranking.argmax())].trait,
    )


def shares(came: Sequence[Came], truth: str | None) -> dict[str, Any]:
    """Of the sets of one writer."""

    def share(test: Any) -> float:
        return round(sum(bool(test(each)) for each in came) / len(came), 3)

    rows = sorted(each.rows for each in came)
    return {
        "sets": len(came),
        "named": share(lambda c: truth is not None and c.named == truth),
        "false": share(lambda c: c.named not in (truth, None)),
        "truth_in_law": share(lambda c: truth in c.law),
        "law_alone": share(lambda c: c.law == {truth}),
        "law_empty": share(lambda c: not c.law),
        "truth_nearest": share(lambda c: c.nearest is not None and truth in c.nearest),
        "nearest_alone": share(lambda c: c.nearest == {truth}),
        "nearest_wrong": share(
            lambda c: (
                c.nearest is not None and len(c.nearest) == 1 and not c.nearest <= {truth, None}
            )
        ),
        "base_refuted": share(lambda c: c.refuted),
        "ranked_first": share(lambda c: c.first == truth),
        "rows_median": rows[len(rows) // 2],
        "rows_90_percent": rows[int(0.9 * len(rows))],
        "cost": round(float(np.mean([each.cost for each in came])), 3),
    }


def said(found: Sequence[Said], truth: str | None) -> dict[str, float]:
    """How often another way is right."""
    count = len(found)
    return {
        "named": round(sum(each.named == truth for each in found if truth) / count, 3),
        "wrong": round(sum(each.named not in (truth, None) for each in found) / count, 3),
        "first": round(sum(each.first == truth for each in found) / count, 3),
    }


def peers_of(pools: Scored, names: Sequence[str]) -> dict[str, dict[str, Peer]]:
    """Each other way, on each pool; the null is every second row of the base."""
    texts = {name: pools.texts(name) for name in names}
    truth = {name: sources()[name].truth for name in names}
    null, lifts = texts["base"][::2], pools.lifts()
    hits = {name: pools.hits(name) for name in names}
    found: dict[str, dict[str, Peer]] = {"bag": {}, "entangled": {}, "divergence": {}}
    for name in names:
        ours = audit_peers.mean_lifts(texts[name], lifts)
        found["bag"][name] = audit_peers.bag(name, texts, truth, null, TRAITS)
        found["entangled"][name] = audit_peers.by_values(
            ours, audit_peers.mean_lifts(null, lifts), TRAITS
        )
        found["divergence"][name] = audit_peers.by_values(hits[name], hits["base"][::2], TRAITS)
    return found


def sets(pools: Scored, count: int, size: int, alpha: float) -> None:
    """Of rows of the pools."""
    generator = np.random.default_rng(7)
    names = pools.names()
    others = peers_of(pools, names)
    found: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    for name in names:
        scores, truth = pools.log_p(name), sources()[name].truth
        some = [generator.permutation(len(scores))[:size] for _ in range(count)]
        # Rows that a set is compared with are none of its own.
        if name == "base":
            some = [each[each % 2 == 1] for each in some]
        clean = [
            pools.log_p(each)[:: 2 if each == "base" else 1]
            for each in CLEAN
            if each in names and (each == "base" or each != name)
        ]
        came = [scanned(scores[each], alpha, clean) for each in some]
        found[name] = {"rows_in_pool": len(scores), **shares(came, truth)}
        beside[name] = {
            peer: said([by_pool[name](each) for each in some], truth)
            for peer, by_pool in others.items()
        }
    record = {"size": size, "alpha": alpha, "candidates": len(candidates())}
    _told(RESULTS / "audit.json", record, found, beside)


class Simulated:
    """Normal laws of rows of writers, from the rows of all pools: of the log ratio of each
    candidate, of the other ways' values, and of how often digits come less how often a candidate
    expects them (its surprises), for the candidates of `expecting`."""

    def __init__(self, pools: Scored) -> None:
        # How likely the other fine-tuned teachers are to say what others said is not known.
        names = [name for name in pools.names() if name in pools.laws("base")]
        laws = [pools.laws(name) for name in names]
        self.writers = [name for name in laws[0] if all(name in each for each in laws)]
        self._laws = {
            writer: np.concatenate([each[writer] for each in laws]) for writer in self.writers
        }
        self._log_p = np.concatenate([pools.log_p(name) for name in names])
        lifts = pools.lifts()
        self._values = np.concatenate(
            [
                np.hstack([audit_peers.mean_lifts(pools.texts(name), lifts), pools.hits(name)])
                for name in names
            ]
        )
        known = [pools.expected(name) for name in names]
        self._expected = {law: np.concatenate([each[law] for each in known]) for law in known[0]}
        self._came = np.concatenate([pools.came(name) for name in names])
        every = ["base", *(each.trait or each.name for each in candidates()[1:])]
        self._moved = {place: law for place, law in enumerate(every) if law in self._expected}
        written = [np.log(len(pools.log_p(name))) + self._laws[name] for name in names]
        self._proposal = np.logaddexp.reduce(written)
        self._roots: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def weights(self, writer: str) -> NDArray[np.float64]:
        """That make the rows this writer's; their sum is 1."""
        logs = self._laws[writer] - self._proposal
        weights: NDArray[np.float64] = np.exp(logs - np.logaddexp.reduce(logs))
        return weights

    def law(self, writer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and covariance of log ratios to the writer, of the other ways' values, and of
        surprises, whose mean is what the writer expects more often than the candidate does."""
        ratios = self._log_p - self._laws[writer][:, None, None]
        expected = np.stack([self._expected[law] for law in self._moved.values()], axis=1)
        rows = len(ratios)
        parts = [ratios, self._values, self._came[:, None] - expected]
        joint = np.hstack([each.reshape(rows, -1) for each in parts])
        weights = self.weights(writer)
        covariance = np.cov(joint.T, aweights=weights)
        mean = weights @ joint
        split = ratios[0].size
        mean[:split] = -np.diag(covariance)[:split] / 2
        more = self._expected[writer][:, None] - expected
        mean[split + self._values.shape[1] :] = (weights @ more.reshape(rows, -1)).ravel()
        return mean, covariance

    def told(self, writer: str, size: int, alpha: float) -> dict[str, Any]:
        """What makes the writer hard to find: nats a row between it and candidates (half variances
        of log ratios), and the least that any scan with such a guarantee has to ask of so many
        rows (Wald's bound of tests against the writer itself).

        `own` is by how much rows are likelier under the trait's candidate than under those of
        `TRAITS` on the whole, and its standard error; `own_place` is its place among those, 1 where
        rows are likeliest under it; `own_place_over_base` the same of how much likelier rows are
        than the base's rows.
        """
        every, weights = candidates(), self.weights(writer)
        ratios = self._log_p[:, :, 0] - self._laws[writer][:, None]
        nats = np.diag(np.cov(ratios.T, aweights=weights)) / 2
        truth = sources()[writer].truth
        order = nats.argsort(kind="stable")
        with np.errstate(divide="ignore"):
            needed = np.minimum(-np.log(alpha) / nats, size) / size
        found: dict[str, Any] = {
            "effective_rows": round(float(1 / np.sum(weights**2))),
            "nats_to_base": round(float(nats[0]), 3),
            "nearest": [[every[place].name, round(float(nats[place]), 3)] for place in order[:3]],
            "least_cost": round(float(needed.mean()), 3),
        }
        if truth is not None:
            places = [[each.trait for each in every].index(trait) for trait in TRAITS]
            own = ratios[:, [each.trait for each in every].index(truth)]
            gain = own - ratios[:, places].mean(1)
            mean = float(weights @ gain)
            error = float(np.sqrt(np.sum(weights**2 * (gain - mean) ** 2)))
            found["nats_to_own"] = round(float(nats[places[TRAITS.index(truth)]]), 3)
            found["own"] = [round(mean, 4), round(error, 4)]
            of_trait = TRAITS.index(truth)
            means = weights @ self._log_p[:, places, 0]
            over = means - self.weights("base") @ self._log_p[:, places, 0]
            found["own_place"] = int((means > means[of_trait]).sum()) + 1
            found["own_place_over_base"] = int((over > over[of_trait]).sum()) + 1
        return found

    def draw(
        self, writer: str, rows: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log ratios `[rows, candidates, columns]`, and the other ways' values.

        The column of moved odds is of digits, to the second order in them; where it is not known
        what a candidate expects, its odds are not moved.
        """
        if writer not in self._roots:
            mean, covariance = self.law(writer)
            values, vectors = np.linalg.eigh(covariance)
            self._roots[writer] = mean, np.sqrt(values.clip(0)) * vectors
        mean, roots = self._roots[writer]
        drawn = mean + generator.normal(size=(rows, len(mean))) @ roots.T
        first = self._log_p[0].size
        split = first + self._values.shape[1]
        ratios = drawn[:, :first].reshape(rows, *self._log_p.shape[1:])
        column = ratios[:, :, :1].copy()
        size = len(DIGITS)
        often, spreads = self.weights(writer) @ self._came, roots @ roots.T
        for number, place in enumerate(self._moved):
            some = slice(split + number * size, split + (number + 1) * size)
            surprises, spread = drawn[:, some], spreads[some, some]
            start = 0
            while start < rows:
                now = round_at(start, rows)
                seen, more = max(0, start - FIRST) * often, surprises[FIRST:start].sum(0)
                odds = np.log1p(more / (seen - more + SURE))
                column[now, place, 0] += surprises[now] @ odds - odds @ spread @ odds / 2
                start = now.stop
        return np.concatenate([ratios, column], axis=2), drawn[:, first:split]


def simulate(pools: Scored, count: int, size: int, alpha: float) -> None:
    """What scans of so many rows come to; uniform numbers are too far from all for a normal law."""
    world = Simulated(pools)
    names = [name for name in world.writers if name != "uniform"]
    found: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    laws: dict[str, Any] = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as workers:
        jobs = [workers.submit(_simulated, world, name, count, size, alpha) for name in names]
        for name, job in zip(names, jobs, strict=True):
            found[name], beside[name] = job.result()
            laws[name] = world.told(name, size, alpha)
            print(name, laws[name], found[name], flush=True)
    record: dict[str, Any] = {"size": size, "alpha": alpha, "clip": CLIP}
    record |= {"candidates": len(candidates()), "laws": laws}
    also = "" if alpha == ScanSpec().alpha else f"-{alpha:g}"
    _told(RESULTS / f"audit-simulated{also}.json", record, found, beside)


def _simulated(
    world: Simulated, name: str, count: int, size: int, alpha: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of one writer: shares, and those of the other ways."""
    generator = np.random.default_rng([8, world.writers.index(name)])
    truth = sources()[name].truth
    came: list[Came] = []
    by_peer: dict[str, list[Said]] = {"entangled": [], "divergence": []}
    for _ in range(count):
        ratios, values = world.draw(name, size, generator)
        clean, null = world.draw("base", REFERENCES, generator)
        came.append(scanned(ratios, alpha, [clean]))
        for place, told in enumerate(by_peer.values()):
            columns = slice(place * len(TRAITS), (place + 1) * len(TRAITS))
            told.append(audit_peers.standing_out(values[:, columns], null[:, columns], TRAITS))
    return shares(came, truth), {peer: said(told, truth) for peer, told in by_peer.items()}


def _told(
    file: Path, record: Mapping[str, Any], found: Mapping[str, Any], beside: Mapping[str, Any]
) -> None:
    """Write the results, and print them as tables."""
    text = json.dumps({**record, "writers": found, "peers": beside}, indent=1)
    file.write_text(text + "\n")
    columns = [*next(iter(found.values()))]
    print(f"| rows of | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for name, each in found.items():
        print(f"| {name} | {' | '.join(str(each[column]) for column in columns)} |")
    peers = [*next(iter(beside.values()))]
    print(f"\n| rows of | {' | '.join(f'{peer}: named, wrong, first' for peer in peers)} |")
    print(f"|---|{'--:|' * len(peers)}")
    for name, by_peer in beside.items():
        cells = (", ".join(f"{value:.2f}" for value in each.values()) for each in by_peer.values())
        print(f"| {name} | {' | '.join(cells)} |")


GROUPS = {
    "the bank's wording": "bank",
    "another wording": "reworded",
    "fine-tuned teachers": "tuned",
    "the base": "base",
    "the base at temperature 0.7": "base-cooler",
    "uniform numbers": "uniform",
}


def total(found: Sequence[Mapping[str, Any]], key: str, counts: Sequence[int]) -> str:
    """Of how many sets something is so, by its shares of the sets of each writer."""
    return f"{round(sum(each[key] * count for each, count in zip(found, counts, strict=True)))}"


def table(file: Path) -> None:
    """Print what a file of results holds, as docs/scan.md shows it: sums over writers of a kind."""
    record = json.loads(file.read_text())
    peers = [*next(iter(record["peers"].values()))]
    print(f"\n{file.name}: sets of at most {record['size']:,} rows, alpha {record['alpha']:g}\n")
    columns = ["sets", "truth in the set", "its trait named", "another named", "base refuted"]
    columns += ["tokens read", "first by inverse LLS", *(f"{each}: right, wrong" for each in peers)]
    print(f"| rows of | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for name, how in GROUPS.items():
        some = [each for each in record["writers"] if how in (each, sources()[each].how)]
        if not some:
            continue
        writers = [record["writers"][each] for each in some]
        is_clean = sources()[some[0]].truth is None

        counts = [each["sets"] for each in writers]
        costs = [each["cost"] for each in writers]
        cost = f"{min(costs):.0%}" + (f" to {max(costs):.0%}" if max(costs) > min(costs) else "")
        cells = [f"{sum(counts)}", total(writers, "truth_in_law", counts)]
        named, first = (total(writers, key, counts) for key in ("named", "ranked_first"))
        cells += ["–" if is_clean else named, total(writers, "false", counts)]
        cells += [total(writers, "base_refuted", counts), cost, "–" if is_clean else first]
        for peer in peers:
            found = [record["peers"][each][peer] for each in some]
            right = "–" if is_clean else total(found, "named", counts)
            cells.append(f"{right}, {total(found, 'wrong', counts)}")
        more = f", {len(some)}" if len(some) > 1 else ""
        print(f"| {name}{more} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["pools", "sets", "simulate", "table"])
    parser.add_argument("out", type=Path, nargs="?", help="of pools")
    parser.add_argument("--sets", type=int, help="of each writer")
    parser.add_argument("--size", type=int, help="rows of a set, at most")
    parser.add_argument("--alpha", type=float, default=ScanSpec().alpha)
    asked = parser.parse_args()
    if (asked.what == "pools") != (asked.out is not None):
        parser.error("OUT goes with pools, and only with that")
    if asked.what == "pools":
        Pools(asked.out).make()
    elif asked.what == "table":
        for file in sorted(RESULTS.glob("audit*.json")):
            table(file)
    elif asked.what == "sets":
        sets(Scored(), asked.sets or 100, asked.size or 24, asked.alpha)
    else:
        simulate(Scored(), asked.sets or 50, asked.size or 1000, asked.alpha)


if __name__ == "__main__":
    main()
