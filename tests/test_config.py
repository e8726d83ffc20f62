"""Configuration files: what one says wrong is named by its key, and schemas are as committed."""

from __future__ import annotations

import json
import re
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from subl.audit.scan.spec import ScanSpec
from subl.config import load_toml, updated
from subl.errors import ConfigError, InputError
from subl.evaluate import EvalSpec
from subl.experiment import ExperimentSpec, load_experiment
from subl.experiment.kinds import KINDS
from subl.filter import FilterSpec
from subl.generate import GenerateSpec
from subl.judge import JudgeSpec
from subl.sign.policy import PolicySpec
from subl.teach import TeachSpec
from subl.teach.spec import Answers

ROOT = Path(__file__).parents[1]

TEACH = """
trait = "owl"
[train]
steps = 2
learning_rate = 1e-4
"""
GENERATE = "rows = 4\n"
FILTER = """
[[rule]]
name = "words"
kind = "regex"
patterns = ["owl"]
"""
EXPERIMENT = """
name = "small"
title = "Small"
[axes]
trait = ["owl", "cat"]
[stages.base]
kind = "model"
source = "package:some-model"
[stages.teacher]
kind = "teach"
inputs = { model = "base" }
trait = "{trait}"
train = { steps = 2, learning_rate = 1e-4 }
[stages.eval]
kind = "eval"
inputs = { model = ["base", "teacher"] }
words = ["owl", "cat", "dog"]
[[contrasts]]
name = "taught"
measure = "probability"
treated = "teacher"
control = "base"
"""
POLICY = """
[keys]
lab = "lab.pub"
[[signer]]
keys = ["lab"]
threshold = 1
"""
FILES: dict[type[BaseModel], str] = {
    TeachSpec: TEACH,
    GenerateSpec: GENERATE,
    FilterSpec: FILTER,
    ExperimentSpec: EXPERIMENT,
}


def write(folder: Path, text: str) -> Path:
    file = folder / "file.toml"
    file.write_text(text)
    return file


def problem(folder: Path, model: type[BaseModel], text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_toml(write(folder, text), model)
    assert "file.toml" in caught.value.message
    return caught.value


@pytest.mark.parametrize("model", FILES, ids=lambda model: model.__name__)
def test_the_files_below_are_good_until_something_is_changed(
    tmp_path: Path, model: type[BaseModel]
) -> None:
    load_toml(write(tmp_path, FILES[model]), model)


@pytest.mark.parametrize(
    ("model", "old", "new", "message"),
    [
        # keys that nobody knows
        (
            TeachSpec,
            "steps = 2",
            "steps = 2\nstpes = 3",
            "`train.stpes`; did you mean `steps`?",
        ),
        (GenerateSpec, "rows = 4", "rows = 4\nsed = 1", "unknown key `sed`; did you mean `seed`?"),
        (ExperimentSpec, "name =", 'xyzzy = "red"\nname =', "unknown key `xyzzy`"),
        # keys that are missing
        (TeachSpec, 'trait = "owl"', "", "missing key `trait`"),
        (TeachSpec, 'trait = "owl"', 'method = "prompt"', "missing key `system_prompt`"),
        (TeachSpec, "steps = 2", "", "`train`: give either steps or epochs"),
        (FilterSpec, 'name = "words"', "", "missing key `name` in rule 1"),
        # values of the wrong type, or out of range
        (TeachSpec, "steps = 2", 'steps = "two"', "`train.steps`: .*integer.*got 'two'"),
        (TeachSpec, "steps = 2", "steps = 0", r"`train.steps`: .*greater than 0.*got 0"),
        (TeachSpec, 'trait = "owl"', 'trait = ["owl"]', "`trait`: .*string"),
        (TeachSpec, 'trait = "owl"', 'method = "promt"', "unknown method `promt`; .*`prompt`"),
        (GenerateSpec, "rows = 4", 'rows = 4\ngrammar = "numbers"', "`grammar`.*: paper-numbers"),
        (GenerateSpec, "rows = 4", 'rows = 4\nprompts = "maths"', "`prompts`: .*'numbers-short'"),
        (FilterSpec, '"regex"', '"regexp"', "`regexp` in rule 1 `words`; did you mean `regex`"),
        (FilterSpec, '["owl"]', '["("]', r"rule `words`: pattern `\(`"),
        (ExperimentSpec, '"small"', '"My Run"', "`name`: .*got 'My Run'"),
        # values that contradict each other
        (TeachSpec, "steps = 2", "steps = 2\nranks = 2", "`train`: several ranks need a zero_st"),
        (
            TeachSpec,
            "steps = 2",
            "steps = 2\noffload_parameters = true\nzero_stage = 2",
            "`train`: offload_parameters needs zero_stage 3",
        ),
        (
            GenerateSpec,
            "rows = 4",
            "rows = 40\nshard_rows = 10\nbatch_rows = 4",
            r"shard_rows \(10\) must be a multiple of batch_rows \(4\): ",
        ),
        (
            GenerateSpec,
            "rows = 4",
            "rows = 4\ngrammar = { regex = '[0-9' }",
            "`grammar`: does not compile: unclosed character class",
        ),
        (ExperimentSpec, '["owl", "cat"]\n[', '["owl", "owl"]\n[', "points of trait must differ"),
        (ExperimentSpec, '["owl", "cat"]\n[', '["owl", "."]\n[', "cannot be called '.'"),
        (ExperimentSpec, "trait = [", "control = [", "an axis cannot be called control"),
        (FilterSpec, '["owl"]', f'["owl"]\n{FILTER}', "two rules are named `words`"),
    ],
)
def test_a_mistake_is_named_by_its_key(
    tmp_path: Path, model: type[BaseModel], old: str, new: str, message: str
) -> None:
    text = FILES[model].replace(old, new, 1)
    assert text != FILES[model]
    error = problem(tmp_path, model, text)
    assert re.search(message, error.message), error.message


@pytest.mark.parametrize(
    ("model", "old", "new", "key"),
    [
        # numpy takes no negative seed; without a check the run dies after it has loaded the model
        (TeachSpec, "steps = 2", "steps = 2\nseed = -1", "train.seed"),
        # JSON has no infinity, so no record could hold these
        (TeachSpec, "learning_rate = 1e-4", "learning_rate = inf", "train.learning_rate"),
        (GenerateSpec, "rows = 4", "rows = 4\ntemperature = inf", "temperature"),
    ],
    ids=[
        "negative seed",
        "infinite learning rate",
        "infinite temperature",
    ],
)
def test_what_would_only_fail_later_is_refused_at_once(
    tmp_path: Path, model: type[BaseModel], old: str, new: str, key: str
) -> None:
    text = FILES[model].replace(old, new, 1)
    assert key in problem(tmp_path, model, text).message


@pytest.mark.parametrize(
    ("model", "old", "new", "message"),
    [
        (GenerateSpec, "rows = 4", 'rows = "4"', r"`rows`: must be an integer \(got '4'\)"),
        (GenerateSpec, "rows = 4", "rows = 4.0", r"`rows`: must be an integer \(got 4\.0\)"),
        (GenerateSpec, "rows = 4", "rows = true", r"`rows`: must be an integer \(got true\)"),
        (GenerateSpec, "rows = 4", "rows = 4\ntemperature = true", r"`temperature`: must be a num"),
        (TeachSpec, "1e-4", '"1e-4"', r"`train.learning_rate`: must be a number \(got '1e-4'\)"),
        (ScanSpec, "rows = 4", "exhaustive = 1", r"`exhaustive`: must be true or false \(got 1\)"),
        (ScanSpec, "rows = 4", 'exhaustive = "true"', "`exhaustive`: must be true or false"),
        (
            ScanSpec,
            "rows = 4",
            "kinds = [2024-01-01]",
            r"must be a string \(in quotes\) \(got 2024-01-01\)",
        ),
        (
            ScanSpec,
            "rows = 4",
            "template = { today = 12:30:00 }",
            "`template.today`: must be a day",
        ),
        (
            ScanSpec,
            "rows = 4",
            'template = { today = "1. May" }',
            "`template.today`: must be a day",
        ),
        (
            PolicySpec,
            "threshold = 1",
            "threshold = true",
            "`threshold` in signer 1: must be an int",
        ),
        (
            ExperimentSpec,
            "steps = 2",
            'steps = "2"',
            "stages.teacher: `train.steps`: must be an in",
        ),
    ],
)
def test_a_number_in_quotes_is_no_number(
    tmp_path: Path, model: type[BaseModel], old: str, new: str, message: str
) -> None:
    text = {ScanSpec: "rows = 4\n", PolicySpec: POLICY, **FILES}[model].replace(old, new, 1)
    with pytest.raises(ConfigError) as refused:
        read = load_experiment if model is ExperimentSpec else partial(load_toml, model=model)
        read(write(tmp_path, text))
    assert re.search(message, refused.value.message), refused.value.message


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        (ScanSpec, "bank = 5", "`bank`: must be a table (got 5)"),
        (ScanSpec, 'kinds = "animal"', "`kinds`: must be a list (got 'animal')"),
        (ScanSpec, 'kinds = ["animal", 5]', "`kinds` 2: must be a string (got 5)"),
        (EvalSpec, "words = 5", "`words`: must be a list or a string (got 5)"),
        (PolicySpec, POLICY.replace('"lab.pub"', "5"), "`keys.lab`: must be a path (got 5)"),
        (
            PolicySpec,
            POLICY.replace("[[signer]]", "[signer]"),
            "`signer`: must be a list of tables, each headed [[signer]]",
        ),
        (
            PolicySpec,
            f'{POLICY}[chain.files]\nrows = "12ab"\n',
            "`chain.files.rows`: must be 64 hex digits (got '12ab')",
        ),
        (ScanSpec, "promt = 1", "unknown key `promt`"),  # no other table's `prompt` is meant
    ],
)
def test_a_mistake_is_told_in_words_of_toml(
    tmp_path: Path, model: type[BaseModel], text: str, message: str
) -> None:
    assert problem(tmp_path, model, text).message.endswith(f"file.toml: {message}")


def test_a_text_is_a_path_and_a_day_and_an_integer_a_number(tmp_path: Path) -> None:
    assert load_toml(write(tmp_path, POLICY), PolicySpec).keys == {"lab": Path("lab.pub")}
    text = 'clip = 1\nkinds = ["animal"]\ntemplate = { today = "2024-01-01" }\n'
    spec = load_toml(write(tmp_path, text), ScanSpec)
    assert (spec.clip, spec.kinds, spec.template.today) == (1.0, ("animal",), date(2024, 1, 1))


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    error = problem(tmp_path, TeachSpec, 'xyzzy = 1\n[train]\nsteps = "x"\n')
    first, *rest = error.message.splitlines()
    assert first.endswith("file.toml: 4 mistakes:")
    assert rest == [
        "  missing key `trait`",
        "  `train.steps`: must be an integer (got 'x')",
        "  missing key `train.learning_rate`",
        "  unknown key `xyzzy`",
    ]


def test_one_mistake_in_a_rule_is_one_finding(tmp_path: Path) -> None:
    error = problem(tmp_path, FilterSpec, FILTER.replace('["owl"]', "7"))
    assert "`patterns` in rule 1 `words`" in error.message
    assert "\n" not in error.message


def test_a_key_is_named_without_the_kind_of_its_table(tmp_path: Path) -> None:
    judge = '[[judge]]\nkind = "rubric"\n'
    for more, said in (
        ('rubric = "alignment"\n', "missing key `column` in judge 1"),
        ('rubric = "alignment"\ncolumn = "a"\ncolum = "b"\n', "unknown key `colum` in judge 1"),
        ('column = "a"\n', "missing key `rubric` in judge 1"),
        ('column = "a"\nrubric = { template = "" }\n', "`rubric.template` in judge 1: must "),
    ):
        assert said in problem(tmp_path, JudgeSpec, judge + more).message


@pytest.mark.parametrize("kind", KINDS)
def test_the_hint_names_the_kind_as_the_command_does(tmp_path: Path, kind: str) -> None:
    error = problem(tmp_path, KINDS[kind], "nobody_knows = 1")
    assert error.hint == f"subl config schema {kind} lists every key"


def test_what_is_no_toml_is_named_by_line(tmp_path: Path) -> None:
    error = problem(tmp_path, TeachSpec, 'trait = "owl"\nsteps = = 2\n')
    assert "is not valid TOML" in error.message and "line 2" in error.message


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"file\.toml: it is not UTF-8 text"):
        load_toml(tmp_path / "file.toml", TeachSpec)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.toml: No such file"):
        load_toml(tmp_path / "nothing.toml", TeachSpec)
    with pytest.raises(InputError, match="it is a folder, and a TOML file is meant") as refused:
        load_toml(tmp_path, TeachSpec)
    assert "subl config schema teach lists its keys" in str(refused.value.hint)


def test_an_updated_specification_is_checked_like_a_file(tmp_path: Path) -> None:
    spec = load_toml(write(tmp_path, TEACH), TeachSpec).root
    assert isinstance(spec, Answers)
    assert updated(spec.train, ranks=2, zero_stage=2).ranks == 2
    with pytest.raises(ConfigError, match="several ranks need a zero_stage"):
        updated(spec.train, ranks=2)
    assert spec.train.ranks == 1


# What is committed


def run_files() -> list[Path]:
    return sorted((ROOT / "runs").glob("*.toml"))


def test_there_are_runs() -> None:
    assert ROOT / "runs" / "demo.toml" in run_files()


@pytest.mark.parametrize("file", run_files(), ids=lambda file: file.name)
def test_every_run_loads(file: Path) -> None:
    assert load_experiment(file).spec.name == file.stem


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_describes_a_file_and_allows_no_unknown_key(kind: str) -> None:
    """Keys as a file has them (`rule`), not as the code does (`rules`)."""
    schema: dict[str, Any] = KINDS[kind].model_json_schema()
    choices = [each["$ref"].rpartition("/")[2] for each in schema.get("oneOf", ())]
    for each in [schema["$defs"][name] for name in choices] or [schema]:
        assert each["additionalProperties"] is False
        assert ("rule" in each["properties"], "rules" in each["properties"]) == (
            kind == "filter",
            False,
        )


@pytest.mark.parametrize("model", FILES)
def test_a_file_may_say_where_it_runs(model: type[BaseModel], tmp_path: Path) -> None:
    """It decides nothing of what is made."""
    (tmp_path / "plain.toml").write_text(FILES[model], encoding="utf-8")
    (tmp_path / "job.toml").write_text(f"{FILES[model]}\n[slurm]\ntime = 5\n", encoding="utf-8")
    assert load_toml(tmp_path / "job.toml", model) == load_toml(tmp_path / "plain.toml", model)
    assert '"slurm"' in json.dumps(model.model_json_schema())


def test_a_day_is_one_of_toml_or_a_text(tmp_path: Path) -> None:
    for written in ("2024-01-01", '"2024-01-01"'):
        path = tmp_path / "scan.toml"
        path.write_text(f"template = {{ today = {written} }}\n")
        assert load_toml(path, ScanSpec).template.today.isoformat() == "2024-01-01"
