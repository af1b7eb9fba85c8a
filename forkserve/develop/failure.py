"""Where code does not load: the file, the line, and the lines around it, for people.

Runs in the process in which it failed, so what is shown is what was read.
"""

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from forkserve.errors import ApplicationError

_AROUND = 2  # lines above and below
_LARGEST = 4 << 20  # octets of a source file that is shown; longer ones are generated
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Place(NamedTuple):
    """A line of a file; ``column`` counts characters from 1, 0 if it is not known."""

    path: str
    line: int
    column: int = 0


def explain(error: ApplicationError) -> ApplicationError:
    """The same error, whose report shows the line that failed before the traceback."""
    cause = error.__context__
    while isinstance(cause, ApplicationError):  # which was put into other words
        cause = cause.__context__
    place = None if cause is None else place_of(cause)
    shown = "" if place is None else excerpt(place)
    if not shown:
        return error
    # Without frames of the application's own a traceback says the same once more.
    trace = error.traceback if error.traceback.startswith("Traceback") else ""
    return ApplicationError(str(error), f"{shown}\n{trace}")


def place_of(error: BaseException) -> Place | None:
    """Where a person would begin to look: the line that cannot be parsed, or else the last one that
    is neither Python's nor a library's, or else the last."""
    if isinstance(error, SyntaxError) and os.path.isfile(error.filename or "") and error.lineno:
        return Place(str(error.filename), error.lineno, error.offset or 0)
    places = [
        Place(frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if os.path.isfile(frame.f_code.co_filename)
        and not _is_below(frame.f_code.co_filename, _OWN)
    ]
    own = [place for place in places if not is_installed(place.path)]
    return next(reversed(own or _not_of_python(places)), None)


def _not_of_python(places: list[Place]) -> list[Place]:
    stdlib = sysconfig.get_path("stdlib")
    return [
        place
        for place in places
        if not _is_below(place.path, stdlib) or "site-packages" in place.path
    ]


def is_installed(path: str) -> bool:
    """Whether a file is Python's, or a library's that somebody has installed."""
    if {"site-packages", "dist-packages"} & set(path.split(os.sep)):
        return True
    return any(_is_below(path, directory) for directory in _of_python())


@cache
def _of_python() -> frozenset[str]:
    return frozenset(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "scripts"))


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)


def excerpt(place: Place) -> str:
    """The line with those around it, and a caret below the column. "" if it cannot be read."""
    try:
        with open(place.path, "rb") as file:
            lines = file.read(_LARGEST).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    if place.line > len(lines) + 1:
        return ""
    return "\n".join((f"{shown_path(place.path)}, line {place.line}:", *_numbered(lines, place)))


def _numbered(lines: list[str], place: Place) -> Iterator[str]:
    last = min(len(lines), place.line + _AROUND)
    width = len(str(last))
    for number in range(max(1, place.line - _AROUND), last + 1):
        text = lines[number - 1]
        yield f"  {'>' if number == place.line else ' '} {number:{width}} | {text}".rstrip()
        if number == place.line and 0 < place.column <= len(text) + 1:
            below = "".join("\t" if each == "\t" else " " for each in text[: place.column - 1])
            yield f"    {'':{width}} | {below}^"


def shown_path(path: str, directory: str = "") -> str:
    """As somebody who stands in ``directory`` (the working one) would write it."""
    try:
        relative = os.path.relpath(path, directory or None)
    except (OSError, ValueError):
        return path
    return path if relative.startswith(os.pardir) else relative


def own_modules() -> Iterator[str]:
    """The files of the modules that this process has loaded, but for those of installed libraries:
    a watcher may not know of all of them."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py") or not os.path.isabs(path):
            continue
        if not is_installed(path) and not _is_below(path, _OWN):
            yield path
