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

    def draw(self, width: int) -> Group:
        """All of it, for a terminal of so many columns."""
        server = self._now["server"]
        parts: list[Any] = [Text(headline(server), style="bold")]
        parts += [
            Text(f"{printable(server['app'])} on {item['address']}", style="dim")
            for item in server["listeners"]
        ]
        parts += [Text(line, style="bold yellow") for line in conditions(server)]
        parts += [self._figures(width), self._workers(width), Text(""), self._requests(), Text("")]
        note, until = self._note
        said = time.monotonic() < until
        parts.append(Text(note if said else KEYS, style="bold cyan" if said else "dim"))
        return Group(*parts)

    def _figures(self, width: int) -> Panel:
        grown = self._grown("latency")
        quantiles = "   ".join(
            f"p{100 * part:g} {duration(percentile(grown, part))}" for part in (0.5, 0.9, 0.99)
        )
        waiting = sum(item["waiting"] for item in self._now["server"]["listeners"])
        ready = sum(worker["connections"]["ready"] for worker in self._now["workers"])
        errors = self._now["totals"]["errors"]
        rate = f"{self._rates[-1]:,.0f}" if self._rates else "-"
        part = f"{100 * self._busy[-1]:.0f}%" if self._busy else "-"
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(min_width=_FIGURES, no_wrap=True)
        table.add_column(no_wrap=True)
        room = width - _FIGURES - _LABELS
        table.add_row(
            "requests/s", Text(rate, style="bold green"), sparkline(self._rates, "green", room)
        )
        table.add_row("latency", quantiles, sparkline(self._slow, "magenta", room))
        table.add_row("busy", part, sparkline(self._busy, "yellow", room, most=1.0))
        table.add_row("queue", f"{waiting} to be accepted   {ready} for a thread", "")
        table.add_row("errors", f"4xx {errors['4xx']:,}   5xx {errors['5xx']:,}", "")
        return Panel(table, border_style="dim", expand=False)

    def _workers(self, width: int) -> Table:
        before = {worker["pid"]: worker for worker in self._looks[0][1]["workers"]}
        known = len(self._looks) == 2
        table = Table(box=None, header_style="cyan", pad_edge=False, padding=(0, 2, 0, 0))
        for name, least in _COLUMNS:
            justify: Any = "left" if name == "state" else "right"
            table.add_column(name, justify=justify, no_wrap=True, min_width=least)
        table.add_column("runs", no_wrap=True)
        # What is left of the line, so that no other column has to give way.
        room = max(0, width - sum(2 + least for _, least in _COLUMNS))
        for worker in self._now["workers"]:
            earlier = before.get(worker["pid"], _UNKNOWN)
            rate = (worker["requests"] - earlier["requests"]) / self._seconds
            spent = max(0.0, busy(worker) - busy(earlier)) / max(1, worker["threads"])
            call = printable(worker["calls"][0]["request"]) if worker["calls"] else ""
            table.add_row(
                str(worker["slot"]),
                str(worker["pid"]),
                str(worker["generation"]),
                Text(worker["state"], style=_STYLES.get(worker["state"], "yellow")),
                duration(worker["age"]),
                f"{max(0.0, rate):,.0f}" if known else "-",
                share(min(spent, self._seconds), self._seconds) if known else "-",
                duration(percentile(worker["latency"], 0.99)),
                octets(worker["rss"]),
                str(sum(worker["connections"].values())),
                Text(call[:room], style="dim"),
            )
        return table

    def _requests(self) -> Table:
        calls = running(self._now)
        title = f"slowest of {len(calls)} running requests" if calls else "no request is running"
        table = Table(
            box=None, title=title, title_justify="left", title_style="cyan", pad_edge=False,
            show_header=False, padding=(0, 2, 0, 0),
        )  # fmt: skip
        for _ in range(2):
            table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True)
        for call in calls[:_CALLS]:
            style = "bold red" if call["seconds"] > 5 else "yellow" if call["seconds"] > 1 else ""
            table.add_row(
                Text(duration(call["seconds"]), style=style),
                f"slot {call['slot']}",
                Text(printable(call["client"])),
                Text(printable(call["request"])),
            )
        return table


# Of the workers: each with the room that it needs.
_COLUMNS = (
    ("slot", 4), ("pid", 7), ("gen", 3), ("state", 8), ("age", 4), ("req/s", 6), ("busy", 4),
    ("p99", 5), ("rss", 4), ("conns", 5),
)  # fmt: skip
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
            live.update(picture.draw(live.console.width), refresh=True)
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
        live.update(picture.draw(live.console.width), refresh=True)


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
