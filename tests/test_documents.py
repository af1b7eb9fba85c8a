"""What the repository ships beside the code: it must be true, and work."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import need

ROOT = Path(__file__).parents[1]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = need_or_skip("systemd-analyze")
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    units = []
    for kind in ("service", "socket"):
        text = (ROOT / "systemd" / f"forkserve.{kind}").read_text()
        if int(words.stdout.split()[1]) < 253:
            text = text.replace("Type=notify-reload", "Type=notify")  # as the unit says
        units.append(str(tmp_path / f"forkserve.{kind}"))
        Path(units[-1]).write_text(text)
    result = subprocess.run(
        [program, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def need_or_skip(program: str) -> str:
    """For what only runs on some machines, CI's or not."""
    import shutil

    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not on this machine")
    return path


def test_the_changelog_knows_this_version() -> None:
    import forkserve

    assert f"\n{forkserve.__version__} " in (ROOT / "CHANGELOG.rst").read_text()


def test_every_file_that_the_readme_names_is_there() -> None:
    text = (ROOT / "README.rst").read_text()
    for path in re.findall(r"<([a-z][\w./-]+\.\w+)>`_", text):
        assert (ROOT / path).exists(), path


def test_run_time_dependencies_are_two() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(re.split("[<>=]", item)[0] for item in project["dependencies"]) == [
        "click", "setproctitle",
    ]  # fmt: skip


def test_the_benchmarks_check_their_answers(tmp_path: Path) -> None:
    """The scenarios are right, whatever the figures: every answer of ours passes its check."""
    need("wrk")
    sys.path.insert(0, str(ROOT))
    from benchmarks.scenarios import SCENARIOS
    from tests.command.harness import Server

    server = Server("-b", "127.0.0.1:0", "benchmarks.apps:application", cwd=ROOT).up()
    try:
        for scenario in SCENARIOS:
            assert scenario.check(server.port) is None, scenario.name
            script = tmp_path / f"{scenario.name}.lua"
            script.write_text(scenario.script)
            url = f"http://127.0.0.1:{server.port}{scenario.path}"
            output = subprocess.run(
                ["wrk", "-t1", "-c4", "-d1s", *(["-s", str(script)] if scenario.script else []), url],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert "Requests/sec" in output
            assert "Socket errors" not in output, scenario.name
            assert "Non-2xx" not in output, scenario.name
    finally:
        assert server.stop() == 0


def test_the_results_of_the_benchmarks_are_in_the_documentation() -> None:
    sys.path.insert(0, str(ROOT))
    from benchmarks.report import document

    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    soak = json.loads((ROOT / "benchmarks" / "soak.json").read_text())
    assert document(results, soak) == (ROOT / "benchmarks" / "README.rst").read_text()
