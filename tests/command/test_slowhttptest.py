"""slowhttptest: slow heads, slow bodies, slow readers, in its own words; the service is available.

Its probe asks for the same URL on a connection of its own, every `-p` seconds; an answer that takes
longer is an outage. (Tried with a server that reads one head at a time: its table shows zeros.)
"""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import Server, wait_for_death
from tests.conftest import need

Start = Callable[..., Server]
COUNT = 500
CROWD = ("-c", str(COUNT), "-r", "250", "-l", "6", "-p", "2")


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/", ("-H", "-i", "1")),
        ("/", ("-B", "-i", "1", "-s", "8192")),
        ("/large", ("-X", "-n", "1", "-z", "5", "-w", "1", "-y", "512")),
    ],
    ids=["heads", "bodies", "readers"],
)
def test_service_is_available(
    start: Start, tmp_path: Path, path: str, mode: tuple[str, ...]
) -> None:
    program = need("slowhttptest")
    server = start("-w", "2", "recorder")  # that no line is at ERROR is asserted at its end
    server.wait_for("is ready", count=2)
    report = ("-g", "-o", str(tmp_path / "report"))
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(
            [program, *mode, *CROWD, *report, "-u", f"{server.url}{path}"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            while not wait_for_death(process.pid, 0.05):
                assert server.get() == (200, b"0")
        finally:
            process.kill()
    # Its status is 0 whatever it finds; what it finds is a line for each second.
    with (tmp_path / "report.csv").open(newline="") as table:
        seconds = list(csv.DictReader(table))
    words = f"{seconds}\n{(tmp_path / 'said').read_text(errors='replace')}"
    assert max(int(line["Connected"]) for line in seconds) >= COUNT / 2, words
    assert all(int(line["Service Available"]) > 0 for line in seconds), words
