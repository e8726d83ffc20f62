"""`lineage` says what lies on the disk now: each change is named, at the node where it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from subl.artifact import LineageNode, lineage
from subl.artifact.digest import listing_digest
from subl.errors import InputError
from subl_cli.main import main

from .notes import NotesSpec, make_notes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """source.bin -> first -> second -> third, all in one folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "source.bin").write_bytes(bytes(range(256)))
    make_notes(folder / "first", folder / "source.bin")
    make_notes(folder / "second", folder / "first", NotesSpec(text="second"))
    make_notes(folder / "third", folder / "second", NotesSpec(text="third"))
    return folder


def chain(node: LineageNode) -> dict[str, tuple[str, ...]]:
    """{folder or file: problems}, from `node` to its origin."""
    found = {Path(node.path).name: node.problems}
    for each in node.inputs:
        found |= chain(each)
    return found


def test_an_untouched_chain_is_verified_to_its_origin(run: Path) -> None:
    node = lineage(run / "third")
    assert node.verified()
    assert chain(node) == {"third": (), "second": (), "first": (), "source.bin": ()}
    kinds = []
    while node.inputs:
        kinds.append(node.kind)
        [node] = node.inputs
    assert [*kinds, node.kind] == ["notes", "notes", "notes", "input"]


def test_a_relative_input_is_the_one_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("source.bin").write_bytes(name.encode())
        node = lineage(make_notes(tmp_path / f"made-{name}", Path("source.bin")).path)
        assert node.verified()
        assert Path(node.inputs[0].path).resolve() == tmp_path.resolve() / name / "source.bin"


def test_a_moved_run_folder_stays_verified(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "deep" / "elsewhere"
    moved.parent.mkdir()
    shutil.move(run, moved)
    node = lineage(moved / "third")
    assert node.verified()
    assert set(chain(node)) == {"third", "second", "first", "source.bin"}


def test_it_is_the_same_by_whatever_name_a_folder_is_given(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where work is on another disk, and a link leads there; made by that name, too."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to("far/away")
    (tmp_path / "links").mkdir()
    make_notes(tmp_path / "near" / "notes", run / "source.bin")
    for artifact in (run / "third", tmp_path / "near" / "notes"):
        expected = [each.digest for each in lineage(artifact).inputs]
        link = tmp_path / "links" / artifact.name
        link.symlink_to(artifact.resolve())
        (artifact / "inside").mkdir()
        for place, path in [
            (tmp_path, artifact),
            (tmp_path, artifact.resolve()),
            (tmp_path, link),
            (artifact, Path()),
            (artifact / "inside", Path("..")),
            (artifact, Path("inside", "..")),
        ]:
            monkeypatch.chdir(place)
            node = lineage(path)
            assert node.verified(), (path, node.sentences())
            assert [each.digest for each in node.inputs] == expected


def test_artifacts_in_folders_of_a_folder_are_found(run: Path) -> None:
    make_notes(run / "cut" / "first", run / "source.bin", NotesSpec(text="other"))
    (run / "cut" / "again").symlink_to("..")
    found = lineage(run)
    assert [each.name for each in found.inputs] == ["cut/first", "first", "second", "third"]
    assert found.verified()


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def forge_consistently(artifact: Path) -> None:
    """Change data and have the artifact's own statement say that it has always been so."""
    from hashlib import sha256

    (artifact / "text.txt").write_text("forged")
    file = artifact / "statement.json"
    record = json.loads(file.read_text())
    for subject in record["subject"]:
        data = (artifact / subject["name"]).read_bytes()
        subject["digest"]["sha256"] = sha256(data).hexdigest()
    digests = {
        subject["name"]: subject["digest"]["sha256"]
        for subject in record["subject"]
        if subject["name"] not in ("spec.json", "result.json")
    }
    record["predicate"]["buildDefinition"]["internalParameters"]["digest"] = listing_digest(digests)
    file.write_text(json.dumps(record))


def swap_artifact(artifact: Path) -> None:
    """Put a true artifact, made from another configuration, in the place."""
    shutil.rmtree(artifact)
    make_notes(artifact, artifact.with_name("source.bin"), NotesSpec(text="another"))


def say_another_kind(artifact: Path) -> None:
    file = artifact / "statement.json"
    said = json.loads(file.read_text()) | {"predicateType": "https://example.org/other"}
    file.write_text(json.dumps(said))


NOT_READ = "is not what was read"


@pytest.mark.parametrize(
    ("tamper", "node", "problems"),
    [
        (lambda run: flip_a_bit(run / "third/text.txt"), "third", ["text.txt was changed"]),
        (
            lambda run: flip_a_bit(run / "second/copy/data.bin"),
            "second",
            ["copy/data.bin was changed", NOT_READ],
        ),
        (
            lambda run: (run / "first/text.txt").unlink(),
            "first",
            ["text.txt is missing", NOT_READ],
        ),
        (
            lambda run: (run / "second/copy/new.bin").write_bytes(b""),
            "second",
            ["copy/new.bin was added", NOT_READ],
        ),
        (lambda run: flip_a_bit(run / "source.bin"), "source.bin", [NOT_READ]),
        (lambda run: swap_artifact(run / "first"), "first", [NOT_READ]),
        (lambda run: forge_consistently(run / "first"), "first", [NOT_READ]),
        (lambda run: shutil.rmtree(run / "second"), "second", ["is missing"]),
        (
            lambda run: (run / "second/result.json").write_text('{"files": 3}'),
            "second",
            ["result.json was changed"],
        ),
        (
            lambda run: (run / "second/spec.json").write_text('{"spec": {"text": "nicer"}}'),
            "second",
            ["spec.json was changed", "statement.json and spec.json disagree"],
        ),
        (
            lambda run: say_another_kind(run / "second"),
            "second",
            ["statement.json is of an unknown kind"],
        ),
    ],
    ids=[
        "a bit of the last artifact",
        "a bit in the middle",
        "a file removed",
        "a file added",
        "the origin",
        "another artifact in the place",
        "forged with its statement",
        "an artifact removed",
        "other figures",
        "another configuration",
        "another predicate",
    ],
)
def test_exactly_what_was_done_is_named_where_it_was_done(
    run: Path, tamper: Callable[[Path], object], node: str, problems: list[str]
) -> None:
    tamper(run)
    found = lineage(run / "third")
    assert not found.verified()
    by_name = chain(found)
    named = by_name.pop(node)
    assert [name.partition(":")[0] for name in named] == problems
    assert not any(by_name.values()), by_name


@pytest.mark.parametrize(
    ("add", "node", "problem"),
    [
        (
            lambda run: (run / "second/copy/.more").write_text(""),
            "second",
            "copy/.more is hidden: no digest covers it",
        ),
        (
            lambda run: (run / "third/.cache").mkdir(),
            "third",
            ".cache/ is hidden: no digest covers what is in it",
        ),
        (
            lambda run: (run / "first/more").symlink_to(run / "second"),
            "first",
            "more is a symbolic link: nothing binds what it leads to",
        ),
    ],
)
def test_what_no_digest_covers_is_named(
    run: Path, add: Callable[[Path], object], node: str, problem: str
) -> None:
    (run / "first/.seen.json").touch()  # subl's own
    assert lineage(run / "third").verified()
    add(run)
    found = chain(lineage(run / "third"))
    assert found.pop(node) == (problem,)
    assert not any(found.values())


def test_a_plain_folder_may_have_links_to_files_and_nothing_hidden(tmp_path: Path) -> None:
    """As hubs keep models: a digest takes such a link for the file."""
    (tmp_path / "blob").write_text("weights")
    folder = tmp_path / "model"
    (folder / "copy").mkdir(parents=True)
    (folder / "copy" / "data.bin").symlink_to(tmp_path / "blob")
    made = make_notes(tmp_path / "made", folder).path
    assert lineage(made).verified()
    (folder / ".hidden").touch()
    assert chain(lineage(made))["model"] == (".hidden is hidden: no digest covers it",)


def test_an_index_of_weights_leads_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("one", "copy"):
        (folder / name).mkdir(parents=True)
    (folder / "copy" / "data.bin").touch()
    index = {"weight_map": {"a": "../../weights.safetensors", "b": "b.safetensors"}}
    (folder / "one/model.safetensors.index.json").write_text(json.dumps(index))
    made = make_notes(tmp_path / "made", folder).path
    what = "which is hidden, or no .safetensors file in the folder"
    said = f"model.safetensors.index.json has the tensor 'a' in '../../weights.safetensors', {what}"
    assert chain(lineage(made)) == {"made": (), "models": (f"one/{said}",)}
    with pytest.raises(InputError, match="has the tensor 'a'"):
        make_notes(tmp_path / "other", folder / "one")


def test_the_digest_that_an_artifact_states_is_checked(run: Path) -> None:
    """It is what keys and reuse go by."""
    file = run / "third" / "statement.json"
    record = json.loads(file.read_text())
    record["predicate"]["buildDefinition"]["internalParameters"]["digest"] = "0" * 64
    file.write_text(json.dumps(record))
    assert not lineage(run / "third").verified()


def test_an_input_that_two_artifacts_read_differently_is_named_once(run: Path) -> None:
    """`first` was made of the old source, `fourth` of the new: only the old one is a problem."""
    (run / "source.bin").write_bytes(b"new")
    make_notes(run / "fourth", run / "source.bin")
    assert lineage(run / "fourth").verified()
    assert chain(lineage(run / "first"))["source.bin"][0].startswith(NOT_READ)


def test_what_is_behind_artifacts_of_one_digest_is_printed_of_each(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their data is the same, and what it was made from lies in two places."""
    (run / "other.bin").write_bytes((run / "source.bin").read_bytes())
    make_notes(run / "twin", run / "other.bin")
    assert lineage(run / "twin").digest == lineage(run / "first").digest
    (run / "other.bin").write_bytes(b"changed")
    with pytest.raises(SystemExit, match="1"):
        main(["lineage", str(run)])
    told = capsys.readouterr().out.splitlines()
    (line,) = (number for number, text in enumerate(told) if text.startswith("  twin "))
    assert told[line].endswith("ok") and "other.bin" in told[line + 1]
    assert "!! is not what was read" in told[line + 2]
    assert sum("(as above)" in text for text in told) == 2  # first, second: each named again
    assert told[-1] == "NOT verified: see above"


def test_the_json_form_carries_every_node_and_problem(run: Path) -> None:
    (run / "second" / "text.txt").unlink()
    value = json.loads(json.dumps(lineage(run / "third").to_json()))
    [second] = value["inputs"]
    assert value["problems"] == [] and second["problems"][0] == "text.txt is missing"
    assert second["inputs"][0]["inputs"][0]["name"] == "source"


def test_a_chain_with_many_ways_through_it_is_asked_once() -> None:
    """Forty generations, each made of the one before in two ways: a trillion ways to the first."""
    node = LineageNode("source", "source", "input", "0", ("is missing",))
    for number in range(40):
        node = LineageNode(str(number), "", "distill", "0", inputs=(node, replace(node, name="b")))
    assert not node.verified()
    first, again = node.to_json()["inputs"]
    assert (len(first["inputs"]), first["as_above"]) == (2, False)
    assert (again["inputs"], again["as_above"]) == ([], True)


def test_a_path_that_is_not_there_is_named(run: Path) -> None:
    with pytest.raises(InputError, match="nothing does not exist"):
        lineage(run / "nothing")
