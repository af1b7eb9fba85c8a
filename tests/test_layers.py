"""The house: imports go downwards only, and packages on one row are strangers."""

import ast
from pathlib import Path

import pytest

import forkserve

ROOT = Path(forkserve.__file__).parent

# From the top; a module may import from rows below its own, and from its own package.
ROWS = [
    ["__main__"],
    ["cli", "ctl", "demo"],
    ["loading", "entrances"],
    ["check", "init", "gunicorn_line"],
    ["worker", "master"],
    ["develop"],
    ["wsgi", "ops", "hooks", "rehearsal"],
    ["settings", "apploader"],
    ["http", "net", "proc"],
    ["errors"],
    ["__init__"],
]

# "bytes in, values out"
NOT_IN_HTTP = {"socket", "os", "time", "logging", "select", "signal", "threading", "io"}
NOT_IN_SUPERVISOR = {"socket", "os", "time", "logging", "select", "threading", "random"}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def row_of(package: str) -> int:
    return next(number for number, row in enumerate(ROWS) if package in row)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_only(path: Path) -> None:
    own = package_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "forkserve" or len(parts) == 1 or parts[1] == "__version__":
            continue
        other = parts[1]
        if other != own:
            assert row_of(other) > row_of(own), f"{own} may not import {name}"


def test_every_package_has_its_row() -> None:
    assert {package_of(path) for path in modules()} == {name for row in ROWS for name in row}


@pytest.mark.parametrize("path", sorted((ROOT / "http").glob("*.py")), ids=lambda path: path.name)
def test_http_is_pure(path: Path) -> None:
    assert not imports_of(path) & NOT_IN_HTTP


@pytest.mark.parametrize(
    "name",
    [
        "supervisor", "orders", "roster", "story", "strength", "wear", "gauge", "watch", "upgrade",
        "attendant", "drain", "changes", "wording", "life_signs", "hearing",
    ],
)  # fmt: skip
def test_the_supervisor_is_pure(name: str) -> None:
    assert not imports_of(ROOT / "master" / f"{name}.py") & NOT_IN_SUPERVISOR


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short_and_documented(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_decision_depends_on_the_wall_clock(path: Path) -> None:
    calls = [
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]  # fmt: skip
    assert "time.time" not in calls
    if path.name != "demo.py":  # an application, and it shows what waiting looks like
        assert "time.sleep" not in calls
