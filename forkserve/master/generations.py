"""The generations that there are: the one in force, and the next one while it proves itself.

With them goes the master's log, which is that of the one in force.
"""

import logging
from collections.abc import Callable, Sequence

from forkserve.errors import ForkserveError, in_a_line, traceback_of, why_not
from forkserve.master import story
from forkserve.master.advice import advice
from forkserve.master.generation import (
    Generation,
    close_unshared,
    log_owner,
    open_generation,
    plan_of,
)
from forkserve.master.story import Event
from forkserve.net.address import FdAddress
from forkserve.net.listeners import Listener
from forkserve.ops.logs import error_log
from forkserve.ops.statsd import LineCounter
from forkserve.proc.title import set_title
from forkserve.settings import Settings


class Generations:
    """``log``: the master's, once the first one is open. ``not_reopened``: the logs that the last
    USR1 could not open, with the reasons."""

    log: logging.Logger

    def __init__(
        self,
        settings: Settings,
        read_settings: Callable[[], Settings],
        inherited: Sequence[FdAddress],
    ) -> None:
        """``read_settings`` reads them anew for a reload, and raises ForkserveError."""
        self._first_settings = settings
        self.not_reopened: list[str] = []
        self._read_settings = read_settings
        self._inherited = inherited
        self._all: dict[int, Generation] = {}
        self._current = 1
        self._warned: set[str] = set()

    @property
    def current(self) -> Generation:
        """The one in force."""
        return self._all[self._current]

    @property
    def listeners(self) -> list[Listener]:
        """Of all of them."""
        return [listener for generation in self._all.values() for listener in generation.listeners]

    @property
    def timeouts(self) -> list[float | None]:
        """What calls may take, in each of them."""
        return [generation.settings.timeout for generation in self._all.values()]

    def get(self, number: int) -> Generation:
        """That of a worker; the one in force, if it is gone."""
        return self._all.get(number, self.current)

    def open_first(self, listeners: Sequence[Listener]) -> None:
        """Bind, but for what another master has handed down. Raises ForkserveError."""
        first = open_generation(1, self._first_settings, self._inherited, None, listeners)
        self._all[1] = first
        self.take_up(1)

    def load(self, number: int) -> Event:
        """Read the settings, and open what they need beyond what is open.

        Whatever fails here is a reason to refuse the reload, and none for the server to end.
        """
        explain: Callable[[str], str] = str
        try:
            settings = self._read_settings()
            explain = settings.explained
            generation = open_generation(number, settings, self._inherited, self.current)
        except ForkserveError as error:
            return story.SettingsRefused(error.report(explain))
        except BaseException as error:  # noqa: BLE001 - the boundary of a reload
            return story.SettingsRefused(f"{in_a_line(error)}\n{traceback_of(error, ())}")
        self._all[number] = generation
        return story.SettingsLoaded(plan_of(generation.settings))

    def take_up(self, number: int) -> None:
        """It is in force, for the master too."""
        generation, settings = self._all[number], self._all[number].settings
        self._current = number
        for listener in generation.sockets:
            listener.set_backlog(settings.backlog)
        self.log = error_log(
            generation.error_file, settings.log_level, "master", settings.log_format
        )
        if generation.statsd is not None:
            self.log.addFilter(LineCounter(generation.statsd))
            if generation.statsd.failure:
                self.log.warning("%s", generation.statsd.failure)
        set_title("master", settings.name or settings.app)
        for warning in advice(settings, generation.unfit):
            if not (settings.reload and warning in self._warned):  # each save would repeat it
                self.log.warning("%s", settings.explained(warning))
            self._warned.add(warning)
        if settings.pid != self._first_settings.pid:
            self.log.warning("a new %s is used only after a restart", settings.named("pid"))
        if settings.control_socket != self._first_settings.control_socket:
            name = settings.named("control_socket")
            self.log.warning("a new %s is used only after a restart, or an upgrade", name)

    def release(self, number: int) -> None:
        """Close what no other uses. Nothing is done for one that could not be opened."""
        generation = self._all.pop(number, None)
        if generation is not None:
            for listener in close_unshared(generation, list(self._all.values())):
                listener.unlink()

    def let_go(self, own: Generation) -> None:
        """In a child of ``own``: sockets of the others would stay open when those end, and so
        would those of the status process in a worker."""
        for other in self._all.values():
            if other.number != own.number:
                close_unshared(other, [own])
            for listener in other.sockets:
                if listener not in own.listeners:
                    listener.close()

    def stop_listening(self) -> None:
        """Let nobody else connect; who has connected is the workers'."""
        for listener in self.listeners:
            listener.turn_away()
            listener.unlink()
            listener.close()

    def close_status(self) -> None:
        """The status process is gone, and nobody comes after it."""
        for generation in self._all.values():
            for listener in generation.status:
                listener.unlink()
                listener.close()

    def reopen_logs(self) -> None:
        """USR1."""
        self.not_reopened = []
        for generation in self._all.values():
            for file in (generation.error_file, generation.access_file):
                if file is not None:
                    try:
                        file.open(*log_owner(generation.settings))
                    except OSError as error:
                        self.not_reopened.append(why_not(file.path, error))
                        self.log.error(
                            "USR1: cannot open %s. What was open stays in use",
                            self.not_reopened[-1],
                        )
        if not self.not_reopened:
            self.log.info("USR1: the log files are open anew")

    def announce(self, text: str, count: int) -> None:
        """Say where the server serves, and with how many workers, behind ``text``."""
        generation = self.current
        scheme = "http" if generation.tls is None else "https"
        self.log.info(
            "%s serves %s on %s with %d worker%s",
            text,
            generation.settings.app,
            " ".join(listener.url_of(scheme) for listener in generation.listeners),
            count,
            "" if count == 1 else "s",
        )
        if generation.status:
            urls = " ".join(listener.url_of("http") for listener in generation.status)
            self.log.info("the status page is on %s", urls)
