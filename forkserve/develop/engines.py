"""How it is noticed that a file may have changed: two ways to wait until it is worth looking.

What has changed is seen by looking, never by what woke us: so both ways find the same.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol

from forkserve.develop.tree import Sight

_EVERY = 0.4  # seconds between two looks: with the debounce and a boot it stays below a second
_SHARE = 10  # but looking takes no more than one part in so many of the time
_SELDOM = 10.0  # seconds, for a tree as large as that
_TOLD_WITHIN = 500  # milliseconds until watchfiles returns without news
_NOT_THERE = 0.2  # seconds until a directory that has just vanished is looked for again

Wait = Callable[[float], None]
"""Wait so many seconds, unless the master is gone: then it does not return."""


class Engine(Protocol):
    """One of the two."""

    name: str

    def wait(self, sight: Sight) -> None:
        """Return when something may differ from ``sight``. Raises OSError: it cannot go on."""


class Poll:
    """Looks now and then."""

    name = "poll"

    def __init__(self, wait: Wait) -> None:
        self._wait = wait

    def wait(self, sight: Sight) -> None:
        self._wait(max(_EVERY, min(sight.seconds * _SHARE, _SELDOM)))


class Kernel:
    """Is told by the kernel (inotify(7), through watchfiles, whose threads are this process's own).

    Each directory is named, because a whole tree would include those that hold no code, and there
    is a limit (fs.inotify.max_user_watches).
    """

    name = "inotify"

    def __init__(
        self, wait: Wait, concerns: Callable[[str], bool], is_told: Callable[[], bool]
    ) -> None:
        """``concerns``: whether a path is worth a look; ``is_told``: whether there are modules to
        be watched of which nobody knew."""
        self._wait = wait
        self._concerns = concerns
        self._is_told = is_told
        self._directories: frozenset[str] = frozenset()
        self._news: Iterator[set[Any]] = iter(())

    def wait(self, sight: Sight) -> None:
        if sight.directories == self._directories:
            while not next(self._news) and not self._is_told():
                pass
            return
        self._directories = frozenset()
        try:
            self._news = _news_of(sorted(sight.directories), self._concerns)
            next(self._news)  # what has changed since the look, and before the kernel was asked
        except FileNotFoundError:
            self._wait(_NOT_THERE)
            return
        self._directories = sight.directories


def _news_of(directories: list[str], concerns: Callable[[str], bool]) -> Iterator[set[Any]]:
    from watchfiles import watch  # an extra, and nobody but this process needs it

    news: Iterator[set[Any]] = watch(
        *directories,
        watch_filter=lambda _, path: concerns(path),
        step=30,
        debounce=500,
        rust_timeout=_TOLD_WITHIN,
        yield_on_timeout=True,
        raise_interrupt=False,
        recursive=False,
        force_polling=False,
        ignore_permission_denied=True,
    )
    return news


def has_kernel() -> bool:
    """Whether watchfiles is installed."""
    return find_spec("watchfiles") is not None
