"""What `forkservectl` makes of a master that does not answer as it should."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.ctl.client import NoServer, Server


@pytest.fixture
def master(tmp_path: Path) -> Iterator[socket.socket]:
    """One that is stopped: the kernel still lets callers connect."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "x.ctl"))
        sock.listen(64)
        yield sock


@pytest.mark.parametrize("command", ["status", "reload", "stop"])
def test_a_stopped_master_is_not_waited_for(master: socket.socket, command: str) -> None:
    with pytest.raises(NoServer, match="the master does not answer, and nothing was done"):
        Server(master.getsockname(), patience=0.05).ask(command)


def test_what_a_stopped_master_is_told_it_does_not_do_later(master: socket.socket) -> None:
    with pytest.raises(NoServer):
        Server(master.getsockname(), patience=0.05).ask("stop")
    with master.accept()[0] as caller:
        assert caller.recv(999) == b'{"command": "status"}\n'
    master.setblocking(False)
    with pytest.raises(BlockingIOError):
        master.accept()


def test_what_is_no_socket_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.pid").write_text("4711\n")
    for path in (tmp_path / "x.pid", tmp_path):
        with pytest.raises(NoServer, match="is no socket"):
            Server(str(path)).ask("status")
