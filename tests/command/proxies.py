"""nginx and HAProxy in front of a server, each with the configuration of its test."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.command.harness import WAIT, Tail
from tests.conftest import need

# For the head of a configuration of nginx. Its workers would be another user, who may not look into
# the directory of the test.
OUR_USER = "user root;" if os.geteuid() == 0 else ""


@contextmanager
def nginx(config: str, directory: Path) -> Iterator[None]:
    """nginx while the block runs, and until it has answered what is under way.

    ``config`` says ``daemon off``, and sends the error log, at notice, to nginx.log in
    ``directory``.
    """
    program, path, log = need("nginx"), directory / "nginx.conf", directory / "nginx.log"
    path.write_text(config)
    with subprocess.Popen([program, "-c", str(path), "-e", str(log)]) as process:
        try:
            with Tail(log) as lines:
                lines.wait_for("start worker process ")
            yield
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                assert process.wait(WAIT) == 0
            finally:
                process.kill()


def complaints(log: Path) -> list[str]:
    """What nginx took for an error."""
    return [line for line in log.read_text().splitlines() if "[error]" in line or "[alert]" in line]


@contextmanager
def haproxy(
    config: str, directory: Path, listeners: Sequence[socket.socket], log: IO[str] | None = None
) -> Iterator[None]:
    """HAProxy while the block runs.

    ``config`` binds to the numbers of ``listeners``: clients can connect to these before it is
    there. ``log`` takes its standard output.
    """
    program, path = need("haproxy"), directory / "haproxy.cfg"
    path.write_text(config)
    fds = [listener.fileno() for listener in listeners]
    with subprocess.Popen(
        [program, "-db", "-f", str(path)],
        stdout=log or subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=fds,
    ) as process:  # fmt: skip
        try:
            yield
        finally:
            # It ends when its last stream has, and so has written its line.
            process.send_signal(signal.SIGUSR1)
            try:
                process.wait(WAIT)
            finally:
                process.kill()
