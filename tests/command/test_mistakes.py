"""The most common mistakes at a start, each made with the real command: what happened, which
setting, where that came from, and the way out."""

import fcntl
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.command.harness import COMMAND, Server
from tests.command.test_container import isolated
from tests.mistakes import MISTAKES, Mistake, rst

Start = Callable[..., Server]

# Takes the rights away that root has over files and ports (capabilities(7)), and limits
# descriptors; then becomes the command.
POOR = f"""#!{sys.executable}
import ctypes, os, resource, sys
for capability in CAPABILITIES:
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
if DESCRIPTORS:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
os.execv({COMMAND!r}, [{COMMAND!r}, *sys.argv[1:]])
"""
OVER_FILES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
OVER_PORTS = (10,)  # CAP_NET_BIND_SERVICE


class Place:
    """The directory of a mistake, and what has to be the case around it."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        self.directory = directory
        self.port = 0
        self.kept = ExitStack()
        self._monkeypatch = monkeypatch
        self._request = request

    def of(self, text: str) -> str:
        """``text``, with this directory and this port."""
        return text.replace("/srv/shop", str(self.directory)).replace(":8000", f":{self.port}")

    def _wrap(self, script: str) -> None:
        path = self.directory.parent / "wrap"
        path.write_text(script)
        path.chmod(0o755)
        self._monkeypatch.setattr("tests.command.harness.COMMAND", str(path))

    def _poor(self, capabilities: tuple[int, ...], descriptors: int = 0) -> None:
        script = POOR.replace("CAPABILITIES", repr(capabilities))
        self._wrap(script.replace("DESCRIPTORS", str(descriptors)))

    def _shell(self, script: str) -> None:
        self._wrap(f'#!/bin/sh\nset -e\nset -- "{COMMAND}" "$@"\n{script}\n')

    def a_port_in_use(self) -> None:
        taken = self.kept.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = taken.getsockname()[1]

    def no_permissions(self) -> None:
        (self.directory / "closed").mkdir(mode=0o500)
        for path in self.directory.glob("*.toml"):
            path.chmod(0)
        self._poor(OVER_FILES)

    def no_low_ports(self) -> None:
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
            pytest.skip("this machine lets everybody bind port 80")
        self._poor(OVER_PORTS)

    def certificates(self) -> None:
        made: Any = self._request.getfixturevalue("certificates")
        shutil.copy(made.pem("server"), self.directory)
        shutil.copy(made.key("other"), self.directory)

    def a_live_pid_file(self) -> None:
        file = self.kept.enter_context((self.directory / "pid").open("w"))
        file.write("4711\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)

    def few_descriptors(self) -> None:
        self._poor((), descriptors=512)

    def a_small_somaxconn(self) -> None:
        if int(Path("/proc/sys/net/core/somaxconn").read_text()) >= 65535:
            pytest.skip("this machine allows the longest backlog")

    def half_a_processor(self) -> None:
        command = " ".join(isolated("--mount"))
        self._shell(
            f"""exec {command} sh -c '
            mount -t tmpfs none /sys/fs/cgroup
            echo 50000 100000 > /sys/fs/cgroup/cpu.max
            exec "$0" "$@"' "$@" """
        )

    def as_root(self) -> None:
        if os.geteuid() != 0:
            self._shell(f'exec {" ".join(isolated("--user", "--map-root-user"))} "$@"')


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Place]:
    directory = tmp_path / "p"
    directory.mkdir()
    found = Place(directory, monkeypatch, request)
    with found.kept:
        yield found


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_a_mistake_is_explained(start: Start, place: Place, mistake: Mistake) -> None:
    for name, text in mistake.files.items():
        (place.directory / name).parent.mkdir(exist_ok=True)
        (place.directory / name).write_text(text)
    if mistake.surroundings:
        getattr(place, mistake.surroundings)()
    before, _, after = mistake.command.partition("forkserve ")
    arguments = shlex.split(place.of(after))
    env = dict(word.split("=", 1) for word in shlex.split(place.of(before)))
    options = {"bind": None} if "FORKSERVE_BIND" in env else {}
    server = start(
        *arguments, up=mistake.status is None, env=env, cwd=place.directory,
        errors=("could not boot", "no worker could boot"), **options,
    )  # fmt: skip
    if mistake.status is None:
        for words in mistake.says:
            server.wait_for(re.escape(words))
        assert server.stop() == 0
    else:
        assert server.wait() == mistake.status, server.log
    for words in mistake.says:
        assert place.of(words) in server.log
    assert "Traceback" not in server.log


def test_the_warnings_are_not_for_those_who_did_it_right(start: Start, place: Place) -> None:
    (place.directory / "shop.py").write_text(MISTAKES[1].files["shop.py"])
    server = start("--user", str(os.geteuid()), "--backlog", "64", "shop", cwd=place.directory)
    assert server.stop() == 0
    assert " WARNING " not in server.log


def test_the_readme_has_the_same_table() -> None:
    """Made with: python -m tests.mistakes"""
    assert rst() in (Path(__file__).parents[2] / "README.rst").read_text()


def test_the_table_has_the_twenty() -> None:
    assert len(MISTAKES) >= 20
    assert len({mistake.title for mistake in MISTAKES}) == len(MISTAKES)
    assert all(mistake.says and mistake.way.endswith(".") for mistake in MISTAKES)
