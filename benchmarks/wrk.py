"""wrk, pinned to a processor of its own."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.scenarios import Scenario

SERVER_CPU, CLIENT_CPU = 0, 1


class Load:
    """A wrk that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def end(self) -> tuple[int, float, str]:
        """Wait for it. Returns (requests, requests per second, what went wrong). Raises
        RuntimeError if it fails."""
        output, _ = self.process.communicate()
        count = re.search(r"(\d+) requests in", output)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        errors = re.findall(r"(Socket errors: .*|Non-2xx.*)", output)
        if count is None or rate is None:
            raise RuntimeError(f"wrk ended with status {self.process.returncode}: {output}")
        return int(count[1]), float(rate[1]), "; ".join(errors)


@contextmanager
def load(scenario: Scenario, port: int, seconds: int, connections: int) -> Iterator[Load]:
    """Ask for a scenario, for so long, on so many connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(scenario.script)
        script.flush()
        words = [
            "taskset",
            "-c",
            str(CLIENT_CPU),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
        ]
        words += ["-s", script.name] if scenario.script else []
        with subprocess.Popen(
            [*words, f"http://127.0.0.1:{port}{scenario.path}"], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Load(process)
            finally:
                process.terminate()
