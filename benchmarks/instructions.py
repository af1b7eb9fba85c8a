"""Instructions that a worker executes for one request, now and at an earlier revision.

On a shared machine the time of a request swings by more than most changes matter; the number of
instructions does not (valgrind's callgrind counts them). It says nothing of caches and of the
kernel, so it stands beside ``make bench``, not in its place.

The servers have a clock of their own, for which each look at it takes 10 us: by that of the machine
every call would take as long as valgrind needs, and be one behind which others queue up.

    python -m benchmarks.instructions --against REVISION
"""

import argparse
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import (
    PYTHON,
    ROOT,
    Server,
    descendants,
    earlier,
    free_port,
    install,
    need,
    of_tree,
)

_FEW, _MANY = 200, 1200  # requests; the difference leaves start and end of the server out
_CLOCK = "import itertools, time; time.monotonic = itertools.count(1000.0, 1e-5).__next__\n"
_BODY = bytes(range(256)) * 256
_CHUNKS = b"".join(b"2000\r\n%s\r\n" % _BODY[at : at + 8192] for at in range(0, 65536, 8192))


def requests() -> dict[str, bytes]:
    """One request of each kind, octet by octet as wrk sends it."""
    browser = next(item for item in SCENARIOS if item.name == "browser")
    fields = "".join(f"{name}: {value}\r\n" for name, value in browser.headers)
    head = b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return {
        "hello": b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "browser": f"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode(),
        "upload64k": head + b"Content-Length: 65536\r\n\r\n" + _BODY,
        "chunked64k": head + b"Transfer-Encoding: chunked\r\n\r\n" + _CHUNKS + b"0\r\n\r\n",
    }


def main() -> None:
    """Parse the command line, count, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--against", metavar="REVISION", required=True)
    parser.add_argument("--scenario", action="append", help="only this one; repeatable")
    options = parser.parse_args()
    need("valgrind")
    install()
    print(f"{'':12}{'now':>10}{options.against:>10}")
    with (
        tempfile.TemporaryDirectory() as clock,
        earlier(options.against, Path(clock)) as before,
    ):
        Path(clock, "sitecustomize.py").write_text(_CLOCK)
        servers = (of_tree("now", PYTHON, Path(clock), ROOT), before)
        for name, request in requests().items():
            if options.scenario and name not in options.scenario:
                continue
            now, then = (per_request(server, request) for server in servers)
            print(f"{name:12}{now:10.0f}{then:10.0f}{100 * (now / then - 1):+8.1f} %")


def per_request(server: Server, request: bytes) -> float:
    """Instructions of the worker for one ``request``."""
    few, many = (count(server, request, times) for times in (_FEW, _MANY))
    return (many - few) / (_MANY - _FEW)


def count(server: Server, request: bytes, times: int) -> int:
    """Instructions of the worker's main thread, in all its life, with so many requests."""
    port = free_port()
    command = server.command(port, 1)
    assert command is not None
    with tempfile.TemporaryDirectory() as place:
        process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--trace-children=yes", "--separate-threads=yes",
             f"--callgrind-out-file={place}/%p", *command],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )  # fmt: skip
        try:
            ask(port, request, times)
            (worker, *_) = descendants(process.pid)
        finally:
            process.terminate()
            process.wait()
        # The main thread alone: the standby looks at the time, which valgrind makes long.
        counted = Path(place, f"{worker}-01").read_text(errors="replace")
    total = re.search(r"^(?:summary|totals): (\d+)", counted, re.M)
    assert total is not None, counted[-500:]
    return int(total[1])


def ask(port: int, request: bytes, times: int) -> None:
    """Send a request so many times, one after the other, and read the answers."""
    while True:
        with contextlib.suppress(OSError):
            client = socket.create_connection(("127.0.0.1", port))
            break
    with client:
        for _ in range(times):
            client.sendall(request)
            octets = client.recv(65536)
            if not octets.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"benchmarks.instructions: an unexpected answer: {octets[:100]!r}")


if __name__ == "__main__":
    main()
