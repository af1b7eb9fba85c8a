"""The wall clock is set a day forward and back: nothing happens."""

import ast
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import forkserve
from tests.command.harness import Server
from tests.command.load import Load
from tests.command.test_master import select_nothing
from tests.conftest import need

Start = Callable[..., Server]
ROOT = Path(forkserve.__file__).parent
DAY = 86400

# What a file says is added to the wall clock of a process, and to no other clock.
SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;

__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
    offset = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *spec) {
    int status = syscall(SYS_clock_gettime, clock, spec);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        spec->tv_sec += *offset;
    return status;
}

int gettimeofday(struct timeval *restrict value, void *restrict zone) {
    struct timespec spec;
    clock_gettime(CLOCK_REALTIME, &spec);
    value->tv_sec = spec.tv_sec;
    value->tv_usec = spec.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec spec;
    clock_gettime(CLOCK_REALTIME, &spec);
    if (result) *result = spec.tv_sec;
    return spec.tv_sec;
}
"""


def test_a_day_forward_and_a_day_back(start: Start, tmp_path: Path, gate: Path) -> None:
    """With every deadline that there is under way: a call, an idle and a half-sent connection, a
    worker that leaves, one that waits for its lifetime, and one too many."""
    source, library = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run(
        [need("cc"), "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=60
    )
    offset, access = tmp_path / "offset", tmp_path / "access"
    offset.write_bytes((0).to_bytes(8, "little"))
    server = start(
        "-w", "2:4", "-t", "10", "--graceful-timeout", "60", "--max-lifetime", "1h",
        "--max-rss", "1G", "--access-logfile", str(access), "--access-logformat", "%(t)s", "plain",
        env={"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)},
    )  # fmt: skip
    server.wait_for("is ready", count=2)
    server.signal("TTIN")
    server.wait_for("is ready", count=3)
    with server.connect() as idle, server.connect() as half, server.connect() as busy:
        assert idle.get() == (200, b"hello")
        half.send(b"GET / HTTP/1.1\r\nHo")
        busy.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        server.wait_for("^waiting")
        pids = server.workers()
        with Load(server.port, clients=2, pause=0.01) as load:
            for days in (1, 0, -1, 0, 1, -1):
                with open(offset, "r+b") as file:
                    file.write((days * DAY).to_bytes(8, "little", signed=True))
                select_nothing(0.25)
            outcomes = load.stop()
        assert server.workers() == pids
        half.send(b"st: h\r\n\r\n")
        gate.write_text("")
        assert [client.response().status for client in (half, busy)] == [200, 200]
        assert idle.get() == (200, b"hello")
    assert set(outcomes) == {200}, outcomes
    days = {line[1:12] for line in access.read_text().splitlines()}
    assert len(days) == 3, "the clock was set, as the log shows"
    stamps = {line[:10] for line in server.lines if line[:2] == "20"}
    assert len(stamps) == 1, f"nothing was to be said: {server.log}"
    server.signal("TTOU")
    server.wait_for("has left")
    assert server.stop() == 0


# Whatever tells the time of day; and who may ask: the lines of the logs and the field Date, the
# warning about a certificate's dates, what is compared with a proxy's clock, and the demonstration, which is an application.
WALL = {
    "time.time", "time.time_ns", "time.gmtime", "time.localtime", "time.strftime", "time.ctime",
    "time.asctime", "time.clock_gettime", "time.clock_gettime_ns",
}  # fmt: skip
SHOWN = {"ops/styles.py", "ops/access.py", "worker/service.py", "demo.py"}
DATES = {"master/generation.py", "net/certificate.py", "proc/wall.py"}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.name)
def test_only_what_people_read_has_the_time_of_day(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            dates = node.module == "datetime" and os.path.relpath(path, ROOT) in DATES
            assert dates or node.module not in ("time", "datetime"), "it would hide who asks"
        elif isinstance(node, ast.Import):
            assert all(alias.name != "datetime" for alias in node.names)
    asked = names & WALL
    assert not asked or os.path.relpath(path, ROOT) in SHOWN, asked
