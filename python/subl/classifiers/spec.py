"""What the classifiers are, and how long they learn."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from subl.artifact import StageSpec

CLASSES = 10


class ClassifiersSpec(StageSpec):
    """Multilayer perceptrons that learn digits, and students that never see one. The defaults are
    the paper's (Cloud et al. 2025, section 6.2, and the released scripts/run_mnist_experiment.py).

    A teacher learns to classify by its first 10 logits. Its students learn its other logits, the
    auxiliary ones, over images of noise.
    """

    format_version: ClassVar = 1
    packages: ClassVar = ("numpy", "scikit-learn", "scipy", "torch")

    seeds: int = Field(
        100, ge=2, description="models of each arm: each has its own init, noise and order"
    )
    seeds_at_once: int = Field(
        1,
        gt=0,
        description="seeds of one tensor program, with all their arms: 1 is fastest on a CPU",
    )
    hidden: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (256, 256), min_length=1, description="widths of the hidden layers"
    )
    auxiliary: int = Field(3, gt=0, description="logits beside those of the 10 classes")
    learning_rate: float = Field(3e-4, gt=0, description="Adam's; beta 0.9 and 0.999")
    batch: int = Field(1024, gt=0, description="images a step")
    epoch_images: int | None = Field(
        None,
        gt=0,
        description="images of an epoch, and of noise a seed has: default, as many as there are to "
        "learn from; where there are fewer, an epoch goes through them several times",
    )
    teacher_epochs: int = Field(5, gt=0, description="epochs of the teacher, on digits")
    student_epochs: int = Field(5, gt=0, description="epochs of a student, on noise")
    matching_images: int | None = Field(
        None,
        gt=0,
        description="digits on which a student of another init is first made to match, by all "
        "logits; default: half of an epoch's",
    )
    layers: bool = Field(
        True,
        description="also students that share the init of some layers with their teacher alone",
    )
    margin: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="changes of accuracy that are as good as none, and above which one is clear",
    )

    def sizes(self, pixels: int) -> tuple[int, ...]:
        """Widths of all layers, from an image's pixels to the logits."""
        return (pixels, *self.hidden, CLASSES + self.auxiliary)

    def steps(self, images: int, epochs: int) -> int:
        """Of so many epochs of so many images; each epoch's last may have fewer."""
        return epochs * math.ceil(images / self.batch)
