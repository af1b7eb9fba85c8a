"""Health, metrics, charts and the status page, from snapshots."""

import json
import re
import sys
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forkserve.ops import metrics
from forkserve.ops.health import why_not_ready
from forkserve.ops.history import SECONDS, History, difference
from forkserve.ops.own_paths import OwnPaths
from forkserve.ops.scoreboard import Scoreboard
from forkserve.ops.snapshot import take_snapshot
from forkserve.ops.status import StatusSite
from tests.ops.snapshots import COUNTERS, counted, listener, snapshot, worker

HOSTILE = "GET /<script>alert(1)</script>\xff HTTP/1.1"


# ---- ready or not


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (snapshot(), ""), ({"server": {}, "workers": []}, "the server is starting"),
        (snapshot(worker(state="booting")), "no worker is ready"),
        (snapshot(worker(state="retiring"), worker(1, state="aborting")), "no worker is ready"),
        (snapshot(worker(state="booting"), worker(1)), ""),
        (snapshot(state="draining"), "the server is stopping"),
        (snapshot(state="stopping"), "the server is stopping"),
        (snapshot(state="quitting"), "the server is stopping"),
        (snapshot(listeners=[listener(2047)]), ""),
        (snapshot(listeners=[listener(2048)]), "the listen queue of http://127.0.0.1:8000 is full"),
        (snapshot(listeners=[listener(), listener(9, 8)]), "the listen queue of http://127.0.0.1:8000 is full"),
        (snapshot(listeners=[listener(5, 0)]), ""),  # nobody knows how many may wait
    ],
)  # fmt: skip
def test_the_server_is_ready_or_says_why_not(given: dict[str, Any], why: str) -> None:
    assert why_not_ready(given) == why


# ---- history


def test_counters_that_begin_anew_count_from_nothing() -> None:
    assert difference([5, 3], [2, 3]) == [3, 0]
    assert difference([1, 0], [2, 3]) == [1, 0]


def test_a_point_is_what_became_of_the_counters() -> None:
    history = History()
    history.add(snapshot(), 10.0)
    assert history.since(0, 10.0) == []
    running = [{"request": "GET / HTTP/1.1", "seconds": 0.5, "client": ""}]
    latency = counted(_0_01=24, _0_1=2, _1_0=1)
    totals = {"requests": 27, "errors": {"4xx": 1, "5xx": 4, "none": 0}, "latency": latency}
    then = snapshot(
        worker(busy_seconds=2.5, calls=running), worker(1, threads=2, busy_seconds=0.0, calls=[{**running[0], "seconds": 60.0}]),
        totals=totals, generation=2, listeners=[listener(3), listener(4)],
    )  # fmt: skip
    history.add(then, 12.0)
    assert history.since(0, 13.0) == [
        {
            "number": 1, "at": 12.0, "age": 1.0, "rate": 10.0, "failed": 2.0, "p50": 0.0075,
            "p99": 0.00995, "waiting": 7, "ready": 0, "rss": 2 << 20, "busy": {"0": 0.75, "1": 0.5},
            "mark": "reload 2",
        }
    ]  # fmt: skip
    history.add(snapshot(totals=totals, generation=2, reloads_refused=1), 13.0)
    (last,) = history.since(1, 13.0)
    assert (last["rate"], last["p50"], last["mark"]) == (0.0, None, "refused")


def test_a_snapshot_that_does_not_know_the_server_is_left_out() -> None:
    history, nothing = History(), {"server": {}, "workers": [], "totals": COUNTERS}
    for second, given in enumerate([nothing, snapshot(), nothing, snapshot()]):
        history.add(given, float(second))
    assert [point["at"] for point in history.since(0, 3.0)] == [3.0]
    assert Asked(site(nothing), "/metrics").status == 503
    assert Asked(site(nothing), "/status.json").status == 200


def test_the_history_is_bounded() -> None:
    history = History()
    for second in range(SECONDS * 2):
        history.add(snapshot(), float(second))
    points = history.since(0, SECONDS * 2.0)
    assert (len(points), points[-1]["number"]) == (SECONDS, SECONDS * 2 - 1)


# ---- metrics


def test_metrics_are_what_prometheus_reads() -> None:
    retiring = [worker(state="retiring", pid=pid) for pid in (8, 9)]  # a series, not two
    boots = worker(1, state="booting", rss=0)
    given = snapshot(worker(), boots, *retiring, listeners=[listener(3)], wanted=2)
    content_type, octets = metrics.exposition(given)
    assert content_type.startswith("text/plain; version=")
    found = {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(octets.decode())
        for sample in family.samples
    }
    expected = {
        ("forkserve_info", "shop:app", "0.1.0"): 1, ("forkserve_state", "up"): 1,
        ("forkserve_state", "draining"): 0, ("forkserve_ready",): 1,
        ("forkserve_uptime_seconds",): 60, ("forkserve_requests_total",): 7,
        ("forkserve_responses_total", "4xx"): 1, ("forkserve_aborted_total",): 0, ("forkserve_busy_seconds_total",): 1.5, ("forkserve_octets_total", "out"): 20,
        ("forkserve_handoffs_total", "given"): 1, ("forkserve_handoffs_total", "taken"): 2,
        ("forkserve_handoffs_total", "not_given"): 3, ("forkserve_handoffs_total", "not_taken"): 4,
        ("forkserve_restarts_total", "died"): 2, ("forkserve_reloads_total",): 0,
        ("forkserve_reloads_refused_total",): 0, ("forkserve_generation",): 1,
        ("forkserve_workers", "serving"): 1, ("forkserve_workers", "booting"): 1,
        ("forkserve_workers_wanted",): 2,
        ("forkserve_listen_queue", "http://127.0.0.1:8000"): 3,
        ("forkserve_listen_queue_limit", "http://127.0.0.1:8000"): 2048,
        ("forkserve_request_seconds_bucket", "0.01"): 4, ("forkserve_request_seconds_bucket", "0.1"): 6,
        ("forkserve_request_seconds_bucket", "1.0"): 7, ("forkserve_request_seconds_bucket", "+Inf"): 7,
        ("forkserve_request_seconds_count",): 7, ("forkserve_request_seconds_sum",): 2.5,
        ("forkserve_queue_seconds_bucket", "0.01"): 7, ("forkserve_queue_seconds_sum",): 0.5,
        ("forkserve_worker_memory_bytes", "0", "serving"): 1 << 20,
        ("forkserve_worker_age_seconds", "1", "booting"): 5,
        ("forkserve_worker_requests", "0", "retiring"): 14,
        ("forkserve_worker_calls", "0", "serving"): 0, ("forkserve_worker_generation", "0", "retiring"): 1,
        ("forkserve_worker_connections", "0", "retiring", "idle"): 4,
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected


def test_what_a_real_scoreboard_says_is_understood() -> None:
    board = Scoreboard(2)
    board.row(0).take(1)
    own = board.row(0).tally()
    own.over(200, 0.003, 0.002, 0.0, 100, 2000)
    own.write()
    told = {key: value for key, value in snapshot()["server"].items() if key != "up_seconds"}
    workers = [{"row": 0, "slot": 0, "pid": 1, "generation": 1, "state": "serving", "since": 1.0,
                "restarts": 0, "last_end": ""}]  # fmt: skip
    board.write(json.dumps({"server": told | {"since": 0.5}, "workers": workers}).encode())
    seen = take_snapshot(board, 2.0)
    assert why_not_ready(seen) == ""
    assert b"forkserve_requests_total 1.0" in metrics.exposition(seen)[1]
    history = History()
    history.add(seen, 2.0)
    own.over(500, 0.003, 0.002, 0.0, 100, 2000)
    own.write()
    history.add(take_snapshot(board, 3.0), 3.0)
    (point,) = history.since(0, 3.0)
    assert (point["rate"], point["failed"], point["busy"]) == (1.0, 1.0, {"0": 0.0})
    assert set(seen["workers"][0]) >= set(worker())
    assert set(seen["totals"]) == set(COUNTERS)
    assert set(seen["server"]) == set(snapshot()["server"])


def test_metrics_are_openmetrics_if_that_is_asked_for() -> None:
    content_type, octets = metrics.exposition(
        snapshot(), "application/openmetrics-text; version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    assert octets.endswith(b"# EOF\n")


@pytest.mark.parametrize("version", ["x", "9" * 5000, "1.x", "1\xb2.0.0", "", "77.0.0 <b>"])
@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
def test_metrics_come_whatever_version_a_client_asks_for(version: str, kind: str) -> None:
    accept = f"text/html, {kind};  version={version} ;q=0.5, */*"
    content_type, octets = metrics.exposition(snapshot(), accept)
    assert b"forkserve_requests_total" in octets
    assert content_type.isascii() and len(content_type) < 200
    assert "<" not in content_type


# ---- the site


class Asked:
    """One call of a WSGI application, whole."""

    def __init__(
        self, app: Any, path: str, *, query: str = "", method: str = "GET", **environ: str
    ) -> None:
        environ = {
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method,
            "SERVER_NAME": "127.0.0.1", **environ,
        }  # fmt: skip
        self.body = b"".join(app(environ, self._start))

    def _start(self, status: str, fields: list[tuple[str, str]]) -> None:
        self.status, self.fields = int(status.split()[0]), dict(fields)


def site(given: dict[str, Any] | None = None) -> StatusSite:
    return StatusSite(lambda: given or snapshot(), lambda: 50.0)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/healthz", 200, b"alive\n"), ("/readyz", 503, b"no worker is ready\n"),
        ("/elsewhere", 404, b"there is no such page\n"), ("/../", 404, b"there is no such page\n"),
    ],
)  # fmt: skip
def test_a_server_that_is_not_ready_is_alive(path: str, status: int, body: bytes) -> None:
    asked = Asked(site(snapshot(worker(state="booting"))), path)
    assert (asked.status, asked.body) == (status, body)
    assert asked.fields["Cache-Control"] == "no-store"


def test_ready() -> None:
    assert (Asked(site(), "/readyz").status, Asked(site(), "/readyz").body) == (200, b"ready\n")


def test_what_only_answers_cannot_be_written_to() -> None:
    asked = Asked(site(), "/readyz", method="POST")
    assert (asked.status, asked.fields["Allow"]) == (405, "GET, HEAD")
    asked = Asked(site(), "/readyz", method="HEAD")
    assert (asked.status, asked.body, asked.fields["Content-Length"]) == (200, b"", "6")


def test_metrics_without_the_library_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert not metrics.available()
    asked = Asked(site(), "/metrics")
    assert asked.status == 501
    assert b"pip install 'forkserve[metrics]'" in asked.body


def test_status_is_the_snapshot_with_the_points_that_are_asked_for() -> None:
    calls = [{"request": HOSTILE, "seconds": 1.0, "client": "192.0.2.1"}]
    clock = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    ours = StatusSite(lambda: snapshot(worker(calls=calls)), lambda: next(clock))
    for _ in range(3):
        ours.sample()
    asked = Asked(ours, "/status.json", query="after=1")
    told = json.loads(asked.body)
    assert asked.fields["Content-Type"] == "application/json"
    assert [point["number"] for point in told["history"]] == [2]
    assert told["ready"] == "yes"
    assert told["workers"][0]["calls"] == calls
    assert len(json.loads(Asked(ours, "/status.json", query="after=x").body)["history"]) == 2
    assert (
        len(json.loads(Asked(ours, "/status.json", query="after=" + "9" * 99).body)["history"]) == 2
    )


def test_the_page_may_run_its_own_script_and_nothing_else() -> None:
    asked = Asked(site(), "/")
    policy = asked.fields["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    page = asked.body.decode()
    names = {"http://www.w3.org/2000/svg"}  # the name of a language, which nobody fetches
    assert set(re.findall(r"https?://[^\s'\"]+", page)) == names
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in page


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:9000",
        "localhost.",
        "127.0.0.1:9000",
        "[::1]:9000",
        "192.0.2.1",
        "",
        "127.0.0.1:",
    ],
)
def test_on_loopback_the_page_answers_to_what_nobody_can_point_here(host: str) -> None:
    for path in ("/", "/status.json"):
        assert Asked(site(), path, HTTP_HOST=host).status == 200
        assert Asked(site(), path, HTTP_HOST=host, SERVER_NAME="::1").status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9000", "localhost.evil.example", "127.0.0.1.evil.example:9000", "a:b:c", "[evil]:1",
     "localhost@evil.example", "127.0.0.1:9000.evil.example"],
)  # fmt: skip
def test_on_loopback_a_site_whose_name_points_here_reads_nothing(host: str) -> None:
    for path in ("/", "/status.json"):
        asked = Asked(site(), path, HTTP_HOST=host)
        assert asked.status == 421 and b"shop" not in asked.body
    assert Asked(site(), "/readyz", HTTP_HOST=host).status == 200  # as load balancers ask
    assert Asked(site(), "/metrics", HTTP_HOST=host).status == 200


@pytest.mark.parametrize("name", ["10.0.0.1", "0.0.0.0", "localhost"])  # the last: a unix socket
def test_elsewhere_the_page_has_any_name(name: str) -> None:
    assert Asked(site(), "/", HTTP_HOST="ops.example", SERVER_NAME=name).status == 200


def test_an_own_path_is_found_whatever_letters_it_has() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("it is not the application's")

    app = OwnPaths(application, snapshot, health="/ges\u00fcnder-\u20ac", metrics=None)
    path = "/ges\u00fcnder-\u20ac".encode().decode("latin-1")  # PEP 3333
    assert Asked(app, path).status == 200


def test_own_paths_stand_before_the_application() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    both = OwnPaths(application, snapshot, health="/health", metrics="/m")
    assert Asked(both, "/health").body == b"ready\n"
    assert b"forkserve_requests_total 7" in Asked(both, "/m").body
    assert Asked(both, "/health/").body == b"/health/"
    one = OwnPaths(application, snapshot, health="/health", metrics=None)
    assert Asked(one, "/m").body == b"/m"
