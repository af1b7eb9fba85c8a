"""The part of ``environ`` that all requests of one listener have in common."""

from collections.abc import Callable

from forkserve.wsgi.call import Environ

Name = tuple[str, str]
"""(host, port) as text, of a unix socket (path, "")."""


class Environs:
    """By the name of the listener: also of one that this worker does not have, if a sibling of
    another generation has handed off what came there."""

    def __init__(self, make: Callable[[Name, bool], Environ], *, tls: bool = False) -> None:
        """``make``: of a listener's name, and whether it speaks TLS; ``tls``: those here do."""
        self._make = make
        self._tls = tls
        self._made: dict[tuple[Name, bool], Environ] = {}

    def of(self, name: Name, *, plain: bool = False) -> Environ:
        """What requests of the listener ``name`` begin with. ``plain``: without TLS, as what is
        handed off always is."""
        key = name, self._tls and not plain
        environ = self._made.get(key)
        if environ is None:
            environ = self._made[key] = self._make(*key)
        return environ

    def name_of(self, environ: Environ) -> Name:
        """The listener of what ``of`` returned. Raises KeyError."""
        for (name, _), made in self._made.items():
            if made is environ:
                return name
        raise KeyError("an environ of no listener")
