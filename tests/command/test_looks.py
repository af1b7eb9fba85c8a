"""What operators see of a real server: status, ps and top."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command.harness import WAIT, clean_environ
from tests.command.test_control import CTL, Controlled, controlled

__all__ = ["controlled"]  # a fixture

# What programs may rely on.
SERVER = {
    "pid", "version", "app", "name", "state", "reload", "generation", "up_seconds", "wanted",
    "least", "most", "serving", "reloads", "reloads_refused", "refusal", "restarts", "upgrade",
    "vacant", "listeners",
}  # fmt: skip
TOTALS = {
    "requests", "statuses", "errors", "aborted", "octets_in", "octets_out", "busy_seconds",
    "queue_seconds", "latency_seconds", "given", "taken", "not_given", "not_taken",
    "latency", "queue",
}  # fmt: skip
WORKER = TOTALS | {
    "slot", "pid", "generation", "state", "age", "threads", "connections", "rss", "restarts",
    "last_end", "calls",
}  # fmt: skip
REASONS = {
    "max_requests", "max_lifetime", "max_rss", "reload", "retired", "died", "killed", "boot failed",
}  # fmt: skip


def counted(it: Controlled, requests: int) -> dict[str, Any]:
    """What the master answers, once so many requests are counted: workers write now and then."""
    while True:
        answer: dict[str, Any] = json.loads(it.ok("status", "--json"))
        if answer["totals"]["requests"] >= requests:
            return answer


def test_status(controlled: Callable[..., Controlled]) -> None:
    it = controlled("-w", "2", "plain")
    for _ in range(3):
        it.server.get("/hello")
    counted(it, 3)
    text = it.ok("status")
    assert f"forkserve 0.1.0, pid {it.server.pid}, generation 1, 2 of 2 workers serve" in text
    assert f"plain on {it.server.url}" in text
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d", line)]
    assert [row[0] for row in rows] == ["0", "1"]
    assert {int(row[1]) for row in rows} == set(it.server.workers())
    assert {row[3] for row in rows} == {"serving"}
    assert sum(int(row[5]) for row in rows) == 3


def test_status_for_programs(controlled: Callable[..., Controlled]) -> None:
    it = controlled("-w", "2", "plain", errors=("failed on purpose",))
    it.server.get("/hello")
    it.server.get("/fail")
    it.ok("retire", "1")
    answer = counted(it, 2)
    assert answer["server"].keys() == SERVER
    assert answer["server"]["restarts"].keys() == REASONS
    assert answer["totals"].keys() == TOTALS
    for worker in answer["workers"]:
        assert worker.keys() == WORKER
    readme = (Path(__file__).parents[2] / "README.rst").read_text()
    for word in SERVER | WORKER | REASONS:
        assert f"``{word}``" in readme
    assert (answer["server"]["wanted"], answer["server"]["serving"]) == (2, 2)
    assert answer["totals"]["requests"] == 2
    assert answer["totals"]["errors"]["5xx"] == 1
    assert answer["totals"]["octets_out"] > 0
    by_slot = {it["slot"]: it for it in answer["workers"] if it["state"] == "serving"}
    assert by_slot.keys() == {0, 1}
    assert all(it["rss"] > 1 << 20 for it in by_slot.values())


def test_status_tells_of_a_slot_that_nobody_fills(
    controlled: Callable[..., Controlled], app: Path
) -> None:
    words = ("died", "did not boot", "cannot boot", "could not boot")
    it = controlled("-w", "2", "shop", cwd=app, errors=words)
    (app / "shop.py").write_text("raise RuntimeError('broken on purpose')")
    status = json.loads(it.ok("status", "--json"))
    os.kill(next(worker["pid"] for worker in status["workers"] if worker["slot"] == 1), 9)
    while not (vacant := json.loads(it.ok("status", "--json"))["server"]["vacant"]):
        pass
    assert (vacant[0]["slot"], vacant[0]["last_end"]) == (1, "boot failed: exit status 3")
    assert 0.0 <= vacant[0]["due"] <= 30.0
    assert it.server.get() == (200, b"hello")
    while "slot 1 has no worker, the next is tried in" not in it.ok("status"):
        pass  # it boots in between


def test_status_tells_of_a_refused_reload(controlled: Callable[..., Controlled], app: Path) -> None:
    it = controlled("shop", cwd=app, errors=("reload refused",))
    (app / "shop.py").write_text("raise RuntimeError('broken on purpose')")
    it.refused("reload")
    assert "the last reload was refused: Its first worker" in it.ok("status")


def test_ps(controlled: Callable[..., Controlled], gate: Path) -> None:
    it = controlled("-w", "1", "plain")
    assert it.ok("ps") == "no request is running\n"
    with it.server.connect() as client:
        client.send(f"GET /wait?{gate} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        it.server.wait_for("waiting")
        heading, row = it.ok("ps").splitlines()
        assert heading.split() == ["TIME", "LEFT", "SLOT", "PID", "CLIENT", "REQUEST"]
        assert row.split()[2:] == [
            "0", str(it.server.workers()[0]), "127.0.0.1", "GET", f"/wait?{gate}", "HTTP/1.1",
        ]  # fmt: skip
        [call] = json.loads(it.ok("ps", "--json"))["requests"]
        assert call["request"].startswith("GET /wait") and call["seconds"] > 0
        gate.write_text("")
        assert client.response().status == 200


def test_top_once(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    text = it.ok("top", "--once")
    assert "requests/s" in text and "1 of 1 workers serve" in text


def test_top_in_a_terminal_and_its_keys(controlled: Callable[..., Controlled]) -> None:
    it = controlled("plain")
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [CTL, "-p", str(it.pid_file), "top", "--interval", "0.1"],
        stdin=end, stdout=end, stderr=end, env={**clean_environ(), "TERM": "xterm"},
    ) as top:  # fmt: skip
        os.close(end)
        _read_until(terminal, b"one worker more")
        os.write(terminal, b"+")
        it.server.wait_for("scale: from 1 to 2 workers")
        _read_until(terminal, b"from 1 to 2 workers")
        os.write(terminal, b"-")
        it.server.wait_for("scale: from 2 to 1 worker")
        os.write(terminal, b"r")
        it.server.wait_for("reloaded, generation 2 serves")
        _read_until(terminal, b"reloaded, generation 2 serves")
        os.write(terminal, b"q")
        _read_until(terminal, b"")
        assert top.wait(WAIT) == 0
    os.close(terminal)


def _read_until(terminal: int, words: bytes) -> None:
    """Read what is drawn; b"": to the end."""
    drawn = b""
    while not words or words not in drawn:
        assert select.select([terminal], [], [], WAIT)[0], drawn
        try:
            drawn += os.read(terminal, 65536)
        except OSError:  # what a terminal says that nobody has open any more
            assert not words, drawn
            return


def test_top_without_rich_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['rich'] = None; sys.argv[1:] = ['top']; "
        "from forkserve.ctl.commands import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean_environ(), capture_output=True, text=True,
        timeout=WAIT, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "pip install 'forkserve[top]'" in result.stderr


@pytest.mark.parametrize("command", ["status", "ps"])
def test_readers_that_sleep_hold_up_nobody(
    controlled: Callable[..., Controlled], command: str
) -> None:
    it = controlled("-w", "4", "plain")
    sleepers = [it.connect() for _ in range(12)]
    for sock in sleepers:
        sock.send(json.dumps({"command": command}).encode() + b"\n")
    for _ in range(5):
        assert it.server.get() == (200, b"hello")
        assert json.loads(it.ok("status", "--json"))["ok"]
    for sock in sleepers:
        sock.close()
