"""The conformance corpus that lies beside a checkout, not in it: other people's requests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command.harness import Server

CORPUS = Path(
    os.environ.get("CONFORMANCE_CORPUS")
    or Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
)


@pytest.mark.skipif(
    not (CORPUS / "probe.py").exists(),
    reason="there is no conformance corpus beside the repository, nor at CONFORMANCE_CORPUS",
)
def test_every_rule_of_the_shared_corpus(start: Callable[..., Server], tmp_path: Path) -> None:
    # Some of its applications fail on purpose; what that does to the client is what is tested.
    failures = ("the application raised", "cannot be sent")
    server = start(
        "-w", "8", "--pythonpath", str(CORPUS), "echo_app:application", errors=failures, cwd=tmp_path
    )  # fmt: skip
    server.wait_for("is ready", count=8)
    report = tmp_path / "report.json"
    result = subprocess.run(
        [sys.executable, "-B", str(CORPUS / "probe.py"), "--port", str(server.port),
         "--scale", "2", "--json", str(report)],
        capture_output=True, text=True, timeout=80, check=False,
    )  # fmt: skip
    assert report.exists(), result.stderr
    found = json.loads(report.read_text())
    scored = [case for case in found["results"] if case["scored"]]
    assert any(case["level"] == "must" for case in scored)
    assert any(case["security"] for case in scored)
    failed = [
        f"{case['suite']}:{case['id']} ({case['level']}): {case['kind']} {case['detail']}"
        for case in scored
        if case["verdict"] == "fail" and (case["level"] != "may" or case["security"])
    ]
    assert not failed, "\n".join(failed)
    assert found["invariants"] == {}
