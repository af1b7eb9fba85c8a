"""``forkservectl top``: the server, live, in a terminal. Needs rich.

Two looks at the counters make a rate. What is drawn is made by ``Picture`` alone, from looks; the
terminal and the keys are ``watch``'s.
"""

import os
import select
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from forkserve.ctl.client import NoServer, Refused, Server
from forkserve.ctl.tables import (
    busy,
    conditions,
    cut,
    duration,
    headline,
    octets,
    printable,
    running,
    share,
)
from forkserve.ops.snapshot import percentile

_BARS = " ▁▂▃▄▅▆▇█"
_HISTORY = 60
_CALLS = 8
_SAID = 8.0  # seconds for which something is to be read

_FIGURES = 36  # columns for them, and for what stands beside them
_LABELS = 18
_LABEL = 10
_LABELLED = ("requests/s", "latency", "busy", "queue", "errors")

# Lines of a terminal.
_FRAME = 7  # for the figures, with a frame
_FIXED = 5  # for the headings of both tables, for two blank ones, and the keys
_COMFORT = 8  # left for the tables: with less there is no frame, and no address
_FEW = 3  # requests that are shown, whatever the number of workers is

KEYS = "r reload   + one worker more   - one fewer   q quit"


class Picture:
    """What is seen of the server: the last look, and what changed since the one before."""

    def __init__(self) -> None:
        self._note = ("", 0.0)  # and until when
        self._looks: deque[tuple[float, Mapping[str, Any]]] = deque(maxlen=2)
        self._rates: deque[float] = deque(maxlen=_HISTORY)
        self._slow: deque[float] = deque(maxlen=_HISTORY)
        self._busy: deque[float] = deque(maxlen=_HISTORY)

    def look(self, answer: Mapping[str, Any], now: float) -> None:
        """Take what the master answered at ``now``."""
        self._looks.append((now, answer))
        if len(self._looks) == 2:
            self._rates.append(
                self._growth(lambda answer: answer["totals"]["requests"]) / self._seconds
            )
            self._slow.append(percentile(self._grown("latency"), 0.99) or 0.0)
            self._busy.append(self._busy_share())

    def say(self, text: str) -> None:
        """Show the first line of it, for a while. From any thread."""
        self._note = (printable(text.partition("\n")[0]), time.monotonic() + _SAID)

    @property
    def _now(self) -> Mapping[str, Any]:
        return self._looks[-1][1]

    @property
    def _seconds(self) -> float:
        return max(0.001, self._looks[-1][0] - self._looks[0][0])

    def _growth(self, value: Callable[[Mapping[str, Any]], float]) -> float:
        """Of a number of the whole server, never less than none: an upgrade begins anew."""
        return max(0.0, value(self._now) - value(self._looks[0][1]))

    def _grown(self, name: str) -> list[int]:
        """The same for the buckets of a histogram."""
        before = self._looks[0][1]["totals"][name] if len(self._looks) == 2 else ()
        now = self._now["totals"][name]
        if len(before) != len(now):
            return list(now)
        return [max(0, after - earlier) for after, earlier in zip(now, before, strict=True)]

    def _busy_share(self) -> float:
        threads = sum(worker["threads"] for worker in self._now["workers"])
        return float(min(1.0, self._growth(_busy) / (self._seconds * max(1, threads))))

    # ---- drawing

    def draw(self, width: int, height: int | None = None) -> Group:
        """All of it, for a terminal of so many columns and lines. None: of any number of lines, so
        nothing is left out."""
        server = self._now["server"]
        head = [Text(headline(server), style="bold")]
        where = [
            Text(f"{printable(server['app'])} on {item['address']}", style="dim")
            for item in server["listeners"]
        ]
        odd = [Text(line, style="bold yellow") for line in conditions(server)]
        room = None if height is None else height - len(head + where + odd) - _FRAME - _FIXED
        framed = room is None or room >= _COMFORT
        if room is not None and not framed:
            room += 2 + len(where)
            where = []
        for line in (*head, *where, *odd):
            line.no_wrap, line.overflow = True, "ellipsis"
        figures = self._figures(width)
        parts: list[Any] = [*head, *where, *odd]
        parts.append(Panel(figures, border_style="dim", expand=False) if framed else figures)
        calls = running(self._now)
        shown, said = _share_out(len(self._now["workers"]), min(len(calls), _CALLS), room)
        if shown:
            parts += [
                self._workers(width, shown),
                Text(""),
                _requests(calls, said, width),
                Text(""),
            ]
        note, until = self._note
        noted = time.monotonic() < until
        style = "bold cyan" if noted else "dim"
        parts.append(Text(note if noted else KEYS, style=style, no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _figures(self, width: int) -> Table:
        grown = self._grown("latency")
        quantiles = "   ".join(
            f"p{100 * part:g} {duration(percentile(grown, part))}" for part in (0.5, 0.9, 0.99)
        )
        waiting = sum(item["waiting"] for item in self._now["server"]["listeners"])
        ready = sum(worker["connections"]["ready"] for worker in self._now["workers"])
        errors = self._now["totals"]["errors"]
        rate = f"{self._rates[-1]:,.0f}" if self._rates else "-"
        part = f"{100 * self._busy[-1]:.0f}%" if self._busy else "-"
        room = width - _FIGURES - _LABELS
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True, min_width=_LABEL)
        table.add_column(min_width=_FIGURES if room > 0 else None, no_wrap=True)
        rows: list[tuple[Any, ...]] = [
            (Text(rate, style="bold green"), sparkline(self._rates, "green", room)),
            (quantiles, sparkline(self._slow, "magenta", room)),
            (part, sparkline(self._busy, "yellow", room, most=1.0)),
            (f"{waiting} to be accepted   {ready} for a thread", ""),
            (f"4xx {errors['4xx']:,}   5xx {errors['5xx']:,}", ""),
        ]
        for label, row in zip(_LABELLED, rows, strict=True):
            table.add_row(label, *row[: 2 if room > 0 else 1])
        return table

    def _workers(self, width: int, most: int) -> Group:
        """``most``: so many of them; the others are counted."""
        columns = _columns(width)
        table = Table(box=None, header_style="cyan", pad_edge=False, padding=(0, 2, 0, 0))
        for name, least in columns:
            justify: Any = "left" if name == "state" else "right"
            table.add_column(name, justify=justify, no_wrap=True, min_width=least)
        table.add_column("runs", no_wrap=True)
        # What is left of the line, so that no other column has to give way.
        room = max(0, width - sum(2 + least for _, least in columns))
        workers = self._now["workers"]
        shown = workers
        if len(workers) > most:  # those that matter, where they always stand
            by_need = sorted(workers, key=self._need, reverse=True)[: most - 1]
            shown = [worker for worker in workers if worker in by_need]
        for worker in shown:
            cells = self._cells(worker)
            call = printable(worker["calls"][0]["request"]) if worker["calls"] else ""
            table.add_row(*(cells[name] for name, _ in columns), Text(call[:room], style="dim"))
        if len(shown) < len(workers):
            return Group(table, Text(f"and {len(workers) - len(shown)} more", style="dim"))
        return Group(table)

    def _need(self, worker: Mapping[str, Any]) -> tuple[bool, bool, float]:
        """How much it matters to see this one: those that do not just serve, then the busiest."""
        return worker["state"] != "serving", bool(worker["calls"]), self._spent(worker)

    def _spent(self, worker: Mapping[str, Any]) -> float:
        """The share of its threads' time that went into calls, in seconds of a thread."""
        known = {it["pid"]: it for it in self._looks[0][1]["workers"]}
        earlier = known.get(worker["pid"], _UNKNOWN)
        return max(0.0, busy(worker) - busy(earlier)) / max(1, int(worker["threads"]))

    def _cells(self, worker: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in each column."""
        known = {it["pid"]: it for it in self._looks[0][1]["workers"]}
        earlier = known.get(worker["pid"], _UNKNOWN)
        rate = (worker["requests"] - earlier["requests"]) / self._seconds
        spent = min(self._spent(worker), self._seconds)
        compared = len(self._looks) == 2
        return {
            "slot": str(worker["slot"]),
            "pid": str(worker["pid"]),
            "gen": str(worker["generation"]),
            "state": Text(worker["state"], style=_STYLES.get(worker["state"], "yellow")),
            "age": duration(worker["age"]),
            "req/s": f"{max(0.0, rate):,.0f}" if compared else "-",
            "busy": share(spent, self._seconds) if compared else "-",
            "p99": duration(percentile(worker["latency"], 0.99)),
            "rss": octets(worker["rss"]),
            "conns": str(sum(worker["connections"].values())),
        }


def _share_out(workers: int, calls: int, room: int | None) -> tuple[int, int]:
    """How many lines are for workers, and how many for calls; 0 for workers: for neither."""
    if room is None:
        return workers, calls
    if room < 2:
        return 0, 0
    shown = min(workers, max(2, room - min(calls, _FEW)))
    return shown, max(0, min(calls, room - shown))


def _columns(width: int) -> list[tuple[str, int]]:
    """Those for which there is room, each with its own."""
    columns = dict(_COLUMNS)
    for name in _LEAST:
        if sum(2 + least for least in columns.values()) <= width:
            break
        del columns[name]
    return list(columns.items())


def _requests(calls: Sequence[Mapping[str, Any]], most: int, width: int) -> Table:
    title = f"slowest of {len(calls)} running requests" if calls else "no request is running"
    table = Table(
        box=None, title=title, title_justify="left", title_style="cyan", pad_edge=False,
        show_header=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for justify in ("right", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=True)
    shown = calls[:most]
    rows = [
        (duration(it["seconds"]), f"slot {it['slot']}", printable(it["client"])) for it in shown
    ]
    # What is left of the line, so that no other column has to give way.
    taken = sum(2 + max(map(len, column)) for column in zip(*rows, strict=True))
    for call, (age, slot, client) in zip(shown, rows, strict=True):
        style = "bold red" if call["seconds"] > 5 else "yellow" if call["seconds"] > 1 else ""
        request = cut(printable(call["request"]), max(1, width - taken))
        table.add_row(Text(age, style=style), slot, Text(client), Text(request))
    return table


# Of the workers: each with the room that it needs.
_COLUMNS = (
    ("slot", 4), ("pid", 7), ("gen", 3), ("state", 8), ("age", 4), ("req/s", 6), ("busy", 4),
    ("p99", 5), ("rss", 4), ("conns", 5),
)  # fmt: skip
_LEAST = ("gen", "conns", "age", "p99", "pid", "rss")  # what a narrow terminal does without
_UNKNOWN: Mapping[str, Any] = {"requests": 0, "busy_seconds": 0.0, "calls": ()}
_STYLES = {"serving": "green", "booting": "cyan", "aborting": "bold red"}


def _busy(answer: Mapping[str, Any]) -> float:
    """Of all workers, with those that are gone."""
    running = sum(call["seconds"] for worker in answer["workers"] for call in worker["calls"])
    return float(answer["totals"]["busy_seconds"] + running)


def sparkline(
    values: Sequence[float] | deque[float], style: str, room: int = _HISTORY, most: float = 0.0
) -> Text:
    """The last values as bars, one a column. ``most``: what a full bar is, else the largest."""
    shown = list(values)[-room:] if room > 0 else []
    top = most or max(shown, default=0.0)
    bars = "".join(
        _BARS[0 if top <= 0 else min(8, max(1 if value > 0 else 0, round(8 * value / top)))]
        for value in shown
    )
    return Text(bars, style=style)


# ---- the terminal


def watch(server: Server, interval: float, once: bool) -> None:
    """Draw until q is pressed. Raises NoServer, if there is none from the start, and Refused."""
    picture = Picture()
    picture.look(server.ask("status"), time.monotonic())
    console = Console()
    if once:
        select.select((), (), (), interval)
        picture.look(server.ask("status"), time.monotonic())
        console.print(picture.draw(console.width))
        return
    try:
        with _keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
            live.update(picture.draw(*live.console.size), refresh=True)
            _go_on(server, picture, live, interval, keyboard)
    except KeyboardInterrupt:
        return


def _go_on(
    server: Server, picture: Picture, live: Live, interval: float, keyboard: int | None
) -> None:
    due = time.monotonic() + interval
    while True:
        fds = [] if keyboard is None else [keyboard]
        readable, _, _ = select.select(fds, [], [], max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if readable:
            key = os.read(readable[0], 1).decode("latin-1")
            if key in ("q", "Q", "\x03", "\x04", ""):
                return
            _press(server, picture, key)
        if now >= due:
            due = now + interval
            try:
                picture.look(server.ask("status"), now)
            except (NoServer, Refused) as error:
                picture.say(str(error))  # it may come again
        live.update(picture.draw(*live.console.size), refresh=True)


def _press(server: Server, picture: Picture, key: str) -> None:
    """Do what the key stands for, beside the drawing: a reload takes its time."""
    match key:
        case "r":
            ask = partial(server.ask, "reload")
            picture.say("reloading ...")
        case "+" | "-":
            ask = partial(server.ask, "scale", workers=f"{key}1")
        case _:
            return

    def work() -> None:
        try:
            picture.say(str(ask()["text"]))
        except (NoServer, Refused) as error:
            picture.say(str(error))

    threading.Thread(target=work, daemon=True).start()


@contextmanager
def _keys() -> Iterator[int | None]:
    """Keys as they are pressed, from the terminal; None if there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
