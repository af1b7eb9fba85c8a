"""What an operator reads of an error."""

import errno
import os
import re
from collections.abc import Callable
from functools import partial
from types import ModuleType

import pytest

from forkserve.errors import (
    EXIT_APPLICATION,
    EXIT_FAILED,
    EXIT_USAGE,
    ApplicationError,
    ListenError,
    SettingsError,
    in_a_line,
    traceback_of,
    why_not,
)


def test_each_error_has_an_exit_status_and_a_report() -> None:
    settings = SettingsError(["a", "b"])
    assert (settings.exit_status, settings.report()) == (EXIT_USAGE, "a\nb")
    listen = ListenError("c")
    assert (listen.exit_status, listen.report()) == (EXIT_FAILED, "c")
    application = ApplicationError("d", "Traceback\ne\n")
    assert (application.exit_status, application.report()) == (EXIT_APPLICATION, "d\nTraceback\ne")
    assert ApplicationError("d").report() == "d"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, ". Its directory must exist"),
        (errno.ENOTDIR, ". Its directory must exist"),
        (errno.EACCES, f". User {os.geteuid()} must be able to write it, and to enter its directory"),
        (errno.EPERM, f". User {os.geteuid()} must be able to write it"),
        (errno.ELOOP, ". It is a link, and a link that root has not made is not followed"),
        (errno.EROFS, ". Its file system is read-only"),
        (errno.ENOSPC, ""),
        (errno.EISDIR, ""),
    ],
)  # fmt: skip
def test_why_a_file_cannot_be_opened_and_what_to_do(number: int, advice: str) -> None:
    error = OSError(number, os.strerror(number), "/ignored")
    assert why_not("/a/b", error) == f"/a/b: {os.strerror(number)}{advice}"


def noted() -> Exception:
    error = ValueError("why")
    error.add_note("a note\nof two lines")
    return error


def syntax_error() -> Exception:
    try:
        compile("a = = b", "file.py", "exec")
    except SyntaxError as error:
        return error
    raise AssertionError


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not for you")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("why"), "ValueError: why"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "KeyError: 'k'"),
        (SystemExit(3), "SystemExit: 3"),
        (ListenError("x"), "forkserve.errors.ListenError: x"),
        (noted(), "ValueError: why"),
        (syntax_error(), "SyntaxError: invalid syntax"),
        (ExceptionGroup("two", [ValueError(), KeyError()]), "ExceptionGroup: two (2 sub-exceptions)"),
        (Unshowable(), "tests.test_errors.Unshowable: <exception str() failed>"),
    ],
)  # fmt: skip
def test_an_error_in_a_line(error: BaseException, line: str) -> None:
    assert in_a_line(error) == line


def module(name: str, source: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), made.__dict__)
    return made


CALL = "def call(inner):\n    inner()\n"
FAIL = "def fail():\n    raise ValueError('why')\n"


@pytest.mark.parametrize(
    ("names", "own", "shown"),
    [
        (["server.call", "server", "site", "server", "site"], ("tests", "server"),
         ["site", "server", "site"]),
        (["server", "site"], (), ["test_errors", "server", "site"]),
        (["site", "server"], ("server",), ["test_errors", "site", "server"]),
        (["server", "server"], ("tests", "server"), []),
    ],
)  # fmt: skip
def test_a_traceback_begins_where_the_frames_are_no_longer_ours(
    names: list[str], own: tuple[str, ...], shown: list[str]
) -> None:
    """Further down they stay: there they say how the application was called back."""
    call: Callable[[], object] = module(names[-1], FAIL).fail
    for name in reversed(names[:-1]):
        call = partial(module(name, CALL).call, call)
    with pytest.raises(ValueError, match="why") as caught:
        call()
    text = traceback_of(caught.value, own)
    assert re.findall(r'File "(?:.*/)?(\w+)\.py"', text) == shown
    assert text.endswith("ValueError: why")


def test_an_error_that_nobody_can_show() -> None:
    def fail() -> None:
        raise SyntaxError("x", ("f", 1, "abc", "text"))  # the column is no number

    with pytest.raises(SyntaxError) as caught:
        fail()
    assert in_a_line(caught.value) == "SyntaxError (which cannot be shown)"
    text = traceback_of(caught.value, ())
    assert "in fail" in text
    assert text.endswith("SyntaxError (which cannot be shown)")
