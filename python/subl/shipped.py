"""Files that come with the package, known by their names: rules, rubrics, traits.

What a person may give as a path may be such a name, too. A name has no slash and no ending, so that
it is never taken for a path; a file of that name wins, for it is what the person sees.
"""

from __future__ import annotations

from pathlib import Path

from subl.errors import InputError

_PACKAGE = Path(__file__).parent


def shipped(folder: str) -> dict[str, Path]:
    """The files of one of the package's folders of TOML, by name, sorted."""
    files = {path.stem: path for path in (_PACKAGE / folder).glob("*.toml")}
    return dict(sorted(files.items()))


def file_of(given: Path | str, folder: str) -> Path:
    """The file that a path or the name of a shipped one stands for.

    Raises:
        InputError: there is neither; names what is shipped.
    """
    path, known = Path(given), shipped(folder)
    if path.is_file() or path.suffix or path.name != str(given):
        return path
    if path.name not in known:
        found = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise InputError(
            f"{found}, and nothing of that name is shipped",
            hint=f"give a path, or one of {', '.join(known)}",
        )
    return known[path.name]
