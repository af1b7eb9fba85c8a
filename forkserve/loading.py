"""How the command reads the settings: at the start, and at each HUP, from the same sources.

What runs code of the operator's (Gunicorn's configuration file, the modules of hooks) is rehearsed
in a child first; then the master runs it itself, because its functions are called there. For a
reload the child also looks up the names of other machines, which can take long.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from forkserve.gunicorn_line import Line
from forkserve.hooks.calling import any_of, looked_up
from forkserve.net.lookup import takes_time, tell_later
from forkserve.net.syslog import parse_syslog
from forkserve.ops.statsd import place_of
from forkserve.proc.signals import handlers_kept
from forkserve.rehearsal import rehearse
from forkserve.settings import Loaded, Settings, declarations, load_settings
from forkserve.settings.hooks import MASTER_HOOKS, WORKER_HOOKS
from forkserve.settings.python_file import is_python

_ALL = MASTER_HOOKS + WORKER_HOOKS


class Sources:
    """The command line and the environment of the start, and the file as it is at the time."""

    def __init__(
        self,
        line: Line,
        environ: Mapping[str, str],
        checks: Mapping[str, Callable[[Any], object]],
    ) -> None:
        self._line = line
        self._environ = environ
        self._checks = checks

    def load_first(self) -> Loaded:
        """For the start: waits for the rehearsal, if there is one. Raises ForkserveError."""
        run = self._try if self._runs_code() else None
        if run is not None:
            rehearse(run, self._line.config or "what the hooks name", self._boot_timeout())
        loaded = self._load()
        return replace(loaded, settings=looked_up(loaded.settings, MASTER_HOOKS))

    def rehearsal(self) -> Callable[[], str] | None:
        """What a child is to run before the settings are read for a reload; it returns what
        ``net.lookup`` takes. None if reading runs no code, and asks nobody."""
        if self._runs_code():
            return self._try_and_ask
        try:
            return self._try_and_ask if list(_places(self._load().settings)) else None
        except Exception:  # noqa: BLE001 - as below
            return None

    def _runs_code(self) -> bool:
        if self._line.config is not None and is_python(self._line.config):
            return True
        try:
            return any_of(self._load().settings, _ALL)
        except Exception:  # noqa: BLE001 - whatever it is, who reads them tells it
            return False

    def read(self) -> Settings:
        """For a reload, behind its rehearsal. Raises ForkserveError."""
        with handlers_kept():  # or a file that takes SIGTERM for itself would have it
            return looked_up(self._load().settings, MASTER_HOOKS, anew=True)

    def _try(self) -> Settings:
        return looked_up(self._load().settings, _ALL, anew=True)

    def _try_and_ask(self) -> str:
        return tell_later(_places(self._try()))

    def _load(self) -> Loaded:
        line = self._line
        return load_settings(
            line.config, self._environ, line.values, self._checks, line.problems, line.defaults
        )

    def _boot_timeout(self) -> float:
        """As far as it is known before the file is read."""
        declaration, default = declarations()["boot_timeout"]
        written = self._environ.get("FORKSERVE_BOOT_TIMEOUT", default)
        seconds = float(default)
        with contextlib.suppress(ValueError):  # who reads it tells it
            raw = self._line.values.get("boot_timeout", (written, ""))[0]
            seconds = declaration.kind.read(raw)
        return seconds


def _places(settings: Settings) -> Iterator[tuple[str, int]]:
    """(host, port) of the machines whose names have to be looked up."""
    places = []
    if settings.statsd_host is not None and (place := place_of(settings.statsd_host)) is not None:
        places.append(place)
    for path in (settings.error_logfile, settings.access_logfile):
        syslog = parse_syslog(path or "-")
        if syslog is not None and not syslog.path:
            places.append((syslog.host, syslog.port))
    return (place for place in places if takes_time(place[0]))
