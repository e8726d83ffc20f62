"""What names a model, and what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.errors import InputError
from subl.model.source import folder_of, folder_there


@pytest.mark.parametrize("name", ["sg/lab", "bank.toml"])
def test_a_file_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also where its path could be a name of the hub."""
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("")
    for look in (folder_of, folder_there):
        with pytest.raises(InputError, match=f"^{name} is a file, and no model$"):
            look(name, tmp_path / "models")
    with pytest.raises(InputError, match="no model at nosuch"):
        folder_there("nosuch", tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_what_would_be_fetched_is_not_there(tiny_model: Path, tmp_path: Path) -> None:
    assert folder_there(str(tiny_model), tmp_path / "models") == tiny_model
    assert folder_there("some/model", tmp_path / "models") is None
    assert not (tmp_path / "models").exists()
