"""As process 1, and in surroundings that lack what a machine usually has."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command.harness import APPS, COMMAND, WAIT, Server, children, run, wait_for_death

Start = Callable[..., Server]
CONF = Path(__file__).parents[2] / "conf"

ORPHANS = """
import os, subprocess

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/orphans":  # the shell ends first, and not all of them well
        script = "for i in $(seq %d); do { read x; exit 3; } <&0 & done"
        number = int(environ["QUERY_STRING"])
        reading, writing = os.pipe()
        subprocess.run(["sh", "-c", script % number], stdin=reading, check=True)
        os.close(reading)
        os.close(writing)
        return [b"made"]
    states = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                states.append(file.read().rpartition(") ")[2][0])
        except OSError:
            pass
    return [f"{os.getppid()} {len(states)} {states.count('Z')}".encode()]
"""


def isolated(*options: str) -> list[str]:
    """The command that runs another one in name spaces of its own; skips where it may not."""
    command = [shutil.which("unshare") or "", *options]
    if not command[0] or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this user cannot make name spaces")
    return command


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch, start: Start, tmp_path: Path) -> Callable[..., Server]:
    """``wrapped(script, "app", ...)`` starts a server by a shell script, which execs "$@"."""

    def starter(script: str, *arguments: str, **options: object) -> Server:
        path = tmp_path / "wrap"
        path.write_text(f'#!/bin/sh\nset -e\nset -- "{COMMAND}" "$@"\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr("tests.command.harness.COMMAND", str(path))
        return start(*arguments, **options)

    return starter


@pytest.fixture
def process_1(wrapped: Callable[..., Server], tmp_path: Path) -> Iterator[tuple[Server, int]]:
    """A server that is process 1 of a name space, and its pid outside."""
    command = " ".join(isolated("--pid", "--fork", "--mount-proc", "--kill-child=KILL"))
    (tmp_path / "orphans.py").write_text(ORPHANS)
    server = wrapped(f'exec {command} "$@"', "-w", "2", "orphans", cwd=tmp_path)
    (master,) = children(server.pid)
    yield server, master
    if not wait_for_death(master, 0):
        os.kill(master, signal.SIGQUIT)
    assert wait_for_death(master)


def test_process_1_reaps_strangers(process_1: tuple[Server, int]) -> None:
    server, master = process_1
    server.wait_for("is ready", count=2)
    workers = children(master)
    for _ in range(5):
        assert server.get("/orphans?200") == (200, b"made")
    # The answer says (parent, processes, dead ones): wait until the orphans are gone.
    for _ in range(1000):
        parent, processes, dead = server.get("/")[1].split()
        if (processes, dead) == (b"3", b"0"):
            break
    assert (parent, processes, dead) == (b"1", b"3", b"0")
    assert children(master) == workers
    assert " ERROR " not in server.log
    os.kill(master, signal.SIGHUP)
    server.wait_for("reloaded, generation 2")
    os.kill(master, signal.SIGTERM)
    assert wait_for_death(master)
    assert server.process.wait(WAIT) == 0


def test_process_1_cannot_be_upgraded(process_1: tuple[Server, int]) -> None:
    server, master = process_1
    os.kill(master, signal.SIGUSR2)
    server.wait_for("USR2: there is no upgrade now: this is process 1, .* start a new container")
    assert server.get("/")[0] == 200


def test_strangers_are_reaped_by_a_subreaper_too(
    wrapped: Callable[..., Server], tmp_path: Path
) -> None:
    """Where nobody may make name spaces: orphans come to the master all the same."""
    (tmp_path / "orphans.py").write_text(ORPHANS)
    script = (
        f'exec {sys.executable} -c "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); '
        'os.execv(sys.argv[1], sys.argv[1:])" "$@"'
    )
    server = wrapped(script, "orphans", cwd=tmp_path)
    (worker,) = server.workers()
    assert server.get("/orphans?100") == (200, b"made")
    for _ in range(1000):
        server.get("/")
        if server.workers() == [worker]:
            break
    assert server.workers() == [worker]
    assert server.stop() == 0


def test_a_read_only_root_without_shared_memory(wrapped: Callable[..., Server]) -> None:
    command = " ".join(isolated("--mount"))
    server = wrapped(
        f"""exec {command} sh -c '
        mount -t tmpfs -o ro,mode=000 none /dev/shm && mount -o remount,bind,ro / || exit 9
        if touch "$0" 2>/dev/null; then exit 8; fi
        exec "$0" "$@"' "$@" """,
        "-w", "2", "plain",
    )  # fmt: skip
    assert server.get() == (200, b"hello")
    with server.connect() as client:
        body = b"x" * 60_000
        client.send(
            b"POST /sum HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert client.response().content.startswith(b"60000 ")  # type: ignore[attr-defined]
    server.reload(2)
    assert server.stop() == 0


def test_a_working_directory_that_is_gone(wrapped: Callable[..., Server], tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    script = 'rmdir "$PWD"; exec "$@"'
    server = wrapped(script, "--chdir", str(APPS), "plain", cwd=place, errors=("upgrade refused",))
    assert server.get("/cwd") == (200, str(APPS).encode())
    server.reload(2)
    server.signal("USR2")
    server.wait_for("USR2: upgrade refused.* the working directory was gone at the start")
    assert server.stop() == 0


def test_a_working_directory_that_is_gone_and_no_other(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    script = 'rmdir "$PWD"; exec "$@"'
    result = subprocess.run(
        ["sh", "-c", script, "sh", COMMAND, "-b", "127.0.0.1:0", "plain"],
        cwd=place, capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "the working directory is gone" in result.stderr


@pytest.mark.parametrize("name", ["C", "POSIX", "nonsense"])
def test_a_plain_locale(start: Start, name: str) -> None:
    env = {"LANG": name, "LC_ALL": name, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    server = start("--name", "caf\u00e9", "plain", env=env)
    assert server.get() == (200, b"hello")
    server.reload(2)
    assert server.stop() == 0


@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_without_assertions(wrapped: Callable[..., Server], option: str) -> None:
    script = f'shift; exec {sys.executable} {option} -m forkserve "$@"'
    server = wrapped(script, "-w", "2", "plain")
    assert server.get() == (200, b"hello")
    server.reload(2)
    server.signal("USR2")
    pid = int(server.wait_for(r"USR2: process (\d+) boots")[0][1])
    server.wait_for("the upgrade is done")
    assert server.get() == (200, b"hello")
    os.kill(pid, signal.SIGTERM)
    assert wait_for_death(pid)


def test_the_dockerfile(start: Start) -> None:
    """As far as that can be told without Docker: its commands are sound."""
    text = (CONF / "Dockerfile").read_text().replace("\\\n", "")
    assert shutil.which("docker") is None or "FROM python" in text
    commands = [
        json.loads(found) for found in re.findall(r"^(?:HEALTHCHECK .*)?CMD (\[.*\])$", text, re.M)
    ]
    health, serve = commands
    result = run(*serve[1:], "--print-config")
    assert result.returncode == 0, result.stderr
    assert '"0.0.0.0:8000"' in result.stdout
    server = start("plain", errors=("do_crash",))

    def status(path: str) -> int:
        code = health[2].replace("8000", str(server.port)).replace("'/'", repr(path))
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=False
        ).returncode

    assert (health[:2], status("/"), status("/crash")) == (["python", "-c"], 0, 1)
    assert server.stop() == 0
    assert status("/") == 1
