"""Gunicorn's configuration file: Python that is run, and whose variables are settings.

Only names of Gunicorn's settings count, all others are the file's own. It is the operator's code
and can do anything, so it is run in a child first (``forkserve.rehearsal``).
"""

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from forkserve.errors import in_a_line, traceback_of
from forkserve.proc.strays import strays_end_here
from forkserve.settings.declared import declarations
from forkserve.settings.files import read_regular
from forkserve.settings.gunicorn import ENTRIES
from forkserve.settings.hooks import HOOK, Hook
from forkserve.settings.kinds import LogTable
from forkserve.settings.translation import Translated, translate

_MODULE = "__config__"  # as it is called there
_OWN = (__name__, "importlib", "forkserve.")


def is_python(path: str) -> bool:
    """Whether ``path``, of -c, names Python and not TOML.

    Gunicorn reads a file of any name as Python. One that is called neither .py nor .toml is told by
    what stands in it; what could be both is Python if it has a name that only Gunicorn knows.
    """
    if path.endswith(".py") or path.startswith(("python:", "file:")):
        return True
    if path.endswith(".toml"):
        return False
    try:
        text = read_regular(path)
    except (OSError, ValueError):
        return False  # who reads it tells it
    import tomllib  # only who has a configuration file waits for it

    try:
        table = tomllib.loads(text.decode())
    except ValueError:
        return _compiles(text)
    return any(name in ENTRIES and name not in declarations() for name in table)


def _compiles(text: bytes) -> bool:
    try:
        compile(text, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def read_python(path: str) -> Translated:
    """Run it, and translate its variables. What is wrong is in ``problems``."""
    result = Translated()
    before = set(sys.modules)
    try:
        with strays_end_here():
            module = _run(path)
    except _Unreadable as unreadable:
        result.problems.append(cannot_be_read(path, unreadable.error))
        return result
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        trace = traceback_of(error, _OWN)
        result.problems.append(
            f"{path}: it was run, and raised {in_a_line(error)}{_cure(error)}\n{trace}"
        )
        return result
    label = os.path.basename(path.partition(":")[2] if ":" in path else path)
    given = {
        name: (_named(name, value, label), f"{path}, {name}")
        for name, value in vars(module).items()
        if name in ENTRIES
    }
    result = translate(given)
    own = sorted(name for name in set(sys.modules) - before if _is_near(name))
    if own:
        result.notes.append(
            f"{path} imports {', '.join(own)}: workers have what it imports as it was at the "
            "start, and a HUP does not read it again. Import it inside of the hooks that need it"
        )
    return result


class _Unreadable(Exception):
    """The file itself, and not what it opens."""

    def __init__(self, error: OSError) -> None:
        self.error = error


def cannot_be_read(path: str, error: OSError) -> str:
    """What is said of a configuration file."""
    return (
        f"{path}: the configuration file (--config) cannot be read: {error.strerror}. It must be "
        f"there, seen from {_directory()}, and user {os.geteuid()} be able to read it"
    )


def _directory() -> str:
    """Where a relative path begins, if that can be told."""
    try:
        return os.getcwd()
    except OSError:
        return "a directory that is gone"


def _cure(error: BaseException) -> str:
    """The rest of a sentence, if it is known what to do."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if (missing or "").partition(".")[0] != "gunicorn":
        return ""
    return (
        ". Gunicorn is not installed here, and none of its modules is needed: leave that out "
        "(--no-server-header is for SERVER_SOFTWARE), or install it beside this"
    )


def _is_near(name: str) -> bool:
    """The module is of the directory that the server is started in, as the application's are."""
    file = getattr(sys.modules[name], "__file__", None) or ""
    if name.startswith("__"):  # this file, and what multiprocessing calls the main module
        return False
    return file.startswith(os.path.join(os.getcwd(), "")) and "site-packages" not in file


def _named(name: str, value: Any, label: str) -> Any:
    """A function, or a table, with the name of the file that it is of; "module.function" as it is
    named here."""
    if name == "logconfig_dict" and isinstance(value, dict) and value:
        return LogTable(f"{label}:{name}", value)
    if name not in declarations() or declarations()[name][0].kind is not HOOK:
        return value
    if isinstance(value, str) and ":" not in value:
        return ":".join(value.rpartition(".")[::2])
    return Hook(f"{label}:{name}", value) if callable(value) else value


def _run(path: str) -> ModuleType:
    """Run it anew, and return its module. What it imports is looked for in the working directory,
    too. Raises _Unreadable, and whatever it raises."""
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    importlib.invalidate_caches()
    if path.startswith("python:"):
        name = path.removeprefix("python:")
        sys.modules.pop(name, None)
        return importlib.import_module(name)
    path = os.path.abspath(path.removeprefix("file:"))
    try:
        text = read_regular(path)
    except OSError as error:
        raise _Unreadable(error) from None
    # As its source each time: the compiled form is looked up by a time that two versions can share.
    code = compile(text, path, "exec", dont_inherit=True)
    module = ModuleType(_MODULE)
    module.__file__ = path
    before = sys.modules.get(_MODULE)
    sys.modules[_MODULE] = module
    try:
        exec(code, vars(module))
    except BaseException:
        if before is not None:
            sys.modules[_MODULE] = before
        raise
    return module
