"""What is said on the control socket, and where it is: for the master and for `forkservectl`.

A connection is one command: a line of JSON, answered by a line of JSON, and closed. Pure, but for
``socket_path``, which looks whether directories are there.

    {"command": "scale", "workers": "+1"}
    {"ok": true, "text": "from 2 to 3 workers", "workers": 3}
    {"ok": false, "error": "..."}
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from forkserve.settings.control import AUTO

LARGEST_COMMAND = 4096
"""Octets of a command, with the end of its line."""

LARGEST_ANSWER = 8 << 20
"""Octets of an answer; a longer one is refused. A worker is told in about one thousand, a running
request in a few hundred."""

_FILE = "forkserve.ctl"
_SYSTEM = "/run/forkserve"
_COUNT = re.compile("[+-]?[0-9]{1,6}")


class CommandError(ValueError):
    """What was sent is no command. The text says why."""


class Command(NamedTuple):
    """A sound command. ``workers``: "4", "+1" or "-1"; ``slot``: -1 if the command has none."""

    name: str
    slot: int = -1
    workers: str = ""
    now: bool = False


# What each command needs, and may have, beside its name.
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "status": ((), ()),
    "ps": ((), ()),
    "stack": (("slot",), ()),
    "reload": ((), ()),
    "upgrade": ((), ()),
    "scale": (("workers",), ()),
    "retire": (("slot",), ()),
    "reopen-logs": ((), ()),
    "config": ((), ()),
    "stop": ((), ("now",)),
}


def parse_command(line: bytes) -> Command:
    """The command in ``line``. Raises CommandError."""
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        raise CommandError("a command is one line of JSON") from None
    if not isinstance(members, dict):
        raise CommandError("a command is an object of JSON")
    name = members.pop("command", None)
    if not isinstance(name, str) or name not in COMMANDS:
        raise CommandError(f"there is no such command. There are {', '.join(COMMANDS)}")
    needed, possible = COMMANDS[name]
    for member in needed:
        if member not in members:
            raise CommandError(f"{name} needs {member!r}")
    for member, value in members.items():
        if member not in (*needed, *possible):
            raise CommandError(f"{name} has no such member. It may have {[*needed, *possible]}")
        if not _is_sound(member, value):
            raise CommandError(f"{name}: {member!r} is not of the right kind")
    return Command(name, **members)


def _is_sound(member: str, value: object) -> bool:
    if member == "now":
        return isinstance(value, bool)
    if member == "slot":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 20
    return isinstance(value, str) and _COUNT.fullmatch(value) is not None


def write_command(name: str, **members: object) -> bytes:
    """As it travels."""
    return json.dumps({"command": name, **members}).encode() + b"\n"


def write_answer(answer: Mapping[str, Any]) -> bytes:
    """As it travels. One that is too long is answered by that."""
    octets = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
    if len(octets) > LARGEST_ANSWER:
        return write_answer(
            refusal(f"the answer would have {len(octets)} octets, which is too much")
        )
    return octets


def refusal(error: str) -> dict[str, Any]:
    """The answer that it was not done."""
    return {"ok": False, "error": error}


def consent(text: str, **members: Any) -> dict[str, Any]:
    """The answer that it was done: ``text`` for people, ``members`` for programs."""
    return {"ok": True, "text": text, **members}


# ---- where the socket is


def beside(pid_file: str) -> str:
    """The socket of the server that has this pid file: /run/app.pid -> /run/app.ctl."""
    return f"{os.path.abspath(pid_file).removesuffix('.pid')}.ctl"


def socket_path(
    setting: str | None, pid_file: str | None, environ: Mapping[str, str]
) -> str | None:
    """Where the socket of a server with these settings is; None if it has none."""
    if setting is None:
        return None
    if setting != AUTO:
        return os.path.abspath(setting)
    if pid_file is not None:
        return beside(pid_file)
    return next(usual_places(environ), None)


def usual_places(environ: Mapping[str, str]) -> Iterator[str]:
    """Where a socket is that nothing is said about, the first first."""
    # systemd.exec(5): several directories stand with colons between them.
    candidates = (
        environ.get("RUNTIME_DIRECTORY", "").partition(":")[0],
        environ.get("XDG_RUNTIME_DIR", ""),
        _SYSTEM,
    )
    for directory in candidates:
        if directory and os.access(directory, os.W_OK | os.X_OK):
            yield os.path.join(directory, _FILE)
