"""Several runs on one page."""

from __future__ import annotations

from subl.report import beside, render

from .sample import sample_document, sample_doses


def test_runs_stand_beside_each_other_by_contrast() -> None:
    one = sample_document()
    other = one.model_copy(
        update={
            "title": "Another",
            "versions": one.versions | {"torch": "1.0"},
            "doses": (sample_doses(),),
        }
    )
    found = beside({"a": one, "b": other})
    assert found.title == f"{one.title} beside Another"
    labels = [each.label for each in found.effects]
    assert sorted(labels) == sorted(f"{n}: {e.label}" for n in "ab" for e in one.effects)
    contrasts = [each.contrast for each in found.effects]
    assert contrasts == sorted(contrasts, key=list(dict.fromkeys(contrasts)).index)
    assert [each.name for each in found.matrices] == [
        f"{n}: {each.name}" for n in "ab" for each in one.matrices
    ]
    assert found.groups == one.groups and found.doses[0].title == "b: Own trait"
    assert found.versions["torch"] == f"a: {one.versions.get('torch', 'none')}; b: 1.0"
    same = next(key for key in one.versions if key != "torch")
    assert found.versions[same] == one.versions[same]
    page = render(found)
    assert "no test compares one with another" in page and "b: Own trait, by hop" in page
