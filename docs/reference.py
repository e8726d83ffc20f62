"""Writes what can be read off the code: docs/reference/*.md and docs/schema/*.json.

    python docs/reference.py

Commands come from Click, configuration keys from the JSON Schemas of their models, examples from
the commands' own help and from runs/. An example that its model refuses, or a key without a
meaning, ends it.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from subl.experiment.kinds import KINDS
from subl_cli.group import CommandWithSubcommands
from subl_cli.main import subl

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
Schema = Mapping[str, Any]
FILE_OF = {
    "cache": "distill cache",
    "calibrate": "predict calibrate",
    "bank": "scan",
    "trait": "traits",
    "rubric": "rubrics",
    "policy": "verify",
    "pull": "mitigate pull",
    "heldout": "mitigate heldout",
}
"""The commands whose help shows files of these kinds; others are called as their kind."""


def pages() -> dict[str, str]:
    """Every file that is written, by its path in docs/."""
    schemas = {kind: model.model_json_schema() for kind, model in KINDS.items()}
    found = {
        f"schema/{kind}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for kind, schema in schemas.items()
    }
    commands = dict(leaves(subl, []))
    found |= {
        f"reference/{_slug(name)}.md": command_page(name, commands[name]) for name in commands
    }
    # A table that several kinds of file have is described where it is first; those that hold whole
    # other files come last.
    described: dict[str, str] = {}
    holders = ["predict", "experiment"]
    order = sorted(schemas, key=lambda kind: holders.index(kind) if kind in holders else -1)
    for kind in order:
        described[KINDS[kind].__name__] = f"{kind}-toml.md"
    for kind in order:
        examples = examples_of(kind, commands)
        for example in examples:
            KINDS[kind].model_validate(tomllib.loads(example))
        page = f"{kind}-toml.md"
        for name in schemas[kind].get("$defs", {}):
            described.setdefault(name, f"{page}#{name.lower()}")
        found[f"reference/{page}"] = kind_page(kind, schemas[kind], examples, described)
    found["reference/index.md"] = index_page(commands, schemas)
    return found


def leaves(command: click.Command, names: list[str]) -> Iterator[tuple[str, click.Command]]:
    """Every command that a person calls, by how it is called: `config show`."""
    if command.hidden:
        return
    if names and (
        not isinstance(command, click.Group) or isinstance(command, CommandWithSubcommands)
    ):
        yield " ".join(names), command
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from leaves(inner, [*names, name])


def command_page(name: str, command: click.Command) -> str:
    ctx = click.Context(command, info_name=f"subl {name}")
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    records = [param.get_help_record(ctx) for param in command.params]
    # Click's own it makes once, with the names that the first who calls the command gives it.
    records.append(("-h, --help", "Show this message and exit."))
    options = [record for record in records if record is not None]
    lines = [f"# subl {name}", f"```text\n{usage}\n```", *_help(command.help or "")]
    if options:
        # A table's cell may hold no `|`, not even in code.
        rows = [
            (f"`{option.replace('|', ', ')}`", _cell(meaning))
            for option, meaning in options
            if meaning
        ]
        lines += ["## Options", _table(("option", "meaning"), rows)]
    return "\n\n".join(lines) + "\n"


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a command's help; what Click leaves as it is becomes code."""
    for part in inspect.cleandoc(text).split("\n\n"):
        verbatim = part.removeprefix("\b\n")
        if verbatim == part:
            yield part
            continue
        title, _, block = verbatim.partition("\n")
        form = "toml" if title.endswith(".toml:") else "console"
        yield f"{title}\n\n```{form}\n{textwrap.dedent(block)}\n```"


def examples_of(kind: str, commands: Mapping[str, click.Command]) -> list[str]:
    """Small files of that kind: those in the help of its command, or those that have its name, if
    one has."""
    if kind == "experiment":
        return [(ROOT / "runs/demo.toml").read_text(encoding="utf-8")]
    text = commands[FILE_OF.get(kind, kind)].help or ""
    found = re.findall(r"(\S*)\.toml:\n((?: +\S.*\n?)+)", text)
    own = [each for each in found if each[0] == kind]
    return [textwrap.dedent(example) for _, example in own or found]


def kind_page(
    kind: str, schema: Schema, examples: Sequence[str], described: Mapping[str, str]
) -> str:
    page = f"{kind}-toml.md"
    lines = [f"# {kind.capitalize()} files", *_section(schema, described, page)]
    lines += ["## Example" if len(examples) == 1 else "## Examples"]
    lines += [f"```toml\n{example.strip()}\n```" for example in examples]
    for name, each in schema.get("$defs", {}).items():
        if described[name] == f"{page}#{name.lower()}":
            lines += [f"## {name}", *_section(each, described, page)]
    return "\n\n".join(lines) + "\n"


def _section(schema: Schema, described: Mapping[str, str], page: str) -> Iterator[str]:
    yield _markdown(inspect.cleandoc(schema.get("description", "")))
    if "oneOf" in schema:  # a file of one of several kinds
        key = schema["discriminator"]["propertyName"]
        choices = schema["discriminator"]["mapping"].items()
        yield "\n".join(f'- `{key} = "{n}"`: {_link(ref, described, page)}' for n, ref in choices)
        return
    required = schema.get("required", ())
    rows = []
    for key, each in schema.get("properties", {}).items():
        meaning = each.get("description")
        if meaning is None and "const" in each:
            meaning = "this kind"
        if meaning is None and "$ref" in each:
            meaning = f"a table: see {_link(each['$ref'], described, page)}"
        if meaning is None:
            raise SystemExit(f"`{key}` in {schema['title']} has no meaning: give it a description")
        default = "required" if key in required else _default(each)
        rows.append((f"`{key}`", _type(each, described, page), default, _cell(meaning)))
    yield _table(("key", "type", "default", "meaning"), rows)


def _type(schema: Schema, described: Mapping[str, str], page: str) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        return _link(schema["$ref"], described, page)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            parts = [_type(each, described, page) for each in schema[several]]
            return " or ".join(part for part in parts if part != "null")
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        least = ", one at least" if schema.get("minItems") == 1 else ""
        return f"list of {_type(schema.get('items', {}), described, page)}{least}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = [
        f"{sign} {schema[bound]:g}"
        for bound, sign in bounds.items()
        if bound in schema and abs(schema[bound]) < 2**31
    ]
    if "pattern" in schema:
        said.append(f"like `{schema['pattern']}`")
    return " ".join([{"object": "table"}.get(kind, kind), *said]).replace("|", "\\|")


def _link(reference: str, described: Mapping[str, str], page: str) -> str:
    name = reference.rpartition("/")[2]
    return f"[{name}]({described[name].removeprefix(page)})"


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if value is None or value == {} or "const" in schema or isinstance(value, dict):
        return ""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > 60 and isinstance(value, list):
        return f"{len(value)}: `{json.dumps(value[0], ensure_ascii=False)}`, …"
    return f"`{text}`"


def index_page(commands: Mapping[str, click.Command], schemas: Mapping[str, Schema]) -> str:
    called = [
        (f"[subl {name}]({_slug(name)}.md)", _cell(each.get_short_help_str(100)))
        for name, each in commands.items()
    ]
    files = [
        (
            f"[{kind}]({kind}-toml.md)",
            _cell(schema["description"].partition("\n\n")[0]),
            f"[{kind}.json](../schema/{kind}.json)",
        )
        for kind, schema in schemas.items()
    ]
    lines = [
        "# Reference",
        "Written by `python docs/reference.py` from the commands and the models of their files.",
        "## Commands",
        _table(("command", "what it does"), called),
        "## Files",
        _table(("kind", "what it says", "JSON Schema"), files),
    ]
    return "\n\n".join(lines) + "\n"


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _cell(text: str) -> str:
    return _markdown(" ".join(text.split())).replace("|", "\\|")


def _markdown(text: str) -> str:
    """What HTML or Markdown would take for its own, and what stays code."""
    parts = text.replace("``", "`").split("`")
    plain = [re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts[::2]]
    mixed = [part for pair in zip(plain, [*parts[1::2], ""], strict=False) for part in pair]
    return "".join(f"`{part}`" if index % 2 else part for index, part in enumerate(mixed[:-1]))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    for folder in ("reference", "schema"):
        (DOCS / folder).mkdir(exist_ok=True)
        for file in (DOCS / folder).iterdir():
            file.unlink()
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
