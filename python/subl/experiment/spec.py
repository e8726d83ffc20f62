"""What an experiment's TOML file may say: axes, stages, contrasts.

    [axes]
    trait = ["owl", "cat"]

    [stages.teacher]
    kind = "teach"
    inputs = { model = "base" }
    trait = "{trait}"

A stage's other keys are those of its kind's configuration. `{trait}` in one of them is the point of
an axis, and makes the stage one for each point; so does an input that has the axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)

from subl.config import WrittenPath, with_jobs
from subl.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")]
AxisName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr

PREVIOUS, OTHERS = "previous", "others"
"""What an input may say of an axis, and what a control may, instead of a point."""

_TAKEN_AXES = {"control", "stage", "path", "first", "use"}
_TAKEN_POINTS = {PREVIOUS, OTHERS}


class Section(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Open(BaseModel):
    """A table whose further keys are axes, or of another configuration."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @property
    def further(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Point(_Open):
    """A point of an axis that has values of its own: `{trait.plural}` stands for its `plural`."""

    name: str = Field(min_length=1, description="what `{AXIS}` stands for")


def _from_name(given: object) -> object:
    return {"stage": given} if isinstance(given, str) else given


class Ref(_Open):
    """Whose artifact is meant: a stage's, at the same point but for the axes that are given here.

    `hop = "previous"` is the point before; at the first point, `first` is meant.
    """

    stage: str | None = Field(None, description="name of a stage")
    path: WrittenPath | None = Field(None, description="a file or folder that is there already")
    first: Given | None = Field(None, description="what is meant at an axis's first point")

    @model_validator(mode="after")
    def _means_one(self) -> Self:
        if (self.stage is None) == (self.path is None):
            raise ValueError("give either stage or path")
        stepped = [axis for axis, value in self.further.items() if value == PREVIOUS]
        if len(stepped) > 1:
            raise ValueError(f"only one axis can be at its previous point: {', '.join(stepped)}")
        if bool(stepped) != (self.first is not None):
            raise ValueError(f'first goes with AXIS = "{PREVIOUS}", and only with it')
        return self


Given = Annotated[Ref, BeforeValidator(_from_name, json_schema_input_type=str | Ref)]
"""A reference; a stage's name is short for one."""

OneOrList = Annotated[
    Annotated[Given, Tag("one")] | Annotated[tuple[Given, ...], Tag("list")],
    Discriminator(lambda given: "list" if isinstance(given, list | tuple) else "one"),
]

Ref.model_rebuild()


class Instead(_Open):
    """At these points (`trait = "none"`) the stage is another one's artifact."""

    use: Given = Field(description="whose artifact is meant there")


class StageTable(_Open):
    """One stage: its kind, what it takes, and its kind's own configuration."""

    kind: str = Field(description="teach, generate, filter, ...: which stage")
    inputs: dict[str, OneOrList] = Field(
        {},
        description="for each input the stage that it comes from; a list where a stage takes one: "
        "the stage is done for each",
    )
    instead: tuple[Instead, ...] = Field((), description="points at which it is another's artifact")


class Contrast(Section):
    """What is compared with what. Without `control`: how high the measure is.

    In `word` and `against`, `{trait}` is the treated model's point, `{control.trait}` its
    control's.
    """

    name: str = Field(min_length=1, description="what the page calls it")
    measure: Literal["log-odds", "probability", "difference"] = Field(
        description="log-odds of the word against others, in nats; or its probability, as a ratio "
        "or as a difference (of which there is one where shares of samples are 0)"
    )
    word: str = Field("{trait}", description="the answer that is asked for")
    against: tuple[str, ...] | None = Field(
        None, description="log-odds: against these; default: every candidate that is no point"
    )
    treated: Given = Field(description="stage whose models are measured")
    control: OneOrList | None = Field(
        None,
        description=f'stages that they are compared with; AXIS = "{OTHERS}": every other point',
    )
    evaluation: str | None = Field(None, description="the eval stage; default: the only one")
    paired: tuple[str, ...] | None = Field(
        None, description="axes whose points are repetitions; default: seed, where there is one"
    )
    expect: float | None = Field(
        None,
        description="the run fails unless the estimate is so high and, against a control, its "
        "interval clear of no effect",
    )
    within: float | None = Field(
        None,
        gt=0,
        description="the run fails unless the estimate is as good as no effect: not farther from "
        "it than this (of a ratio: in nats of its logarithm) by two one-sided tests, p < 0.05",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.within is not None and (self.control is None or self.expect is not None):
            raise ValueError("within goes with a control, and without expect")
        if self.against is not None and self.measure != "log-odds":
            raise ValueError('against belongs to measure = "log-odds"')
        return self

    @property
    def controls(self) -> tuple[Ref | None, ...]:
        match self.control:
            case None:
                return (None,)
            case tuple():
                return self.control
            case control:
                return (control,)


class ExperimentSpec(Section):
    """One experiment: stages over axes, and what is to be compared."""

    model_config = ConfigDict(json_schema_extra=with_jobs)

    name: Name = Field(description="its artifacts go to out/NAME")
    title: str = Field(description="what the page calls it")
    axes: dict[AxisName, Annotated[tuple[Scalar | Point, ...], Field(min_length=1)]] = Field(
        {}, description="what varies: each axis and its points; the first is told apart by colour"
    )
    stages: dict[Name, StageTable] = Field(min_length=1, description="by name")
    contrasts: tuple[Contrast, ...] = Field((), description="what is compared")
    deviations: tuple[str, ...] = Field((), description="from the protocol that is reproduced")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for axis, points in self.axes.items():
            if axis in _TAKEN_AXES:
                raise ValueError(f"axes: an axis cannot be called {axis}")
            labels = [label(axis, point) for point in points]
            values = {value_of(point) for point in points}  # of which 1, 1.0 and true are one
            if min(len(set(labels)), len(values)) < len(labels):
                raise ValueError(
                    f"axes: points of {axis} must differ, and in letters and digits, for they are "
                    'in names of folders; { name = "plus", said = "+" } has another value, too'
                )
            for point, called in zip(points, labels, strict=True):
                value = value_of(point)
                if not called or called in _TAKEN_POINTS:
                    raise ValueError(f"axes: a point of {axis} cannot be called {value!r}")
        names = [each.name for each in self.contrasts]
        if len(set(names)) < len(names):
            raise ValueError("contrasts must have different names")
        return self


def value_of(point: Scalar | Point) -> Scalar:
    """What `{AXIS}` stands for."""
    return point.name if isinstance(point, Point) else point


def label(axis: str, point: Scalar | Point) -> str:
    """What a point is called in the names of artifacts: `owl`, `seed3`."""
    value = value_of(point)
    text = value if isinstance(value, str) else f"{axis}{value}"
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-.")


_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)(?:\.([a-z][a-z0-9_]*))?\}")

Points = Mapping[str, Scalar | Point]
"""A point for each axis."""

_LEFT_OUT = object()


def mentioned(value: object) -> Iterator[tuple[str, str | None]]:
    """The axes (and values of theirs) that placeholders in a TOML value might name."""
    match value:
        case str():
            yield from ((each[1], each[2]) for each in _PLACEHOLDER.finditer(value))
        case Mapping():
            for each in value.values():
                yield from mentioned(each)
        case list() | tuple():
            for each in value:
                yield from mentioned(each)


def filled(value: Any, points: Points) -> Any:
    """A TOML value with its placeholders filled in. Braces that name no axis stay as they are.

    A text that is one placeholder becomes the point's value, of its type. Where a point lacks the
    value that is named, the key is left out: its default holds there.
    """
    match value:
        case str():
            if (whole := _PLACEHOLDER.fullmatch(value)) and whole[1] in points:
                return _named(whole, points)
            return filled_text(value, points)
        case Mapping():
            pairs = ((key, filled(each, points)) for key, each in value.items())
            return {key: each for key, each in pairs if each is not _LEFT_OUT}
        case list() | tuple():
            return [each for each in (filled(e, points) for e in value) if each is not _LEFT_OUT]
        case _:
            return value


def filled_text(text: str, points: Points) -> str:
    """A text with its placeholders filled in; it stays a text, whatever a point's value is.

    Raises:
        ConfigError: a point lacks a value, or has one that is no part of a text.
    """
    return _PLACEHOLDER.sub(lambda each: _part(each, points), text)


def _part(found: re.Match[str], points: Points) -> str:
    if found[1] not in points:
        return found[0]
    value = _named(found, points)
    if value is _LEFT_OUT:
        raise ConfigError(f"{value_of(points[found[1]])!r} of {found[1]} has no {found[2]}")
    if not isinstance(value, str | int | float):
        raise ConfigError(
            f"{found[0]} stands within a text, and is {value!r}",
            hint="only texts and numbers can; a list or table must be all of a value",
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named(found: re.Match[str], points: Points) -> Any:
    point = points[found[1]]
    if found[2] in (None, "name"):
        return value_of(point)
    return point.further.get(found[2], _LEFT_OUT) if isinstance(point, Point) else _LEFT_OUT
