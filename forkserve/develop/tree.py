"""Which files belong to the application, and what they look like now.

Directories and not modules are watched, because a module that does not load is in no table of
modules, and it is the one whose repair everybody waits for. No code of the application is run here.
"""

import glob
import os
import re
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from forkserve.develop.failure import is_installed
from forkserve.settings import Settings

# Where no code is that an application imports. A directory that begins with a dot is none either.
_NOT_THERE = {"__pycache__", "node_modules", "site-packages", "dist-packages"}
# A reload loads forkserve itself not anew, and the rest is the kernel's.
_NOT_CODE = {os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "/proc", "/sys", "/dev"}

# Files that editors make beside the one that is edited: Emacs's locks, and what Flycheck checks.
_TEMPORARY = (".", "flycheck_")

MOST = 10_000
"""Directories that are looked at. Beyond, something else than an application is meant, a home
directory say, and looking would take seconds."""

_MAGIC = re.compile(r"[*?\[]")

Look = tuple[int, int, int]
"""Modification time in nanoseconds, size, inode number."""


class Sight(NamedTuple):
    """What there is: files with their looks, the directories in which more could come, whether
    there are more directories than are looked at, and how long it took to see that."""

    files: dict[str, Look]
    directories: frozenset[str]
    overflow: bool = False
    seconds: float = 0.0

    def differs(self, later: "Sight") -> set[str]:
        """The files that have come, gone or changed."""
        return {path for path, _ in self.files.items() ^ later.files.items()}


class Extra(NamedTuple):
    """What was asked for: the path ``base``, or what is below it like ``pattern``."""

    base: str
    pattern: str = ""

    @classmethod
    def of(cls, text: str, directory: str) -> "Extra":
        """As a person writes it who stands in ``directory``, whose name is no pattern."""
        parts = text.split(os.sep)
        first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
        base = os.sep.join(parts[:first]) or (os.sep if text.startswith(os.sep) else "")
        return cls(os.path.normpath(os.path.join(directory, base)), os.sep.join(parts[first:]))

    @property
    def holds(self) -> bool:
        """Whether it is about what is in ``base``, and not about that itself."""
        return bool(self.pattern) or os.path.isdir(self.base)

    @property
    def directory(self) -> str:
        """In which what was asked for is, or will come to be: the nearest one that is there."""
        directory = self.base if self.holds else os.path.dirname(self.base)
        while not os.path.isdir(directory) and directory != os.path.dirname(directory):
            directory = os.path.dirname(directory)
        return directory


class Tree:
    """``roots``: below them every Python file; ``directory``: from where paths are told."""

    def __init__(self, roots: Sequence[str], extra: Sequence[Extra], directory: str) -> None:
        self.directory = directory
        self.roots = [root for root in roots if not _is_inside(root, roots)]
        self._extra = extra
        self.modules: set[str] = set()  # beside those

    def look(self) -> Sight:
        """See what there is now. What vanishes meanwhile is not there."""
        began = time.monotonic()
        files: dict[str, Look] = {}
        directories: set[str] = set()
        for root in self.roots:
            for entry in self._walk(root, directories):
                if entry.name.endswith(".py") and not entry.name.startswith(_TEMPORARY):
                    _add(files, entry.path)
        for extra in self._extra:
            self._look_at_extra(extra, files, directories)
        for path in self.modules:
            directories.add(os.path.dirname(path))
            _add(files, path)
        took = time.monotonic() - began
        return Sight(files, frozenset(directories), len(directories) >= MOST, took)

    def _look_at_extra(self, extra: Extra, files: dict[str, Look], directories: set[str]) -> None:
        directories.add(extra.directory)
        if extra.pattern:
            if os.sep in extra.pattern:
                for _ in self._walk(extra.base, directories):
                    pass
            for path in glob.iglob(
                extra.pattern, root_dir=extra.base, recursive=True, include_hidden=True
            ):
                _add(files, os.path.join(extra.base, path))
        elif extra.holds:
            for entry in self._walk(extra.base, directories):
                _add(files, entry.path)
        else:
            _add(files, extra.base)

    def _walk(self, root: str, directories: set[str]) -> Iterator["os.DirEntry[str]"]:
        """The files below ``root``. Links to directories are not followed: they can be circles."""
        waiting = [root]
        while waiting and len(directories) < MOST:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    found = list(entries)
            except OSError:
                continue
            if directory != root and any(entry.name == "pyvenv.cfg" for entry in found):
                continue
            directories.add(directory)
            for entry in found:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry
                elif not is_ignored(entry.name) and entry.path not in _NOT_CODE:
                    waiting.append(entry.path)

    def concerns(self, path: str) -> bool:
        """Whether it is worth looking when something has happened to ``path``."""
        if path.endswith(".py") or path in self.modules:
            return True
        for extra in self._extra:
            if path == extra.base or (extra.holds and path.startswith(extra.base)):
                return True
        return not is_ignored(os.path.basename(path)) and not os.path.isfile(path)


def is_ignored(name: str) -> bool:
    """Whether a directory of this name holds no code of the application."""
    return name in _NOT_THERE or name.startswith(".")


def _is_inside(root: str, others: Sequence[str]) -> bool:
    """Whether what is below ``root`` is seen from another one."""
    for other in others:
        inner = os.path.relpath(root, other)
        if inner != "." and not any(map(is_ignored, inner.split(os.sep))):
            return True
    return False


def _add(files: dict[str, Look], path: str) -> None:
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return
    files[path] = (seen.st_mtime_ns, seen.st_size, seen.st_ino)


def tree_of(settings: Settings, config: str | None) -> Tree:
    """What is to be watched for these settings: the working directory, `pythonpath`, where Python
    looks beside its own directories and those of installed packages, and what was asked for.

    Raises OSError if the working directory is gone.
    """
    directory = os.path.abspath(settings.chdir or os.getcwd())
    wanted = [directory, *(os.path.join(directory, path) for path in settings.pythonpath)]
    scripts = {sysconfig.get_path("scripts"), os.path.dirname(os.path.abspath(sys.argv[0]))}
    wanted += [
        path
        for path in map(os.path.abspath, filter(None, sys.path))
        if os.path.isdir(path) and path not in scripts and not is_installed(path)
    ]
    roots = list(dict.fromkeys(map(os.path.normpath, wanted)))
    extra = [Extra.of(text, directory) for text in settings.reload_extra]
    if config is not None:
        extra.append(Extra(os.path.abspath(config.removeprefix("file:"))))  # Gunicorn's may be so
    return Tree(roots, extra, directory)
