"""The logs: whoever reads them, or does not, the server serves."""

import fcntl
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import APPS, COMMAND, Client, Server, clean_environ, run
from tests.conftest import need

Start = Callable[..., Server]


@pytest.mark.parametrize("whose", ["ours", "another user's"])
def test_a_pipe_that_nobody_reads_blocks_nobody(whose: str) -> None:
    """Both logs go to one pipe, as in a container; also one that cannot be opened anew, as when
    root has made it for a server that is not root's."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    prefix = []
    if whose != "ours":
        os.fchmod(writing, 0)
        if os.geteuid() == 0:  # to whom no mode matters, but for this
            prefix = [need("setpriv"), "--bounding-set=-dac_override,-dac_read_search"]
    process = subprocess.Popen(
        [*prefix, COMMAND, "-b", "127.0.0.1:0", "--access-logfile", "-", "--log-level", "debug", "plain"],
        stdout=writing, stderr=writing, cwd=APPS, env=clean_environ(),
    )  # fmt: skip
    os.close(writing)
    try:
        first = b""
        while b"serves plain" not in first or not first.endswith(b"\n"):
            first += os.read(reading, 4096)
        port = int(first.partition(b"http://127.0.0.1:")[2].split()[0])
        assert [get(port, "/print")[0] for _ in range(100)] == [200] * 100
        process.send_signal(signal.SIGHUP)
        while get(port, "/generation") == (200, b"1"):
            pass  # the log, which would tell, is full
        assert [get(port, "/print")[0] for _ in range(100)] == [200] * 100
        os.set_blocking(reading, False)
        assert 0 < len(drained(reading)) <= 4096
        assert get(port, "/print")[0] == 200
        assert b"lines were lost here: the log could not be written\n" in drained(reading)
        os.set_blocking(reading, True)
    finally:
        process.terminate()
        while os.read(reading, 4096):
            pass
        os.close(reading)
        assert process.wait(30) == 0


def drained(fd: int) -> bytes:
    """What is in a pipe."""
    octets = b""
    try:
        while block := os.read(fd, 65536):
            octets += block
    except BlockingIOError:
        pass
    return octets


def get(port: int, path: str) -> tuple[int, bytes]:
    with Client(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
        return client.get(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", ["--error-logfile", "--access-logfile"])
def test_root_follows_no_link_of_another_user(start: Start, name: str) -> None:
    """CVE-2016-1247: who may write the directory of the logs could have any file written."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "bare.py").write_text((APPS / "bare.py").read_text())
        log, target = place / "log", place / "target"
        target.write_text("precious")
        log.symlink_to(target)
        os.lchown(log, 65534, 65534)
        result = run("-b", "127.0.0.1:0", "-u", "nobody", name, str(log), "bare", cwd=place)
        assert result.returncode == 1
        assert f"cannot open the log {log}" in result.stderr
        assert "a link that root has not made is not followed" in result.stderr
        assert target.read_text() == "precious"
        assert target.stat().st_uid == 0
        os.lchown(log, 0, 0)
        server = start("-u", "nobody", "--access-logfile", str(log), "bare", cwd=place)
        assert server.get()[0] == 200
        assert server.stop() == 0
        assert target.read_text().startswith("precious")
        assert target.read_text().count("\n") == 1


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_what_cannot_be_opened_anew_is_not_told_by_each_worker(
    start: Start, tmp_path: Path, preload: bool
) -> None:
    log = tmp_path / "logs" / "access"
    log.parent.mkdir()
    server = start(
        *(["--preload"] if preload else []), "-w", "4", "--access-logfile", str(log), "plain",
        errors=("USR1: cannot open",),
    )  # fmt: skip
    server.wait_for("is ready", count=4)
    log.unlink()
    log.parent.rmdir()
    server.signal("USR1")
    server.wait_for("USR1: cannot open", count=6 if preload else 5)
    assert server.stop() == 0
    told = [line for line in server.lines if " ERROR " in line]
    assert ["[master" in line for line in told] == [True, False], server.log
