"""What the master has answered, as text for people. Pure.

Clients choose request targets, and a terminal obeys what it is shown: all of it goes through
``printable``.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from forkserve.ops.snapshot import percentile
from forkserve.proc.stacks import NAMES

_NOTHING = "-"


def printable(text: str) -> str:
    """Without what could move the cursor, or would be no line any more."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def readable(text: str) -> str:
    """The same for several lines."""
    return "\n".join(map(printable, text.replace("\t", "    ").split("\n")))


def duration(seconds: float | None) -> str:
    """In three or four characters: "250us", "12ms", "4.2s", "3m", "2d"."""
    if seconds is None:
        return _NOTHING
    seconds = max(0.0, seconds)  # a call that began between two looks at the clock
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def octets(count: float) -> str:
    """In four or five characters: "512", "1.5K", "312M"."""
    for unit in ("", "K", "M", "G", "T"):
        if count < 1000 or unit == "T":
            break
        count /= 1024
    return f"{count:.1f}{unit}" if unit and count < 10 else f"{count:.0f}{unit}"


def share(part: float, whole: float) -> str:
    """In per cent."""
    return f"{100 * part / whole:.0f}%" if whole > 0 else _NOTHING


def align(rows: Sequence[Sequence[str]], left: Iterable[int] = ()) -> str:
    """Columns, two blanks apart: flush right, but for those in ``left``. The first row is the
    heading."""
    keep = set(left)
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if at in keep else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def cut(line: str, columns: int | None) -> str:
    """As much of it as there is room for."""
    return line if columns is None or len(line) <= columns else f"{line[: columns - 1]}…"


def busy(worker: Mapping[str, Any]) -> float:
    """Seconds that its threads have spent in calls, those that still run included."""
    return float(worker["busy_seconds"] + sum(call["seconds"] for call in worker["calls"]))


# ---- status


def headline(server: Mapping[str, Any]) -> str:
    """What is said of the whole server."""
    wanted = f"{server['serving']} of {server['wanted']} workers serve"
    if server["least"] < server["most"]:
        wanted += f" ({server['least']} to {server['most']} by load)"
    words = [
        f"forkserve {server['version']}, pid {server['pid']}, generation {server['generation']}",
        wanted,
        f"up {duration(server.get('up_seconds'))}",
    ]
    return ", ".join(words)


_VACANT = 3  # slots that are told of


def conditions(server: Mapping[str, Any]) -> list[str]:
    """What is not as always."""
    lines = []
    if server["state"] != "up":
        lines.append(f"it is {server['state']}")
    if server["reload"] != "none":
        lines.append(f"a reload is under way: {server['reload']}")
    elif server["refusal"]:
        lines.append(f"the last reload was refused: {printable(server['refusal'].splitlines()[0])}")
    if server["upgrade"] not in ("none", "succeeded"):
        lines.append(f"an upgrade is under way: {server['upgrade']}")
    vacant = server["vacant"]
    lines += [
        f"slot {slot['slot']} has no worker, the next is tried in {duration(slot['due'])}; "
        f"{printable(slot['last_end'])}"
        for slot in vacant[:_VACANT]
    ]
    if len(vacant) > _VACANT:
        lines.append(f"and {len(vacant) - _VACANT} slots more have none")
    return lines


_WORKERS = (
    "SLOT", "PID", "GEN", "STATE", "AGE", "REQUESTS", "4XX", "5XX", "RSS", "BUSY", "QUEUED", "P50",
    "P99", "CONNS", "IDLE", "IN", "OUT", "GIVEN", "TAKEN", "RESTARTS", "LAST END",
)  # fmt: skip
# What is left out, the first first, until the others fit into a terminal.
_LEAST = (
    "TAKEN", "GIVEN", "IN", "OUT", "IDLE", "QUEUED", "P50", "4XX", "LAST END", "GEN", "CONNS",
    "AGE", "RESTARTS", "BUSY",
)  # fmt: skip


def status(answer: Mapping[str, Any], columns: int | None = None) -> str:
    """The server, its workers, and what runs. ``columns``: of the terminal, if it is for one."""
    server, workers = answer["server"], answer["workers"]
    lines = [headline(server)]
    lines += [
        f"{printable(server['app'])} on {item['address']}, {item['waiting']} waiting to be accepted"
        for item in server["listeners"]
    ]
    lines += conditions(server)
    rows: list[tuple[str, ...]] = [_WORKERS, *(_worker(worker) for worker in workers)]
    left_out = _left_out(rows, columns)
    rows = [
        tuple(cell for name, cell in zip(_WORKERS, row, strict=True) if name not in left_out)
        for row in rows
    ]
    texts = [at for at, name in enumerate(rows[0]) if name in ("STATE", "LAST END")]
    lines += ["", align(rows, left=texts)]
    if left_out:
        lines.append(f"({len(left_out)} columns more in a wider terminal)")
    calls = running(answer)
    if calls:
        lines += ["", requests(calls, columns)]
    return "\n".join(lines)


def _left_out(rows: Sequence[Sequence[str]], columns: int | None) -> list[str]:
    """The names of the columns for which there is no room."""
    widths = {column[0]: 2 + max(map(len, column)) for column in zip(*rows, strict=True)}
    left_out: list[str] = []
    for name in _LEAST:
        if columns is None or sum(widths.values()) - 2 <= columns:
            break
        del widths[name]
        left_out.append(name)
    return left_out


def _worker(worker: Mapping[str, Any]) -> tuple[str, ...]:
    connections = worker["connections"]
    return (
        str(worker["slot"]),
        str(worker["pid"]),
        str(worker["generation"]),
        worker["state"],
        duration(worker["age"]),
        str(worker["requests"]),
        str(worker["errors"]["4xx"]),
        str(worker["errors"]["5xx"]),
        octets(worker["rss"]),
        share(busy(worker), worker["age"] * max(1, worker["threads"])),
        duration(worker["queue_seconds"]),
        duration(percentile(worker["latency"], 0.5)),
        duration(percentile(worker["latency"], 0.99)),
        str(sum(connections.values())),
        str(connections["idle"]),
        octets(worker["octets_in"]),
        octets(worker["octets_out"]),
        str(worker["given"]),
        str(worker["taken"]),
        str(worker["restarts"]),
        printable(worker["last_end"]) or _NOTHING,
    )


# ---- ps


def running(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The requests that run, the longest first, each with its worker."""
    calls = [
        {"slot": worker["slot"], "pid": worker["pid"], **call}
        for worker in answer["workers"]
        for call in worker["calls"]
    ]
    return sorted(calls, key=lambda call: -call["seconds"])


def requests(calls: Sequence[Mapping[str, Any]], columns: int | None = None) -> str:
    """What ``running`` gives, as a table. ``columns``: of the terminal, if it is for one; what is
    too long for it is cut."""
    if not calls:
        return "no request is running"
    rows = [("TIME", "LEFT", "SLOT", "PID", "CLIENT", "REQUEST")]
    rows += [
        (
            duration(call["seconds"]),
            duration(call["left"]),
            str(call["slot"]),
            str(call["pid"]),
            printable(call["client"]) or _NOTHING,
            printable(call["request"]),
        )
        for call in calls
    ]
    table = align(rows, left=(4, 5))
    return "\n".join(cut(line, columns) for line in table.splitlines())


# ---- stack


def stack(answer: Mapping[str, Any]) -> str:
    """The stacks as faulthandler wrote them, each with the name of its thread if that is known: C
    code that holds the interpreter leaves no names. Of the main thread what lies below the worker
    is left out: that is of the master, or the template process, that it was forked from."""
    text, _, names = answer["text"].partition(f"\n{NAMES}")
    with contextlib.suppress(ValueError):  # of very many threads not all is kept
        names = json.loads(names.partition("\n")[0])
    known: Mapping[str, str] = names if isinstance(names, dict) else {}
    who = f"worker {answer['slot']} gen {answer['generation']} (pid {answer['pid']})"
    lines = [f"{who}, most recent calls first"]
    for block in text.strip().split("\n\n"):
        head, *frames = block.splitlines()
        bottom = next(
            (at for at, line in enumerate(frames) if line.endswith(" in run_worker")), len(frames)
        )
        head = head.removesuffix(" (most recent call first):")
        name = known.get(head.rpartition(" ")[2])
        lines += ["", f"{head} ({printable(name)}):" if name else f"{head}:"]
        lines += map(printable, frames[: bottom + 1])
    return "\n".join(lines)


# ---- config


def config(answer: Mapping[str, Any]) -> str:
    """Each setting that somebody has set, with where; then those at their defaults."""
    settings: Mapping[str, Any] = answer["settings"]
    given = {name: it for name, it in settings.items() if it["origin"] != "default"}
    others = {name: it for name, it in settings.items() if it["origin"] == "default"}
    rows = [("SETTING", "VALUE", "ORIGIN")]
    for name, it in (*given.items(), *others.items()):
        value = it["value"]
        shown = " ".join(value) if isinstance(value, list) else value
        rows.append((name, printable(shown) or _NOTHING, printable(it["origin"])))
    return f"generation {answer['generation']}\n\n{align(rows, left=(0, 1, 2))}"
