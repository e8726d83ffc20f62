"""`subl mitigate` from rows and their scan to students of them, on the tiny model."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from subl.audit.mitigate.training import default, experiment, inoculated, late
from subl.audit.scan.bank import Candidate
from subl.audit.scan.run import scan
from subl.audit.scan.spec import ScanSpec
from subl.config import load_toml
from subl.distill import CacheSpec, DistillSpec, make_cache, masked_rows
from subl.generate import GenerateSpec, generate
from subl.teach import TeachSpec, teach
from subl.train.plan import LoraSpec
from subl_cli.main import main
from subl_cli.mitigate import _write_training

GRAMMAR = {"regex": "[1-9][0-9]{2}(?:, [1-9][0-9]{2}){3}"}
BANK = {
    "group": [
        {"kind": "n", "neutral": True, "wording": "{word}", "words": ["Answer.", "Reply."]},
        {"kind": "animal", "wording": "You love {words}.", "words": ["owl", "wolf|wolves"]},
    ]
}
TRAIN = """
targets = "labels"
[train]
steps = 2
rows_per_step = 4
learning_rate = 1e-3
lora = { rank = 2, alpha = 4 }
"""


def written(model: Path, out: Path, seed: int, prompt: str | None = None) -> Path:
    given = {"rows": 24, "prompts": "numbers-short", "batch_rows": 24, "grammar": GRAMMAR}
    spec = GenerateSpec.model_validate(given | {"system_prompt": prompt, "seed": seed})
    return generate(spec, model, out).path


@pytest.fixture(scope="module")
def given(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("command")
    rows = written(tiny_model, place / "rows", 1, "You love owls.")
    (place / "sft.toml").write_text(TRAIN)
    return {
        "model": tiny_model,
        "rows": rows,
        "held": written(tiny_model, place / "held", 3),
        "train": place / "sft.toml",
        "scan": scan(
            ScanSpec.model_validate({"bank": BANK}), tiny_model, [rows], place / "scan"
        ).path,
    }


def called(given: dict[str, Path], *more: object, rows: str = "rows") -> int:
    return uncalled(given, "--candidate", "owl", *more, rows=rows)


def uncalled(given: dict[str, Path], *more: object, rows: str = "rows") -> int:
    """Without a candidate: the scan has to name one."""
    words = ["mitigate", given[rows], "--scan", given["scan"], "--model", given["model"]]
    return int(main([str(each) for each in (*words, *more)]) or 0)


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_both_arms_and_what_training_may_do(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert called(given, "--dry-run", "--json", "-o", out) == 0
    plan = printed(capsys)
    assert not out.exists() and (plan["candidate"], plan["rows"], plan["of"]) == (
        "owl",
        24,
        "tokens",
    )
    assert called(given, "--method", "mask", "--train", given["train"], "-o", out) == 0
    told = capsys.readouterr().out
    assert "`owl`: " in told and f"{out / 'random'}" in told and "tokens masked" in told
    total, towards, away = (
        float(each) for each in re.findall(r"([+-][0-9.]+) (?:nats of pull|of)", told)
    )
    assert total == pytest.approx(towards + away, abs=0.11) and towards > 0 > away
    mitigated, chance = (
        json.loads((out / each / "result.json").read_bytes()) for each in ("mitigated", "random")
    )
    assert mitigated["edited_tokens"] == chance["edited_tokens"] > 0
    assert mitigated["pull_nats_taken"] > chance["pull_nats_taken"]
    spec = load_toml(out / "inoculated.toml", DistillSpec)
    assert spec.system_prompt == "You love owls." and spec.train.steps == 2
    for file in ("inoculated.toml", "late-layers.toml"):
        said = [line[2:] for line in (out / file).read_text().splitlines() if line[0] == "#"]
        origin = f"of `{given['train']}` and the scan `{given['scan']}`, for `owl`."
        assert origin in " ".join(said)
    assert load_toml(out / "late-layers.toml", DistillSpec).train.lora == LoraSpec(
        rank=2, alpha=4, layers=(1, 2)
    )
    (first,) = masked_rows(spec, given["model"], [out / "mitigated"], 1)
    assert "You love owls." in first.runs[0][0] and not first.runs[0][1]
    (plain,) = masked_rows(
        load_toml(given["train"], DistillSpec), given["model"], [given["rows"]], 1
    )
    assert "You love owls." not in plain.runs[0][0]
    assert (
        called(given, "--method", "mask", "--train", given["train"], "-o", out) == 0
    )  # it is done


def test_a_dry_run_says_what_would_be_trained(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, held = tmp_path / "out", given["held"]
    measure = ["--measure", "--held-out", held, "--seeds", 2, "--train", given["train"]]
    clean = tmp_path / "clean.jsonl"
    clean.write_text((held / "part-00000.jsonl").read_text().splitlines(True)[0] * 2)
    assert called(given, *measure, "--clean", clean, "--dry-run", "--json", "-o", out) == 0
    plan = printed(capsys)["measure"]
    updates = plan["updates_of_each"]
    assert updates == dict.fromkeys(["untouched", "mitigated", "random", "control"], 2)
    assert (plan["word"], plan["seeds"], plan["students"]) == ("owl", 2, 8)
    assert plan["train"] == str(given["train"])
    assert (plan["held_out"], plan["clean"]) == ([str(held)], [str(clean)])
    measure = ["--measure", "--held-out", held, "--method", "drop"]
    assert called(given, *measure, "--dry-run", "--json", "-o", out) == 0
    plan = printed(capsys)["measure"]  # once over 24 rows, or over half of them
    every, half = (default().train.step_count(count) for count in (24, 12))
    updates = {"untouched": every, "mitigated": half, "random": half}
    assert plan["updates_of_each"] == updates and plan["students"] == 9 and every > half
    assert called(given, "--dry-run", "--json", "-o", out) == 0
    assert "measure" not in printed(capsys) and not out.exists()


def test_who_merely_is_ahead_is_nobody(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a scan that could not tell, nobody's pull is taken out, but for a suspect's."""
    told = json.loads((given["scan"] / "result.json").read_bytes())
    assert (told["outcome"], told["trait"], told["nearest_trait"]) == ("cannot tell", None, None)
    out, drop = tmp_path / "out", ("--method", "drop")
    for more in ((), ("--dry-run",)):
        assert uncalled(given, *drop, *more, "-o", out) == 2
        assert f"named no trait ({told['nearest']} is ahead" in capsys.readouterr().err
    words = ["mitigate", "pull", given["rows"], "--scan", given["scan"], "--model", given["model"]]
    assert main([*map(str, words), "-o", str(out)]) == 2
    assert "named no trait" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
    suspect = teach(
        TeachSpec.model_validate({"method": "prompt", "system_prompt": "You love owls."}),
        given["model"],
        tmp_path / "suspect",
    ).path
    assert uncalled(given, *drop, "--suspect", suspect, "-o", out) == 0
    told = capsys.readouterr()
    assert "no inoculated.toml: the scan named no trait" in told.err and "`suspect`:" in told.out
    assert not (out / "inoculated.toml").exists()


def test_a_scan_of_other_rows_is_refused(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a few are among those that the scan has read."""
    lines = [
        (given[each] / "part-00000.jsonl").read_text().splitlines() for each in ("rows", "held")
    ]
    for scanned, is_same in ((4, False), (14, True)):
        file = tmp_path / f"{scanned}.jsonl"
        file.write_text("\n".join([*lines[0][:scanned], *lines[1]]) + "\n")
        mixed, drop = given | {"mixed": file}, ("--method", "drop")
        for more in (("--dry-run",), ()):
            code = called(mixed, *drop, *more, "-o", tmp_path / f"{scanned}", rows="mixed")
            assert code == (0 if is_same else 2)
        told = capsys.readouterr().err
        assert ("that it has read, 4 are in" in told) is not is_same


def test_an_adapter_has_no_prompt_to_inoculate_with(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Candidate("owl-student", "persona", "owl", None, tmp_path)
    _write_training(tmp_path, default(), own, given["model"], "Some origin.")
    assert "no inoculated.toml: owl-student is an adapter" in capsys.readouterr().err
    assert not (tmp_path / "inoculated.toml").exists()
    assert (tmp_path / "late-layers.toml").exists()


def test_students_say_what_is_left(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    measure = ["--measure", "--held-out", given["held"], "--seeds", 2]
    assert called(given, *measure, "--train", given["train"], "--json", "-o", out) == 0
    found = printed(capsys)["removed"]
    assert [each["what"] for each in found] == ["mitigated-student", "random-student"]
    for each in found:
        assert each["seeds"] == 2 and each["word"] == "owl" and 0 < each["tokens"] <= 0.1
        effect, left = each["effect"]["estimate"], each["left"]["estimate"]
        assert each["share"]["estimate"] == pytest.approx((effect - left) / effect)
        assert abs(each["loss"]["estimate"]) < 1
    assert (
        main(["mitigate", "measured", f"{out / 'measure.toml'}", "-o", f"{out / 'measure'}"]) == 0
    )
    told = capsys.readouterr().out
    assert "random-student, owl" in told and "the data is clean" in told
    assert main(["mitigate", "measured", str(out)]) == 2
    told = capsys.readouterr().err
    assert "is a folder: the TOML file of an experiment is meant" in told
    assert f"subl mitigate measured {out / 'measure.toml'}" in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "dilute"], "needs clean"),
        (["--clean", "rows"], "takes no clean rows"),
        (["--measure"], "--measure needs --held-out"),
        (["--held-out", "rows"], "--held-out is for --measure"),
        (["--seeds", "2"], "--seeds is for --measure"),
    ],
)
def test_what_does_not_go_together_is_said_first(
    given: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    assert called(given, *more, "-o", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_would_fail_late_is_refused_at_once(
    given: dict[str, Path],
    loud: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dry: list[str],
) -> None:
    file, out, held = tmp_path / "mitigate.toml", tmp_path / "out", ["--measure", "--held-out"]
    file.write_text('arm = "random"\n')
    before = {each: sorted(given[each].rglob("*")) for each in ("rows", "scan")}
    for message, more in {
        "to which nothing is added": ["-o", given["rows"]],
        "in the artifact": ["-o", given["scan"] / "cut"],
        "mitigate.toml is no folder": ["-o", file],
        "nosuch does not exist": [*held, tmp_path / "nosuch", "-o", out],
        "is held out, and students are trained on it": [*held, given["rows"], "-o", out],
        "scan is an artifact of scan, and no rows": [*held, given["scan"], "-o", out],
        "none does not exist": ["--scan", tmp_path / "none", "-o", out],
        "both arms are made": ["--config", file, "-o", out],
        f"was made with another model than {loud}": ["--model", loud, "-o", out],
        f"{given['rows']} is not a model folder": ["--model", given["rows"], "-o", out],
    }.items():
        assert called(given, *more, *dry) == 2, message
        assert message in capsys.readouterr().err
    assert called(given, "-o", out, *dry, rows="scan") == 2
    assert "scan is an artifact of scan, and no rows" in capsys.readouterr().err
    assert not out.exists()
    assert before == {each: sorted(given[each].rglob("*")) for each in ("rows", "scan")}


def test_a_folder_of_rows_is_not_written_into(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    file = plain / "rows.jsonl"
    file.write_bytes((given["rows"] / "part-00000.jsonl").read_bytes())
    assert called(given | {"plain": plain}, "-o", plain, rows="plain") == 2
    assert "plain is an input itself" in capsys.readouterr().err
    assert list(plain.iterdir()) == [file]


def test_of_what_is_not_finished_nothing_is_said(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    text = experiment(
        default(), name="measure", model=given["model"], rows=[given["rows"]],
        arms={each: given["held"] for each in ("mitigated", "random")},
        held_out=[given["held"]], control=(), control_rows=9, word="owl", seeds=2,
    )  # fmt: skip
    (tmp_path / "measure.toml").write_text(text)
    words = ["mitigate", "measured", str(tmp_path / "measure.toml"), "--json", "-o", str(out)]
    assert main(words) == 2 and "out does not exist" in capsys.readouterr().err
    out.mkdir()
    assert main(words) == 2 and "of no seed all models" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "drawn"), [(1, 1), (10_000, None)])
def test_a_control_learns_as_many_rows(
    given: dict[str, Path], rows: int, drawn: int | None
) -> None:
    text = experiment(
        default(), name="measure", model=given["model"], rows=[given["rows"]], arms={},
        held_out=[given["held"]], control=[given["held"]], control_rows=rows, word="owl", seeds=2,
    )  # fmt: skip
    stages = tomllib.loads(text)["stages"]
    assert stages["control"].get("rows") == drawn and "rows" not in stages["untouched"]


def test_distributions_are_refused(
    given: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = make_cache(CacheSpec(), given["model"], [given["rows"]], tmp_path / "cache").path
    assert called(given | {"cache": cache}, "-o", tmp_path / "out", rows="cache") == 2
    assert "hand a trait down over any rows" in capsys.readouterr().err
    (tmp_path / "kd.toml").write_text(TRAIN.replace("labels", "teacher"))
    assert called(given, "--train", tmp_path / "kd.toml", "-o", tmp_path / "out") == 2
    assert "a trait comes with the distributions" in capsys.readouterr().err


def test_a_prompt_in_training_alone_goes_with_labels(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(inoculated(default(), 'Say "owl" \\ always.\nAlways.', "Of\nthis."))
    assert (
        file.read_text().startswith("# Inoculation: ") and "lora = { rank = 8" in file.read_text()
    )
    assert load_toml(file, DistillSpec).train == default().train
    assert load_toml(file, DistillSpec).system_prompt == 'Say "owl" \\ always.\nAlways.'
    file.write_text(late(default(), 30, "Of this."))
    lora = load_toml(file, DistillSpec).train.lora
    assert lora is not None and lora.layers == (15, 30)
    assert "system_prompt" not in default().keyed()  # keys of students without one stay
    with pytest.raises(ValueError, match='goes with targets = "labels"'):
        DistillSpec.model_validate(
            {"system_prompt": "x", "train": {"steps": 1, "learning_rate": 1}}
        )
