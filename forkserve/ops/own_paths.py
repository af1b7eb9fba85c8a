"""`health_path` and `metrics_path`: answers of ours on the application's own addresses.

Apart from the status process, because its frame stands in front of the application's, and no
traceback of that shows it (``OWN_MODULES`` in worker/exchange.py).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from forkserve.ops.status import Answer, Environ, measurements, readiness, respond_with


class OwnPaths:
    """An application with paths of ours in front."""

    def __init__(
        self,
        application: Callable[..., Any],
        take: Callable[[], Mapping[str, Any]],
        *,
        health: str | None,
        metrics: str | None,
    ) -> None:
        """``take``: a snapshot. A path that is None is not ours."""
        self._application = application
        self._routes: dict[str, Callable[[Environ], Answer]] = {}
        if metrics is not None:
            self._routes[_as_in_environ(metrics)] = lambda environ: measurements(take(), environ)
        if health is not None:
            self._routes[_as_in_environ(health)] = lambda environ: readiness(take())

    def __call__(self, environ: Environ, start_response: Callable[..., object]) -> Any:
        route = self._routes.get(environ["PATH_INFO"])
        if route is None:
            return self._application(environ, start_response)
        return respond_with(route, environ, start_response)


def _as_in_environ(path: str) -> str:
    """As in PATH_INFO: octets, read as latin-1."""
    return os.fsencode(path).decode("latin-1")
