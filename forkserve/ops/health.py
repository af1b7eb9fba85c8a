"""Whether the server is ready for requests, as a load balancer wants to know. Pure.

Made of a snapshot of the scoreboard (``ops.snapshot``), and of nothing else.
"""

from collections.abc import Mapping
from typing import Any

STOPPING = frozenset({"draining", "stopping", "quitting"})
"""The states of a server that is about to be gone."""


def why_not_ready(snapshot: Mapping[str, Any]) -> str:
    """Why requests had better be sent elsewhere, "" if the server is ready for them."""
    server = snapshot["server"]
    if not server:
        return "the server is starting"
    if server["state"] in STOPPING:
        return "the server is stopping"
    if not any(worker["state"] == "serving" for worker in snapshot["workers"]):
        return "no worker is ready"
    for listener in server["listeners"]:
        backlog = listener["backlog"]
        if backlog and listener["waiting"] >= backlog:
            return f"the listen queue of {listener['address']} is full"
    return ""
