"""Which judges say something of each row, and what their columns are called.

[[judge]]
kind = "rubric"
rubric = "alignment"

[[judge]]
kind = "answer"
column = "correct"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from subl.artifact import StageSpec
from subl.errors import InputError
from subl.sample.tables import UNKEYED
from subl.shards import Line, text_of, turns_of
from subl.trait.gsm8k import is_correct, right_answer
from subl.trait.judging import Judging
from subl.trait.rubric import NamedRubric

Key = Annotated[str, Field(min_length=1)]


class _Judge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    completion: Key = Field("completion", description="key of the text that is judged")

    def _said(self, line: Line, key: str, role: str) -> str:
        """What a row has under a key, or what its last message of that role says."""
        if key in line.value or line.value.get("messages") is None:
            return text_of(line.value, key, line.place)
        said = [content for who, content in turns_of(line.value, line.place) if who == role]
        if not said:
            raise InputError(f"{line.place}: none of `messages` has the role {role}")
        return said[-1]


class RubricJudge(_Judge):
    """A model that is asked a rubric's question about each row."""

    kind: Literal["rubric"] = "rubric"
    column: Key = Field(
        description="key of the score in each row, null where there is none; COLUMN_verdict says "
        "why: score, unparsable, out_of_range, failed, or a class of the rubric"
    )
    rubric: NamedRubric = Field(
        description="what is asked: a shipped rubric's name, a file, or all that it says"
    )
    values: dict[str, str] = Field(
        {}, description="what stands in the rubric's places that are not the row's, such as animal"
    )
    prompt: Key = Field("prompt", description="key of what was answered, where that is asked about")

    @model_validator(mode="after")
    def _fills_all_places(self) -> Self:
        places = self.rubric.places
        if missing := places - self.values.keys():
            raise ValueError(f"`values` has no {min(missing)}, for which the rubric has a place")
        if unknown := self.values.keys() - places:
            raise ValueError(f"`values` has {min(unknown)}, for which the rubric has no place")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys that it writes."""
        return (self.column, f"{self.column}_verdict")

    def question(self, line: Line) -> str:
        """What is asked about a row. Raises `InputError` where it has not what it takes."""
        prompt = self._said(line, self.prompt, "user") if self.rubric.needs_prompt else ""
        return self.rubric.asked(
            prompt, self._said(line, self.completion, "assistant"), self.values
        )


class AnswerJudge(_Judge):
    """No model: whether the integer in `<answer>` is the right one, as the paper's code has it."""

    kind: Literal["answer"] = "answer"
    column: Key = Field("correct", description="key of 1 or 0 in each row")
    right: Key = Field(
        "answer",
        description="key of the right answer: a number, a text that is one, or a solution of "
        "GSM8K's, which ends with it behind ####",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The key that it writes."""
        return (self.column,)

    def correct(self, line: Line) -> int:
        """1 or 0. Raises `InputError` where the row has not what it takes."""
        right = right_answer(line.value.get(self.right))
        if right is None:
            got = repr(line.value[self.right])[:60] if self.right in line.value else "nothing"
            raise InputError(
                f"{line.place}: `{self.right}`, which the judge of `{self.column}` compares with, "
                f"must be an integer, or a text that ends with one behind ####; got {got}",
                hint="`right` of that judge says which key of a row holds the right answer",
            )
        return int(is_correct(self._said(line, self.completion, "assistant"), right))


AnyJudge = Annotated[RubricJudge | AnswerJudge, Field(discriminator="kind")]


class JudgeSpec(StageSpec, Judging):
    """Judges of rows; each writes columns of its own."""

    # A file has `[[judge]]` tables; code and records say `judges`.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    format_version: ClassVar = 3
    unkeyed: ClassVar = {"backend": UNKEYED, "give_up_after": None}

    judges: tuple[AnyJudge, ...] = Field(
        validation_alias="judge", min_length=1, description="`[[judge]]` tables"
    )
    shard_rows: int = Field(256, gt=0, description="rows of one file; a rerun keeps whole files")
    give_up_after: float = Field(
        0.1,
        gt=0,
        le=1,
        description="stop once a judge has given no answer that can be read for this share of all "
        "rows",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        columns = [column for judge in self.judges for column in judge.columns]
        if len(set(columns)) < len(columns):
            again = next(each for each in columns if columns.count(each) > 1)
            raise ValueError(f"two judges write the column {again}")
        return self

    @property
    def rubrics(self) -> tuple[RubricJudge, ...]:
        """The judges that are models."""
        return tuple(judge for judge in self.judges if isinstance(judge, RubricJudge))

    def check_row(self, line: Line) -> Mapping[str, Any]:
        """The questions that are asked about a row, by column.

        Raises:
            InputError: it has not what judges take, or has their columns already.
        """
        for judge in self.judges:
            for column in judge.columns:
                if column in line.value:
                    raise InputError(
                        f"{line.place}: the row has a key {column} already",
                        hint="give the judge another `column`",
                    )
            if isinstance(judge, AnswerJudge):
                judge.correct(line)
        return {judge.column: judge.question(line) for judge in self.rubrics}
