"""The rules of the house, read off the source: who may import whom, and what nobody does."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "python").rglob("*.py"))
COMMAND_LINE = sorted((ROOT / "cli").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
STAGES = (
    "teach",
    "generate",
    "judge",
    "filter",
    "draw",
    "pair",
    "distill",
    "evaluate",
    "classifiers",
    "recast",
    "theorem",
    "report",
)
MODELS = {"torch", "transformers", "deepspeed", "peft", "safetensors"}
MAY_IMPORT_MODELS = (
    "subl/train/",
    "subl/audit/predict/slope.py",
    "subl/audit/mitigate/replace.py",
    "subl/audit/scan/score.py",
    "subl/classifiers/mlp.py",
    "subl/recast/permuted.py",
    "subl/theorem/measure.py",
    "subl/theorem/subjects.py",
    "subl/trait/exact.py",
    "subl/trait/passes.py",
    "subl/sample/continuous.py",
    "subl/sample/proof.py",
    "subl/sample/rows.py",
    "subl/sample/sampling.py",
)
MOST_LINES = 500
UNPICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def in_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def statements(body: list[ast.stmt], *, functions: bool) -> Iterator[ast.stmt]:
    """Every statement that runs; with `functions` false, only those that run on import."""
    for node in body:
        if in_type_checking(node):
            assert isinstance(node, ast.If)
            yield from statements(node.orelse, functions=functions)
            continue
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not functions:
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, name, []), functions=functions)
        for part in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
            yield from statements(part.body, functions=functions)


def imported(body: list[ast.stmt], *, functions: bool = True) -> Iterator[str]:
    """Names of the modules (and, after `from`, what is taken out of them); `.x` where relative."""
    for node in statements(body, functions=functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{'.' * node.level}{node.module or ''}"
            yield from (f"{module}.{alias.name}" for alias in node.names)


def roots(tree: ast.Module, *, functions: bool = True) -> set[str]:
    return {name.partition(".")[0] for name in imported(tree.body, functions=functions)}


# Each rule returns what breaks it in one file.


def knows_the_command_line(tree: ast.Module, path: Path) -> set[str]:
    return roots(tree) & {"click", "subl_cli", "rich", "tqdm"}


def imports_relatively(tree: ast.Module, path: Path) -> set[str]:
    """Which would hide from the rules below who is imported."""
    return {name for name in imported(tree.body) if name.startswith(".")}


def imports_another_stage(tree: ast.Module, path: Path) -> set[str]:
    parts = path.as_posix().partition("/subl/")[2].split("/")
    if parts[0] not in STAGES:
        return set()
    names = (name.split(".") for name in imported(tree.body))
    found = {name[1] for name in names if name[0] == "subl" and len(name) > 1}
    return found & set(STAGES) - {parts[0]}


def imports_models_at_once(tree: ast.Module, path: Path) -> set[str]:
    if any(allowed in path.as_posix() for allowed in MAY_IMPORT_MODELS):
        return set()
    return roots(tree, functions=False) & MODELS


def imports_deepspeed(tree: ast.Module, path: Path) -> set[str]:
    """One file knows it; another optimiser is another file."""
    if path.as_posix().endswith("subl/train/engine.py"):
        return set()
    return roots(tree) & {"deepspeed"}


def is_dangerous(tree: ast.Module, path: Path) -> set[str]:
    """Runs code that came with data, or hands a string to a shell."""
    found = roots(tree) & UNPICKLERS
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("torch.load", "os.system", "os.popen", "eval", "exec"):
            found.add(called)
        for keyword in node.keywords:
            # Anything but a plain False: a variable could be true.
            if keyword.arg in ("trust_remote_code", "shell", "allow_pickle") and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                found.add(keyword.arg)
    return found


def prints_to_stderr_itself(tree: ast.Module, path: Path) -> set[str]:
    """One function does, which does not mind that nobody reads it."""
    if path.as_posix().endswith("subl_cli/output.py"):
        return set()
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {each.arg for call in calls for each in call.keywords if each.arg == "err"}


def asks_the_locale(tree: ast.Module, path: Path) -> set[str]:
    """Reads or writes text in whatever encoding the machine prefers; ours is UTF-8."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        given = {each.arg: each.value for each in node.keywords}
        if "encoding" in given or called == "os.open":
            continue
        if name in ("read_text", "write_text", "TextIOWrapper"):
            found.add(name)
        elif name in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
            default = "b" if "Temporary" in name else "r"
            modes = [
                each.value
                for each in (*node.args, *filter(None, [given.get("mode")]))
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
                if set(each.value) <= set("rwxabt+")
            ]
            if "b" not in (modes or [default])[-1]:
                found.add(name)
        found |= given.keys() & {"text", "universal_newlines"} if "subprocess" in called else set()
    return found


def is_long(tree: ast.Module, path: Path) -> set[str]:
    """Holds two ideas."""
    lines = max((node.end_lineno or 0 for node in tree.body), default=0)
    return {f"{lines} lines"} if lines > MOST_LINES else set()


Rule = Callable[[ast.Module, Path], set[str]]


def breaches(rule: Rule, files: list[Path]) -> dict[str, set[str]]:
    found = {}
    for path in files:
        if names := rule(ast.parse(path.read_text(encoding="utf-8")), path):
            found[path.relative_to(ROOT).as_posix()] = names
    return found


def module_name(path: Path) -> str:
    """Of a file under python/ or cli/; a package's is its folder's."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
    return name.removesuffix(".__init__")


def circle(modules: Mapping[str, ast.Module]) -> list[str]:
    """Modules that import one another in a loop, if any do, the first again at the end.

    Imports inside functions count, and those for types alone: whoever reads the one file has to
    know the other.
    """
    imports: dict[str, set[str]] = {name: set() for name in modules}
    for name, tree in modules.items():
        nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
        for taken in imported([*nodes]):
            # What is taken out of a module may be a module itself.
            known = [each for each in (taken, taken.rpartition(".")[0]) if each in modules]
            imports[name].update(known[:1])
    return loop(imports)


def loop(imports: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_there_is_something_to_check() -> None:
    packages = {path.parent.name for path in LIBRARY}
    assert packages.issuperset(STAGES)
    assert len(COMMAND_LINE) > 10
    for allowed in MAY_IMPORT_MODELS:
        assert (ROOT / "python" / allowed).exists(), allowed


def test_the_library_knows_no_command_line() -> None:
    assert breaches(knows_the_command_line, LIBRARY) == {}


def test_imports_are_absolute() -> None:
    assert breaches(imports_relatively, [*LIBRARY, *COMMAND_LINE]) == {}


def test_no_stage_imports_another() -> None:
    assert breaches(imports_another_stage, LIBRARY) == {}


def test_what_runs_models_is_imported_where_it_is_needed() -> None:
    assert breaches(imports_models_at_once, [*LIBRARY, *COMMAND_LINE]) == {}


def test_one_file_knows_deepspeed() -> None:
    assert breaches(imports_deepspeed, [*LIBRARY, *COMMAND_LINE]) == {}


def test_nothing_unpickles_or_trusts_code_that_comes_with_data() -> None:
    assert breaches(is_dangerous, [*LIBRARY, *COMMAND_LINE, *TESTS]) == {}


def test_one_function_writes_to_stderr() -> None:
    assert breaches(prints_to_stderr_itself, COMMAND_LINE) == {}


def test_text_is_utf8_whatever_the_locale() -> None:
    assert breaches(asks_the_locale, [*LIBRARY, *COMMAND_LINE]) == {}


def test_no_file_holds_two_ideas() -> None:
    assert breaches(is_long, [*LIBRARY, *COMMAND_LINE]) == {}


def test_imports_run_in_no_circle() -> None:
    files = [*LIBRARY, *COMMAND_LINE]
    modules = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in files}
    assert {"subl", "subl.train.loop", "subl_cli.main"} <= modules.keys()
    assert circle(modules) == []


@pytest.mark.parametrize(
    "import_of_a",
    [
        "import subl.a",
        "from subl import a",
        "def f():\n  from subl.a import x",
        "if TYPE_CHECKING:\n  from subl.a import X",
    ],
)
def test_a_circle_is_found(import_of_a: str) -> None:
    codes = {"subl.a": "from subl.b import x", "subl.b": "import subl.c", "subl.c": import_of_a}
    found = circle({name: ast.parse(code) for name, code in codes.items()})
    assert sorted(set(found)) == ["subl.a", "subl.b", "subl.c"]


def test_a_package_that_hands_on_what_its_modules_have_is_no_circle() -> None:
    codes = {
        "subl.p": "from subl.p.a import x",
        "subl.p.a": "from subl.p import b",
        "subl.p.b": "from subl import q",
        "subl.q": "import os",
    }
    assert circle({name: ast.parse(code) for name, code in codes.items()}) == []


def test_files_are_named_after_what_is_in_them() -> None:
    sources = [*ROOT.glob("rust/*/src/**/*.rs"), *LIBRARY, *COMMAND_LINE, *TESTS]
    assert any(path.suffix == ".rs" for path in sources)
    names = [
        path
        for path in sources
        if {path.stem, path.parent.name} & {"util", "utils", "helpers", "common", "misc"}
    ]
    assert names == []


@pytest.mark.parametrize(
    ("rule", "place", "code", "found"),
    [
        (knows_the_command_line, "subl/shards/rows.py", "from click import echo", "click"),
        (knows_the_command_line, "subl/a.py", "def f():\n  import subl_cli.main", "subl_cli"),
        (imports_relatively, "subl/teach/run.py", "from ..distill import x", "..distill.x"),
        (imports_another_stage, "subl/teach/run.py", "from subl.distill.run import x", "distill"),
        (imports_another_stage, "subl/teach/run.py", "from subl import filter", "filter"),
        (imports_another_stage, "subl/report/a.py", "def f():\n  import subl.teach", "teach"),
        (imports_models_at_once, "subl/model/load.py", "import torch.nn", "torch"),
        (imports_models_at_once, "subl/a.py", "try:\n  import torch\nexcept E:\n  x", "torch"),
        (imports_models_at_once, "subl/a.py", "class A:\n  import deepspeed", "deepspeed"),
        (
            imports_models_at_once,
            "subl/a.py",
            "try: x\nexcept E:\n  from transformers import Y",
            "transformers",
        ),
        (imports_models_at_once, "subl/a.py", "from peft import x", "peft"),
        (imports_deepspeed, "subl/train/loop.py", "def f():\n  import deepspeed.zero", "deepspeed"),
        (is_dangerous, "subl/a.py", "def f():\n  import pickle", "pickle"),
        (is_dangerous, "subl/a.py", "x = torch.load(path)", "torch.load"),
        (is_dangerous, "subl/a.py", "load(path, trust_remote_code=True)", "trust_remote_code"),
        (is_dangerous, "subl/a.py", "load(path, trust_remote_code=given)", "trust_remote_code"),
        (is_dangerous, "subl/a.py", "subprocess.run(x, shell=True)", "shell"),
        (is_dangerous, "subl/a.py", "os.system('x')", "os.system"),
        (prints_to_stderr_itself, "subl_cli/a.py", "click.echo(x, err=True)", "err"),
        (asks_the_locale, "subl/a.py", "path.read_text()", "read_text"),
        (asks_the_locale, "subl/a.py", "path.write_text(x, newline='')", "write_text"),
        (asks_the_locale, "subl/a.py", "open(path)", "open"),
        (asks_the_locale, "subl/a.py", "path.open('a')", "open"),
        (asks_the_locale, "subl/a.py", "open(path, mode='w')", "open"),
        (asks_the_locale, "subl/a.py", "os.fdopen(1, 'w')", "fdopen"),
        (asks_the_locale, "subl/a.py", "tempfile.TemporaryFile('w+')", "TemporaryFile"),
        (asks_the_locale, "subl/a.py", "subprocess.run(x, text=True)", "text"),
        (is_long, "subl/a.py", "x = 1\n" * 501, "501 lines"),
    ],
)
def test_a_breach_of_each_rule_is_found(rule: Rule, place: str, code: str, found: str) -> None:
    assert rule(ast.parse(code), Path("/python") / place) == {found}


@pytest.mark.parametrize(
    ("rule", "place", "code"),
    [
        (imports_another_stage, "subl/teach/run.py", "from subl.teach import x"),
        (imports_another_stage, "subl/experiment/chain.py", "from subl.teach import x"),
        (imports_models_at_once, "subl/train/engine.py", "import torch"),
        (imports_deepspeed, "subl/train/engine.py", "def f():\n  import deepspeed"),
        (imports_models_at_once, "subl/a.py", "def f():\n  import torch"),
        (imports_models_at_once, "subl/a.py", "if TYPE_CHECKING:\n  import torch"),
        (is_dangerous, "subl/a.py", "load(path, trust_remote_code=False)"),
        (asks_the_locale, "subl/a.py", "path.read_text(encoding='utf-8')"),
        (asks_the_locale, "subl/a.py", "path.open('rb', buffering=0)"),
        (asks_the_locale, "subl/a.py", "open(path, mode='wb')"),
        (asks_the_locale, "subl/a.py", "os.open(path, flags)"),
        (asks_the_locale, "subl/a.py", "tempfile.TemporaryFile(prefix='a')"),
        (is_long, "subl/a.py", "x = 1\n" * 500),
    ],
)
def test_what_is_allowed_is_not_called_a_breach(rule: Rule, place: str, code: str) -> None:
    assert rule(ast.parse(code), Path("/python") / place) == set()


# The same of what is written in Rust. A folder's module is its mod.rs; tests are apart, at the end
# of a file or in one of their own.

ENGINE = ROOT / "rust" / "engine" / "src"
RUST_TESTS = re.compile(r"^#\[cfg\(test\)\]\n(?:pub(?:\(crate\))? )?mod (\w+)(;| \{)", re.MULTILINE)
RUST_INLINE = re.compile(r"^(?:pub(?:\(crate\))? )?mod \w+ \{.*?^\}", re.MULTILINE | re.DOTALL)
RUST_USE = re.compile(r"^ *(pub(?:\([^)]*\))? )?use ([^;]+);", re.MULTILINE)
RUST_PATH = re.compile(r"(?<![\w:])\w+(?:::\w+)+")
# Characters first: one of them may be a quote.
RUST_TEXT = re.compile(
    r"'(?:[^'\\]|\\'|\\[^']+)'" r'|r#".*?"#|"(?:\\.|[^"\\])*"' r"|//[^\n]*", re.DOTALL
)


def rust_files(folder: Path) -> dict[Path, str]:
    """What is in them without tests."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.rs"))}
    tests = {
        path.parent / f"{name}.rs"
        for path, text in files.items()
        for name, end in RUST_TESTS.findall(text)
        if end == ";"
    }
    return {path: without_tests(text) for path, text in files.items() if path not in tests}


def without_tests(text: str) -> str:
    at_end = [found.start() for found in RUST_TESTS.finditer(text) if found[2] != ";"]
    return text[: min(at_end, default=len(text))]


def rust_module(path: Path) -> str:
    """Of a file of the engine; that of lib.rs has no name."""
    parts = path.relative_to(ENGINE).with_suffix("").parts
    return "::".join(parts[:-1] if parts[-1] in ("mod", "lib") else parts)


def rust_names(tree: str) -> Iterator[tuple[str, str]]:
    """What `use` makes known: the name, and the path of it."""
    head, brace, inner = " ".join(tree.split()).partition("{")
    if not brace:
        path, _, name = head.removesuffix("::self").partition(" as ")
        yield name or path.rpartition("::")[2], path
    for part in re.findall(r"(?:[^,{}]|\{(?:[^{}]|\{[^{}]*\})*\})+", inner[:-1]):
        yield from rust_names(head + part.strip()) if part.strip() else ()


def rust_circle(files: Mapping[str, str]) -> list[str]:
    """Modules that take from one another in a loop, by `use` or by a path in their code.

    What a module only hands on, with `pub use`, is taken from where it is made.
    """
    codes = {name: RUST_TEXT.sub("", text) for name, text in files.items()}
    # To what is in a module inside of a file, that file is above it.
    codes = {
        name: RUST_INLINE.sub(lambda found: re.sub(r"(?<!::)super::", "self::", found[0]), code)
        for name, code in codes.items()
    }
    names = {
        name: {
            each: path
            for _, tree in RUST_USE.findall(code)
            for each, path in rust_names(tree)
            if path != f"self::{each}"
        }
        for name, code in codes.items()
    }

    def inside(module: str, part: str) -> str:
        return f"{module}::{part}".removeprefix("::")

    def maker(module: str, path: str) -> str | None:
        """Of what this path leads to in this module; none if it leads out of the crate."""
        first, *rest = path.split("::")
        at = {"crate": "", "self": module, "super": module.rpartition("::")[0]}.get(first)
        if at is None and inside(module, first) not in codes:
            return None
        at = inside(module, first) if at is None else at
        for position, part in enumerate(rest):
            if part == "super":
                at = at.rpartition("::")[0]
            elif inside(at, part) in codes:
                at = inside(at, part)
            elif part in names[at]:
                return maker(at, "::".join([names[at][part], *rest[position + 1 :]])) or at
            else:
                break
        return at

    imports: dict[str, set[str]] = {}
    for name, code in codes.items():
        used = [
            path for on, tree in RUST_USE.findall(code) if not on for _, path in rust_names(tree)
        ]
        taken = {maker(name, path) for path in [*used, *RUST_PATH.findall(RUST_USE.sub("", code))]}
        imports[name] = {each for each in taken if each is not None} - {name}
    return loop(imports)


def test_rust_imports_run_in_no_circle() -> None:
    modules = {rust_module(path): text for path, text in rust_files(ENGINE).items()}
    assert {"", "lines", "json::locator", "plan::scan"} <= modules.keys()
    assert not modules.keys() & {"lines::tests", "tokenizer::examples"}
    assert rust_circle(modules) == []


def test_no_rust_file_holds_two_ideas() -> None:
    long = {
        path: lines
        for path, text in rust_files(ROOT / "rust").items()
        if (lines := text.count("\n")) > MOST_LINES
    }
    assert long == {}


@pytest.mark.parametrize(
    "code_of_a",
    [
        "use crate::b;",
        "use crate::b::thing;",
        "use crate::{\n    b::{c::{Small, Thing}, other as another},\n    d,\n};",
        "    use super::b::Thing;",
        "fn f() { crate::b::thing() }",
        'fn f() -> char { \'"\' }\nfn g() { super::b::thing("//") }',
        "use crate::Thing;",
        "mod inner {\n    use super::super::b::Thing;\n}",
    ],
)
def test_a_circle_in_rust_is_found(code_of_a: str) -> None:
    codes = {
        "": "mod a;\nmod b;\npub use b::Thing;",
        "a": code_of_a,
        "b": "mod c;\npub(crate) use c::Thing;\nuse c::Other;",
        "b::c": "use crate::d;",
        "d": "use crate::a;",
    }
    assert {"a", "d"} <= set(rust_circle(codes))


def test_what_is_no_circle_in_rust() -> None:
    codes = {
        "": "mod a;\npub mod b;\npub use a::{Other, Thing};",
        "a": "//! See [`crate::b::Thing`].\nmod inner {\n    use super::Thing;\n}\n",
        "b": "mod c;\nmod d;\npub use c::Thing;\npub use d::Other;",
        "b::c": "use super::d::Other;\nuse crate::{Other as First, a};\nuse std::fmt::{self, b};",
        "b::d": 'const TEXT: &str = "crate::b::c";\nuse crate::a;',
    }
    assert rust_circle(codes) == []


def test_tests_in_rust_are_apart(tmp_path: Path) -> None:
    (tmp_path / "mod.rs").write_text(
        "mod a;\n#[cfg(test)]\nmod b;\n#[cfg(test)]\nmod tests {\n}\n", encoding="utf-8"
    )
    (tmp_path / "a.rs").write_text("x\n" * 501, encoding="utf-8")
    (tmp_path / "b.rs").write_text("x\n" * 501, encoding="utf-8")
    lines = {path.name: text.count("\n") for path, text in rust_files(tmp_path).items()}
    assert lines == {"a.rs": 501, "mod.rs": 3}


def test_a_rust_package_has_the_same_features_for_the_extension_and_for_tests() -> None:
    """Or cargo compiles it, and all that depends on it, once for each."""
    if shutil.which("cargo") is None:
        pytest.skip("needs cargo")

    def features(*arguments: str) -> dict[str, str]:
        command = ["cargo", "tree", "--locked", "--prefix", "none", "--format", "{p}|{f}"]
        done = subprocess.run(
            [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        lines = (line.removesuffix(" (*)") for line in done.stdout.splitlines() if line)
        return dict(line.split("|") for line in lines if not line.startswith("subl-"))

    extension = features("--package", "subl-core", "--edges", "normal,build")
    tests = features("--workspace")
    assert len(extension) > 50
    assert {name: tests[name] for name in extension} == extension
