"""Which line is shown of code that does not load."""

import textwrap
from pathlib import Path

import pytest

from forkserve.apploader import load_application
from forkserve.develop.failure import Place, excerpt, explain, shown_path
from forkserve.errors import ApplicationError


def report(target: str) -> str:
    with pytest.raises(ApplicationError) as caught:
        load_application(target)
    return explain(caught.value).report()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_syntax_error_is_told_once(site: Path) -> None:
    (site / "broken_a.py").write_text("a = 1\nb = 2\nc = (3,\n\td]\ne = 5\n")
    assert report("broken_a") == textwrap.dedent("""\
        cannot load 'broken_a' (`app`): importing 'broken_a' failed: SyntaxError: closing parenthesis ']' does not match opening parenthesis '(' on line 3
        broken_a.py, line 4:
            2 | b = 2
            3 | c = (3,
          > 4 | \td]
              | \t ^
            5 | e = 5""")


def test_a_syntax_error_of_an_imported_module_has_its_way_there(site: Path) -> None:
    (site / "broken_b.py").write_text("import broken_c\n")
    (site / "broken_c.py").write_text("def f(:\n")
    text = report("broken_b")
    assert "broken_c.py, line 1:\n  > 1 | def f(:\n      |       ^\nTraceback" in text
    assert 'broken_b.py", line 1, in <module>' in text


def test_the_line_is_the_applications_own(site: Path) -> None:
    """And not one of the library that it called."""
    (site / "broken_d.py").write_text("import json\n\n\nx = json.loads('{')\napplication = None\n")
    text = report("broken_d")
    assert (
        "broken_d.py, line 4:\n    2 |\n    3 |\n  > 4 | x = json.loads('{')\n    5 | app" in text
    )
    assert "json.decoder.JSONDecodeError" in text


def test_a_factory_that_fails(site: Path) -> None:
    (site / "broken_e.py").write_text("def make():\n    return {}['x']\n")
    text = report("broken_e:make()")
    assert text.startswith(
        "cannot load 'broken_e:make()' (`app`): make() raised KeyError: 'x'\nbroken_e.py, line 2:\n    1 | def make():\n  > 2 |"
    )


@pytest.mark.parametrize("target", ["not_there", "textwrap:nothing", "textwrap"])
def test_what_has_no_line(site: Path, target: str) -> None:
    assert " | " not in report(target)


def test_code_without_a_file(site: Path) -> None:
    """The line is that of who compiles it."""
    (site / "broken_f.py").write_text("exec('1 +')\n")
    assert "broken_f.py, line 1:\n  > 1 | exec('1 +')" in report("broken_f")


@pytest.mark.parametrize("content", [b"\xff\n", b"", b"\0\n"])
def test_lines_that_cannot_be_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.py").write_bytes(content)
    assert isinstance(excerpt(Place(str(tmp_path / "x.py"), 1, 99)), str)
    assert excerpt(Place(str(tmp_path / "x.py"), 7)) == ""
    assert excerpt(Place(str(tmp_path / "y.py"), 1)) == ""


def test_paths_are_short(tmp_path: Path) -> None:
    assert shown_path(f"{tmp_path}/a/b.py", str(tmp_path)) == "a/b.py"
    assert shown_path("/elsewhere/b.py", str(tmp_path)) == "/elsewhere/b.py"
