"""The language of the control socket, and where the socket is."""

import json
from pathlib import Path

import pytest

from forkserve.ops.control import (
    COMMANDS,
    LARGEST_ANSWER,
    Command,
    CommandError,
    beside,
    consent,
    parse_command,
    refusal,
    socket_path,
    usual_places,
    write_answer,
    write_command,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b'{"command": "status"}', Command("status")),
        (b'{"command": "stack", "slot": 3}', Command("stack", slot=3)),
        (b'{"command": "retire", "slot": 0}', Command("retire", slot=0)),
        (b'{"command": "scale", "workers": "4"}', Command("scale", workers="4")),
        (b'{"command": "scale", "workers": "+1"}', Command("scale", workers="+1")),
        (b'{"command": "scale", "workers": "-1"}', Command("scale", workers="-1")),
        (b'{"command": "stop"}', Command("stop")),
        (b'{"command": "stop", "now": true}', Command("stop", now=True)),
    ],
)
def test_commands(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "one line of JSON"),
        (b"status", "one line of JSON"),
        (b'{"command": "status"', "one line of JSON"),
        (b"\xff\xfe", "one line of JSON"),
        (b"[" * 4000, "one line of JSON"),
        (b'["status"]', "an object"),
        (b"{}", "no such command"),
        (b'{"command": "explode"}', "no such command. There are status, ps"),
        (b'{"command": 1}', "no such command"),
        (b'{"command": ["status"]}', "no such command"),
        (b'{"command": "stack"}', "needs 'slot'"),
        (b'{"command": "stack", "slot": -1}', "'slot' is not of the right kind"),
        (b'{"command": "stack", "slot": true}', "'slot' is not of the right kind"),
        (b'{"command": "stack", "slot": 1e99}', "'slot' is not of the right kind"),
        (b'{"command": "stack", "slot": "0"}', "'slot' is not of the right kind"),
        (b'{"command": "stop", "now": 1}', "'now' is not of the right kind"),
        (b'{"command": "scale", "workers": 4}', "'workers' is not of the right kind"),
        (b'{"command": "scale", "workers": "many"}', "'workers' is not of the right kind"),
        (b'{"command": "scale", "workers": "99999999999"}', "'workers' is not of the right kind"),
        (b'{"command": "status", "slot": 1}', "no such member"),
        (b'{"command": "reload", "name": "x"}', "no such member"),
    ],
)
def test_what_is_no_command_is_told_why(line: bytes, why: str) -> None:
    with pytest.raises(CommandError, match=why.replace("'", ".")):
        parse_command(line)


def test_every_command_that_is_written_is_read() -> None:
    values = {"slot": 2, "workers": "+3", "now": True}
    for name, (needed, possible) in COMMANDS.items():
        members = {member: values[member] for member in (*needed, *possible)}
        octets = write_command(name, **members)
        assert octets.endswith(b"\n") and octets.count(b"\n") == 1
        assert parse_command(octets) == Command(name, **members)


def test_an_answer_is_one_line() -> None:
    octets = write_answer(consent("two\nlines", workers=3))
    assert octets.count(b"\n") == 1
    assert json.loads(octets) == {"ok": True, "text": "two\nlines", "workers": 3}
    assert json.loads(write_answer(refusal("why"))) == {"ok": False, "error": "why"}


def test_an_answer_is_bounded() -> None:
    answer = json.loads(write_answer(consent("x" * LARGEST_ANSWER)))
    assert not answer["ok"] and "too much" in answer["error"]


@pytest.mark.parametrize(
    ("pid_file", "path"),
    [("/run/app.pid", "/run/app.ctl"), ("/run/app/pid", "/run/app/pid.ctl"), ("/.pid", "/.ctl")],
)
def test_beside_the_pid_file(pid_file: str, path: str) -> None:
    assert beside(pid_file) == path


def test_where_the_socket_is(tmp_path: Path) -> None:
    runtime, user = tmp_path / "service", tmp_path / "user"
    runtime.mkdir()
    user.mkdir()
    environ = {"RUNTIME_DIRECTORY": f"{runtime}:/other", "XDG_RUNTIME_DIR": str(user)}
    assert socket_path(None, "/run/app.pid", environ) is None
    assert socket_path("/x/y.sock", "/run/app.pid", environ) == "/x/y.sock"
    assert socket_path("auto", "/run/app.pid", environ) == "/run/app.ctl"
    assert socket_path("auto", None, environ) == str(runtime / "forkserve.ctl")
    del environ["RUNTIME_DIRECTORY"]
    assert socket_path("auto", None, environ) == str(user / "forkserve.ctl")
    environ["XDG_RUNTIME_DIR"] = str(tmp_path / "missing")
    assert str(tmp_path) not in " ".join(usual_places(environ))
