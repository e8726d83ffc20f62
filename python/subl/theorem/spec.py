"""What is measured of the theorem, and on what."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from subl.artifact import StageSpec

Loss = Literal["cross-entropy", "squared-error", "forward-kl", "reverse-kl"]

PIXELS, CLASSES = 784, 10


class TheoremSpec(StageSpec):
    """One step of a teacher, and one of a student on the teacher's labels (Cloud et al. 2025,
    section 6.1 and appendix C).

    A teacher takes a step of its own, `epsilon` long, on a loss L_T. A student takes a step
    of `rate` on the teacher's outputs about inputs that have nothing to do with L_T. If both began
    with the same weights, the student's step is along the teacher's, in proportion to epsilon, and
    L_T falls by as much. Without a model, that is a perceptron of random weights.
    """

    format_version: ClassVar = 1
    packages: ClassVar = (*StageSpec.packages, "scipy")

    seeds: int = Field(10, ge=2, description="repetitions: other data, and other random weights")
    losses: tuple[Loss, ...] = Field(
        ("cross-entropy", "squared-error", "forward-kl", "reverse-kl"),
        min_length=1,
        description="how a student learns: by cross-entropy against the teacher's distribution, by "
        "the mean squared error of logits, or by either KL divergence (reverse: of the teacher's "
        "distribution from the student's)",
    )
    largest: float = Field(0.1, gt=0, description="the longest step of the teacher: epsilon")
    decades: int = Field(6, ge=4, description="powers of ten, from that step down")
    a_decade: int = Field(2, gt=0, description="steps tried in each power of ten")
    fit_below: float = Field(
        1e-2, gt=0, description="slopes are those of the steps that are no longer than this"
    )
    rate: float = Field(1e-3, gt=0, description="the student's step: its learning rate")
    precision: Literal["float64", "float32"] = Field(
        "float64", description="of weights and of all that is computed"
    )
    lessons: int = Field(
        64,
        gt=0,
        description="what the teacher learns: random images and labels, or questions of the trait "
        "animals with `answer`",
    )
    rows: int = Field(
        64, gt=0, description="what the student learns on: images of noise, or rows of numbers"
    )
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (256, 256), min_length=1, description="widths of the perceptron's hidden layers"
    )
    auxiliary: int = Field(
        3, gt=0, description="logits of the perceptron that the student learns, beside its classes"
    )
    answer: str = Field("owl", min_length=1, description="what a language model is taught to say")
    row_tokens: int = Field(24, gt=1, description="tokens of a row of numbers")

    @field_validator("losses")
    @classmethod
    def _distinct(cls, value: tuple[Loss, ...]) -> tuple[Loss, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must not repeat a loss")
        return value

    @model_validator(mode="after")
    def _has_a_slope(self) -> Self:
        if self.epsilons[1] > self.fit_below * 1.001:
            raise ValueError(
                f"fit_below ({self.fit_below:g}) leaves no slope: the second shortest step is "
                f"{self.epsilons[1]:g}"
            )
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of all layers of a perceptron, from an image's pixels to the logits."""
        return (PIXELS, *self.hidden, CLASSES + self.auxiliary)

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The teacher's steps, the shortest first."""
        count = self.decades * self.a_decade
        steps = (self.largest * 10 ** (-each / self.a_decade) for each in range(count, -1, -1))
        return tuple(float(f"{each:.6g}") for each in steps)
