"""The scoreboard as Prometheus reads it, written by prometheus-client, which is an extra.

A collector of our own over one snapshot: neither the library's global registry nor its files for
several processes are used, because the scoreboard already is the sum of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from forkserve.ops.health import why_not_ready
from forkserve.ops.tally import LATENCY_BOUNDS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

MISSING = (
    "prometheus-client is not installed: pip install 'forkserve[metrics]', and start forkserve anew"
)

# The library compares whatever else is there with numbers, which fails, and says it in its answer.
_VERSION = re.compile(r"version=[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}").fullmatch

_WORKER_STATES = ("booting", "serving", "retiring", "aborting")
_SERVER_STATES = ("starting", "up", "draining", "stopping", "quitting")


def available() -> bool:
    """Whether the library is there. It is not imported: that takes a while."""
    return find_spec("prometheus_client") is not None


def exposition(snapshot: Mapping[str, Any], accept: str = "") -> tuple[str, bytes]:
    """(Content-Type, text), in the format that ``accept``, the field of the request, asks for.

    Raises ImportError, see ``available``.
    """
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(",".join(filter(_is_sound, accept.split(","))))
    return content_type, encode(_Collected(list(families(snapshot))))


def _is_sound(item: str) -> bool:
    """Whether the version in an item of an Accept field, if there is one, is one."""
    words = map(str.strip, item.split(";"))
    return all(_VERSION(word) for word in words if word.startswith("version="))


class _Collected:
    """What a registry is to the library's writers."""

    def __init__(self, metrics: "Sequence[Metric]") -> None:
        self._metrics = metrics

    def collect(self) -> "Sequence[Metric]":
        return self._metrics


def families(snapshot: Mapping[str, Any]) -> "Iterator[Metric]":
    """All metrics of the server."""
    yield from _of_server(snapshot)
    yield from _totals(snapshot["totals"])
    yield from _of_workers(snapshot["workers"])


def _of_server(snapshot: Mapping[str, Any]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily as Counter
    from prometheus_client.core import GaugeMetricFamily as Gauge
    from prometheus_client.core import InfoMetricFamily as Named
    from prometheus_client.core import StateSetMetricFamily as States

    server, workers = snapshot["server"], snapshot["workers"]
    names = {key: str(server[key]) for key in ("version", "app")}
    yield Named("forkserve", "The server and its application.", names)
    yield States(
        "forkserve_state", "State of the server.",
        {state: server["state"] == state for state in _SERVER_STATES},
    )  # fmt: skip
    yield Gauge("forkserve_ready", "Whether /readyz says so.", int(not why_not_ready(snapshot)))
    yield Gauge("forkserve_uptime_seconds", "Time since the start.", server["up_seconds"])
    yield Gauge("forkserve_generation", "Generation in force.", server["generation"])
    yield Counter("forkserve_reloads", "Reloads that came into force.", server["reloads"])
    refused = server["reloads_refused"]
    yield Counter("forkserve_reloads_refused", "Reloads that were refused.", refused)
    restarts = Counter("forkserve_restarts", "Workers that ended, by reason.", labels=["reason"])
    for reason, count in sorted(server["restarts"].items()):
        restarts.add_metric([reason], count)
    yield restarts
    yield Gauge("forkserve_workers_wanted", "Slots that are to be filled.", server["wanted"])
    states = Gauge("forkserve_workers", "Workers by state.", labels=["state"])
    for state in _WORKER_STATES:
        states.add_metric([state], sum(worker["state"] == state for worker in workers))
    yield states
    depth = Gauge("forkserve_listen_queue", "Connections not yet accepted.", labels=["address"])
    most = Gauge("forkserve_listen_queue_limit", "Most of them.", labels=["address"])
    for listener in server["listeners"]:
        depth.add_metric([listener["address"]], listener["waiting"])
        most.add_metric([listener["address"]], listener["backlog"])
    yield from (depth, most)


def _totals(totals: Mapping[str, Any]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily as Counter

    yield Counter("forkserve_requests", "Requests that are over.", totals["requests"])
    responses = Counter("forkserve_responses", "Requests by class of status.", labels=["class"])
    for name, count in totals["statuses"].items():
        responses.add_metric([name], count)
    yield responses
    yield Counter("forkserve_aborted", "Requests whose answer was cut off.", totals["aborted"])
    spent = totals["busy_seconds"]
    yield Counter("forkserve_busy_seconds", "Time in calls of the application.", spent)
    octets = Counter("forkserve_octets", "Octets of requests and responses.", labels=["direction"])
    octets.add_metric(["in"], totals["octets_in"])
    octets.add_metric(["out"], totals["octets_out"])
    yield octets
    text = "Connections given and taken; attempts to give that failed, and lost ones (not_taken)."
    handed = Counter("forkserve_handoffs", text, labels=["direction"])
    for direction in ("given", "taken", "not_given", "not_taken"):
        handed.add_metric([direction], totals[direction])
    yield handed
    yield _histogram(
        "forkserve_request_seconds", "Time from the first octet of a request to its end.",
        totals["latency"], totals["latency_seconds"],
    )  # fmt: skip
    yield _histogram(
        "forkserve_queue_seconds", "Time that requests waited for the application.",
        totals["queue"], totals["queue_seconds"],
    )  # fmt: skip


def _histogram(name: str, text: str, counts: Sequence[int], total: float) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    buckets, so_far = [], 0
    edges = [str(float(bound)) for bound in LATENCY_BOUNDS] + ["+Inf"]
    for edge, count in zip(edges, counts, strict=True):
        so_far += count
        buckets.append((edge, so_far))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)


def _of_workers(workers: Sequence[Mapping[str, Any]]) -> "Iterator[Metric]":
    """By slot and state, and not by pid: each pid would be a series of its own, for ever. So those
    that retire in one slot are one."""
    from prometheus_client.core import GaugeMetricFamily as Gauge

    labels = ["slot", "state"]
    memory = Gauge("forkserve_worker_memory_bytes", "Memory (RSS) of a worker.", labels=labels)
    age = Gauge("forkserve_worker_age_seconds", "Time since its fork.", labels=labels)
    served = Gauge("forkserve_worker_requests", "Requests that it has served.", labels=labels)
    running = Gauge("forkserve_worker_calls", "Calls that it runs.", labels=labels)
    generation = Gauge("forkserve_worker_generation", "Its generation.", labels=labels)
    held = Gauge(
        "forkserve_worker_connections", "Connections that it holds.", labels=[*labels, "waits_for"]
    )
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for worker in workers:
        groups.setdefault((str(worker["slot"]), worker["state"]), []).append(worker)
    for which, group in groups.items():
        memory.add_metric(which, sum(worker["rss"] for worker in group))
        age.add_metric(which, max(worker["age"] for worker in group))
        served.add_metric(which, sum(worker["requests"] for worker in group))
        running.add_metric(which, sum(len(worker["calls"]) for worker in group))
        generation.add_metric(which, max(worker["generation"] for worker in group))
        for state in group[0]["connections"]:
            count = sum(worker["connections"][state] for worker in group)
            held.add_metric([*which, state], count)
    yield from (memory, age, served, running, generation, held)
