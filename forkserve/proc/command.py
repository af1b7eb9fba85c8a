"""The command that started this process, so that it can be started once more.

Everything is kept as it was typed: a path through a symbolic link (of a deploy, or of a virtual
environment) leads to what is behind the link at the time of the next start.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_HEAD = 4096  # octets at the start of a script in which its interpreter is named


@dataclass(frozen=True, slots=True)
class Command:
    """``directory`` is where it was started, "" if that was gone already."""

    program: str
    arguments: tuple[str, ...]
    directory: str

    def execute(self, environ: Mapping[str, str]) -> None:
        """Become this program. Raises OSError, whose ``filename`` is what cannot be used."""
        if not self.directory:
            raise FileNotFoundError(2, "the working directory was gone at the start", ".")
        os.chdir(self.directory)
        os.execve(self.program, self.arguments, environ)


def command_of(
    argv: Sequence[str], executable: str, environ: Mapping[str, str], is_script: bool
) -> Command:
    """``argv`` and ``executable`` as in ``sys.orig_argv`` and ``sys.executable``.

    ``is_script``: argv[1] is a script that names argv[0] as its interpreter. Then the script is
    what was typed, and the interpreter is whatever it names at the next start.
    """
    if is_script:
        return Command(argv[1], tuple(argv[1:]), _directory(environ))
    program = argv[0] if "/" in argv[0] else executable
    return Command(program, tuple(argv), _directory(environ))


def names_interpreter(argv: Sequence[str]) -> bool:
    """Whether argv[1] is a script that can be executed, with argv[0] as its interpreter."""
    if len(argv) < 2 or not argv[0] or not os.access(argv[1], os.X_OK):
        return False
    try:
        with open(argv[1], "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    # Not only in the first line: where paths are long, a shell is named there, and starts it.
    return head.startswith(b"#!") and os.fsencode(argv[0]) in head


def _directory(environ: Mapping[str, str]) -> str:
    """The working directory: as the shell calls it, which keeps links, or as the kernel does."""
    name = environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(name) and os.path.samefile(name, "."):
            return name
    with contextlib.suppress(OSError):
        return os.getcwd()
    return ""
