"""What an experiment compares: declared contrasts as pairs of evaluations, and what came out. Pure.

A contrast compares the treated stage's models with a control's at every point of their axes. Axes
that are `paired` (seeds) are repetitions of one comparison; the others make one each. An effect
counts where its interval excludes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from subl.config import meant
from subl.errors import ConfigError
from subl.evaluate import (
    Comparison,
    EvalSpec,
    Measure,
    Scores,
    adjusted,
    compare,
    difference,
    level,
    log_odds,
    probability,
)
from subl.experiment.graph import Graph, Node
from subl.experiment.spec import (
    OTHERS,
    Contrast,
    Point,
    Points,
    Ref,
    Scalar,
    filled,
    label,
    value_of,
)


@dataclass(frozen=True)
class Planned:
    """One comparison of a contrast: the evaluations of `treated` and of its control, a pair for
    each repetition. `point`: the treated model's, of all axes but those; `group`, what that of the
    first axis is called."""

    contrast: Contrast
    word: str
    against: tuple[str, ...]
    names: tuple[str, str | None]
    point: Mapping[str, Scalar]
    group: str | None
    treated: tuple[Node, ...]
    control: tuple[Node, ...]

    @property
    def measure(self) -> Measure:
        match self.contrast.measure:
            case "log-odds":
                return log_odds(self.word, self.against)
            case "difference":
                return difference(self.word)
            case _:
                return probability(self.word)


@dataclass(frozen=True)
class Effect:
    """What came out of a planned comparison. `met` is None where nothing was expected."""

    contrast: str
    point: Mapping[str, Scalar]
    group: str | None
    word: str
    comparison: Comparison
    met: bool | None


@dataclass(frozen=True)
class Finding:
    """One statement in words, its figure, and whether what was expected came out."""

    text: str
    figure: str
    met: bool | None


def repeated(graph: Graph, contrast: Contrast) -> tuple[str, ...]:
    """The axes whose points are repetitions."""
    if contrast.paired is None:
        return tuple(axis for axis in graph.spec.axes if axis == "seed")
    return contrast.paired


def planned(graph: Graph) -> list[Planned]:
    """Every comparison that an experiment's contrasts ask for.

    Raises:
        ConfigError: one names what there is not.
    """
    found = []
    for contrast in graph.spec.contrasts:
        try:
            comparisons = _distinct(_of_contrast(graph, contrast))
            if not comparisons:
                raise ConfigError("it compares nothing: each control is what is treated, or none")
            found += comparisons
        except ConfigError as error:
            message = f"contrast `{contrast.name}`: {error.message}"
            raise ConfigError(message, hint=error.hint) from error
    return found


def _distinct(found: Iterator[Planned]) -> list[Planned]:
    """Each once; owl against cat is cat against owl."""
    kept: dict[frozenset[tuple[tuple[Node, ...], tuple[str, ...]]], Planned] = {}
    for each in found:
        sides = ((each.treated, (each.word,)), (each.control, each.against))
        kept.setdefault(frozenset(sides), each)
    return list(kept.values())


def _of_contrast(graph: Graph, contrast: Contrast) -> Iterator[Planned]:
    evaluation = _evaluation(graph, contrast.evaluation)
    paired = repeated(graph, contrast)
    for axis in paired:
        if axis not in graph.spec.axes:
            raise ConfigError(f"paired: no axis `{axis}`")
    graph.check_placeholders([contrast.word, *(contrast.against or ())], "word, against")
    treated = _checked(graph, evaluation, contrast.treated)
    fixed = {axis: graph.points_called(axis, value) for axis, value in treated.further.items()}
    varied = [axis for axis in graph.axes(evaluation, treated.stage) if axis not in paired]
    choices = [fixed.get(axis, graph.spec.axes[axis]) for axis in varied]
    for values in product(*choices):
        point = dict(zip(varied, values, strict=True))
        for control in contrast.controls:
            if control is None:
                yield _plan(graph, contrast, evaluation, (treated, point), None, paired)
                continue
            control = _checked(graph, evaluation, control)
            for other in _controls(graph, control, point):
                made = _plan(
                    graph, contrast, evaluation, (treated, point), (control, other), paired
                )
                if made.treated != made.control:  # a control has nothing to be compared with
                    yield made


def _plan(
    graph: Graph,
    contrast: Contrast,
    evaluation: str,
    treated: tuple[Ref, Points],
    control: tuple[Ref, Points] | None,
    paired: tuple[str, ...],
) -> Planned:
    sides = [treated] if control is None else [treated, control]
    axes = [graph.axes(evaluation, ref.stage) for ref, _ in sides]
    for (ref, point), known in zip(sides, axes, strict=True):
        if missing := set(known) - {*point, *paired}:
            axis = min(missing)
            raise ConfigError(
                f"{ref.stage} varies over {axis}, and nothing says at which point it is meant",
                hint=f'give it: {{ stage = "{ref.stage}", {axis} = ... }}',
            )
    own = {axis for known in axes for axis in known}
    repetitions = {
        axis: graph.points_called(axis, treated[0].further[axis])
        if axis in treated[0].further
        else graph.spec.axes[axis]
        for axis in graph.spec.axes
        if axis in own and axis in paired
    }
    # A control that is given a seed has that one in every pair.
    fixed = {} if control is None else {axis: control[1][axis] for axis in control[0].further}
    rows = []
    for at in product(*repetitions.values()):
        pair = dict(zip(repetitions, at, strict=True))
        places = [{**treated[1], **pair}]
        places += [] if control is None else [{**control[1], **pair, **fixed}]
        rows.append(
            tuple(
                graph.node(evaluation, place, ref.stage)
                for (ref, _), place in zip(sides, places, strict=True)
            )
        )
    nodes = list(zip(*dict.fromkeys(rows), strict=True))  # what no seed changes is no repetition
    names = [_name(found, paired, graph) for found in nodes]
    meant: dict[str, Scalar | Point] = dict(treated[1])
    if control is not None:
        values = {axis: value_of(each) for axis, each in control[1].items() if axis in axes[1]}
        meant["control"] = Point.model_validate({"name": names[1], **values})
    word, against = _words(graph, contrast, meant, nodes[0][0])
    first = next(iter(graph.spec.axes), None)
    group = treated[1].get(first) if first is not None else None
    return Planned(
        contrast,
        word,
        against,
        (names[0], names[1] if control is not None else None),
        {axis: value_of(each) for axis, each in treated[1].items()},
        None if first is None or group is None else label(first, group),
        nodes[0],
        nodes[1] if control is not None else (),
    )


def _words(
    graph: Graph, contrast: Contrast, places: Points, node: Node
) -> tuple[str, tuple[str, ...]]:
    assert isinstance(node.spec, EvalSpec)
    known = node.spec.measured.words
    word = _word(contrast.word, places)
    if contrast.against is not None:
        against = tuple(_word(each, places) for each in contrast.against)
    else:
        points = {str(value_of(p)) for points in graph.spec.axes.values() for p in points}
        against = tuple(each for each in known if each not in points and each != word)
    asked = (word, *(against if contrast.measure == "log-odds" else ()))
    if missing := [each for each in asked if each not in known]:
        raise ConfigError(
            f"{node.stage} does not score the word {missing[0]!r}",
            hint=f"add it to stages.{node.stage}.words, or leave out the points whose words it "
            'does not score: treated (or control) = { stage = "...", trait = ["owl", "cat"] }',
        )
    if contrast.measure == "log-odds" and (not against or word in against):
        raise ConfigError(f"log-odds of {word!r} need other words to be against")
    return word, against


def _word(text: str, places: Points) -> str:
    value = filled([text], places)
    if not value:
        raise ConfigError(f"{text} stands for nothing here: who is meant does not vary over it")
    return str(value[0])


def _evaluation(graph: Graph, name: str | None) -> str:
    """The evaluation that a contrast reads: the one that it names, or the only one."""
    known = [each for each, table in graph.spec.stages.items() if table.kind == "eval"]
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        raise ConfigError(
            "no evaluation to read" if name is None else f"no evaluation `{name}`",
            hint=f"evaluations are: {', '.join(known)}" if known else "add a stage of kind eval",
        )
    return name


def _checked(graph: Graph, evaluation: str, ref: Ref) -> Ref:
    """A reference to models that the evaluation is done on."""
    known = [each for each in graph.variants(evaluation) if each is not None]
    table = graph.spec.stages[evaluation]
    if not known and "model" in table.inputs:
        raise ConfigError(
            f"{evaluation} is done on one stage",
            hint='list what it is done on: inputs = { model = ["base", "student"] }',
        )
    if ref.stage not in known:
        raise ConfigError(
            f"{evaluation} is not done on `{ref.stage}`", hint=f"it is on: {', '.join(known)}"
        )
    for axis in ref.further:
        if axis not in graph.spec.axes:
            raise ConfigError(f"no axis `{axis}`{meant(axis, graph.spec.axes)}")
        if axis not in graph.axes(evaluation, ref.stage):
            raise ConfigError(f"{ref.stage} does not vary over {axis}")
    return ref


def _controls(graph: Graph, control: Ref, point: Points) -> Iterator[dict[str, Scalar | Point]]:
    """The points that a control has beside a treated model's."""
    choices: dict[str, tuple[Scalar | Point, ...]] = {}
    for axis, value in control.further.items():
        if value == OTHERS:
            if axis not in point:
                raise ConfigError(f'{axis} = "{OTHERS}": the treated models do not vary over it')
            others = [each for each in graph.spec.axes[axis] if each != point[axis]]
            choices[axis] = tuple(others)
        else:
            choices[axis] = graph.points_called(axis, value)
    for values in product(*choices.values()):
        yield {**point, **dict(zip(choices, values, strict=True))}


def _name(side: tuple[Node, ...], repeated: tuple[str, ...], graph: Graph) -> str:
    """What a side of a comparison is called: its model, without what it is repeated over."""
    models = list(dict.fromkeys(source for node in side for source in node.sources))
    first = models[0]
    if len(models) == 1:
        return first.name
    rest = {axis: point for axis, point in first.point.items() if axis not in repeated}
    return graph.label(first.stage, first.of, rest)


def judged(plans: list[Planned], scores: Mapping[str, Scores]) -> list[Effect]:
    """What came out, from the scores of all evaluations by their nodes' names. The comparisons of
    one contrast are the family that their p values are adjusted for."""
    found: dict[str, list[Effect]] = {}
    for each in plans:
        treated = [scores[node.name] for node in each.treated]
        if each.names[1] is None:
            came = level(each.measure, each.word, treated, each.names[0])
        else:
            control = [scores[node.name] for node in each.control]
            names = (each.names[0], each.names[1])
            came = compare(each.measure, treated, control, names, each.contrast.within)
        met = _met(came, each.contrast.expect)
        effect = Effect(each.contrast.name, each.point, each.group, each.word, came, met)
        found.setdefault(effect.contrast, []).append(effect)
    return [
        replace(effect, comparison=came)
        for family in found.values()
        for effect, came in zip(family, adjusted([e.comparison for e in family]), strict=True)
    ]


def _met(came: Comparison, expected: float | None) -> bool | None:
    if came.within is not None:
        return came.p_equivalent is not None and came.p_equivalent < 0.05
    if expected is None:
        return None
    none = {"nats": 0.0, "difference": 0.0, "ratio": 1.0}.get(came.unit)
    clear = came.control is None or none is None or (came.low is not None and came.low > none)
    return clear and came.estimate >= expected


_MOST_FINDINGS = 8


def findings(effects: list[Effect]) -> list[Finding]:
    """The effects in words: those of which something was expected, and all comparisons where that
    was no comparison; else all. Of too many, how many of a contrast are significant where nothing
    was expected of it."""
    expected = [each for each in effects if each.met is not None]
    if all(each.comparison.control is None for each in expected):
        expected = [each for each in effects if each.comparison.control or each.met is not None]
    shown = expected or effects
    families: dict[tuple[str, str], list[Effect]] = {}
    for each in shown:
        families.setdefault((each.contrast, each.comparison.unit), []).append(each)
    found = []
    for (contrast, _), family in families.items():
        if len(shown) > _MOST_FINDINGS and all(each.met is None for each in family):
            found.append(_summary(contrast, family))
        else:
            found += [Finding(_sentence(each), _figure(each), each.met) for each in family]
    return found


def _summary(contrast: str, family: list[Effect]) -> Finding:
    ranked = sorted(family, key=lambda each: each.comparison.estimate)
    least, middle, most = (_figure(ranked[at]) for at in (0, len(ranked) // 2, -1))
    spread = f"estimates from {least} to {most}, the middle one {middle}"
    tested = [each for each in family if each.comparison.control is not None]
    if not tested:
        return Finding(f"{contrast}: {spread}", middle, None)
    clear = sum(each.comparison.significant for each in tested)
    return Finding(
        f"{contrast}: significant comparisons; {spread}",
        f"{clear} of {len(tested)}",
        None,
    )


def _sentence(effect: Effect) -> str:
    came = effect.comparison
    if came.unit == "probability":
        return f"The {came.treated} answers {effect.word} with this probability"
    what = came.label[0].upper() + came.label[1:]
    if came.control is None:
        return f"{what} of the {came.treated}: {_interval(came)}"
    weak = "" if came.significant else ", not significant"
    if came.within is not None:
        how = "as good as none" if effect.met else "not shown to be as good as none"
        p_value = "none" if came.p_equivalent is None else f"{came.p_equivalent:.2g}"
        margin = f"±{came.within:g}"
        if came.unit == "difference":
            margin = f"±{100 * came.within:g} points"
        weak += f", {how} (within {margin}: p {p_value})"
    return f"{what} of the {came.treated} against the {came.control}: {_interval(came)}{weak}"


def _figure(effect: Effect) -> str:
    came = effect.comparison
    match came.unit:
        case "ratio":
            return f"{came.estimate:.1f}×"
        case "probability":
            share = 100 * came.estimate
            return f"{share:.2g} %" if share < 10 else f"{share:.1f} %"
        case "difference":
            return f"{_points(came.estimate)} points"
        case unit:
            return f"{came.estimate:+.2f} {unit}"


def _points(share: float) -> str:
    points = 100 * share
    return f"{points:+.2g}" if abs(points) < 10 else f"{points:+.0f}"


def _interval(came: Comparison) -> str:
    over = f"{came.questions} questions"
    if came.left_out:
        over += f" ({came.left_out} left out, of which not all have counted answers)"
    if came.repetitions > 1:
        over = f"{came.repetitions} repetitions of {over}"
    if came.low is None or came.high is None:
        return f"no interval can be given over {over}"
    if came.unit == "difference":
        return f"95 % interval {_points(came.low)} to {_points(came.high)} points over {over}"
    sign = "" if came.unit == "ratio" else "+"
    return f"95 % interval {came.low:{sign}.2f} to {came.high:{sign}.2f} over {over}"
