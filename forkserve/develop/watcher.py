"""The watcher: a process beside the master that says which files of the application have changed.

A process of its own, because the master neither reads directories, which can block, nor has
threads. It imports nothing of the application, holds no socket but its channel, and dies with the
master.
"""

import contextlib
import logging
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from importlib.util import cache_from_source

from forkserve.develop.engines import Engine, Kernel, Poll, has_kernel
from forkserve.develop.failure import shown_path
from forkserve.develop.tree import MOST, Sight, Tree, tree_of
from forkserve.errors import EXIT_FAILED, EXIT_OK, ForkserveError, in_a_line
from forkserve.proc.channel import Channel, Message
from forkserve.proc.lifeline import die_with
from forkserve.proc.privileges import drop_privileges
from forkserve.proc.signals import ENDING, FOR_MASTER, unblock_all
from forkserve.proc.title import set_title
from forkserve.settings import Settings

_SETTLED = 0.05  # seconds without a change: an editor writes a file in several steps
_SETTLING = 40  # looks at most: a build that writes without a pause is reported all the same
_LONGEST_NAME = 200


def run_watcher(
    settings: Settings,
    config: str | None,
    *,
    channel: Channel,
    told: int,
    log: logging.Logger,
    master: int,
) -> int:
    """Watch until the master is gone. Called in a forked child, with all signals blocked; returns
    the exit status.

    ``config``: the configuration file, which is watched too. ``told``: where workers say which
    modules they have from elsewhere.
    """
    os.setsid()  # Ctrl-C is for the master, which tells all
    for number in set(FOR_MASTER).difference(ENDING):
        signal.signal(number, signal.SIG_IGN)
    unblock_all()
    set_title("watcher", settings.name or settings.app)
    try:
        drop_privileges(settings.user, settings.group)
        die_with(master)
        tree = tree_of(settings, config)
    except (ForkserveError, OSError) as error:
        channel.send(Message.FAILED, in_a_line(error))
        return EXIT_FAILED
    watcher = _Watcher(tree, channel, told, log)
    engine = watcher.choose(settings.reload_engine)
    channel.send(Message.READY, engine.name)
    for changed in watcher.changes(engine):
        forget_bytecode(changed)
        channel.send(Message.CHANGED, described(changed, tree.directory))
    return EXIT_OK


class _Watcher:
    def __init__(self, tree: Tree, channel: Channel, told: int, log: logging.Logger) -> None:
        self._tree = tree
        self._channel = channel
        self._told = told
        self._log = log
        self._rest = b""
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def choose(self, name: str) -> Engine:
        """The engine of this name; `auto` is the better one that there is."""
        if name == "poll" or (name == "auto" and not has_kernel()):
            return Poll(self.wait)
        if has_kernel():
            return Kernel(self.wait, self._tree.concerns, self._is_told)
        self._log.warning(
            "watchfiles, which `reload_engine` inotify needs, is not installed: every file is "
            "looked at twice a second instead. pip install 'forkserve[reload]'"
        )
        return Poll(self.wait)

    def wait(self, seconds: float) -> None:
        """Wait; if the master goes meanwhile, end."""
        if self._poll.poll(seconds * 1000):
            raise SystemExit(EXIT_OK)  # it says nothing, so this is the end of the channel

    def changes(self, engine: Engine) -> Iterator[set[str]]:
        """The files that have changed, each time that some have, and no more do."""
        sight, _ = self._look()
        self._say_what_is_seen(sight, engine)
        while True:
            try:
                engine.wait(sight)
            except Exception as error:  # noqa: BLE001 - of watchfiles: what it raises is not declared
                self._log.warning(
                    "the kernel cannot tell of changes (%s): every file is looked at twice a "
                    "second instead. Is fs.inotify.max_user_watches or max_user_instances too low?",
                    in_a_line(error),
                )
                engine = Poll(self.wait)
            changed: set[str] = set()
            for _ in range(_SETTLING):
                before = sight
                sight, heard = self._look()
                new = before.differs(sight) - (heard - before.files.keys())
                if not new:
                    break
                changed |= new
                self.wait(_SETTLED)
            if changed:
                yield changed

    def _look(self) -> tuple[Sight, set[str]]:
        """What there is, and which modules were heard of just now, which is no change of theirs."""
        heard = self._heard() - self._tree.modules
        self._tree.modules |= heard
        sight = self._tree.look()
        if heard:
            self._log.debug("heard of %d modules: watching %d files", len(heard), len(sight.files))
        return sight, heard

    def _is_told(self) -> bool:
        return bool(select.select([self._told], [], [], 0)[0])

    def _heard(self) -> set[str]:
        """The modules that workers have told of since the last time."""
        octets = self._rest
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._told, 65536):
                octets += more
        *lines, self._rest = octets.split(b"\n")
        return {os.fsdecode(line) for line in lines}

    def _say_what_is_seen(self, sight: Sight, engine: Engine) -> None:
        self._log.info(
            "watching %d files in %s (%s)",
            len(sight.files), " ".join(self._tree.roots), engine.name,
        )  # fmt: skip
        if sight.overflow:
            self._log.warning(
                "there are more than %d directories below %s, and the rest is not watched: start "
                "forkserve where the application is, or set `chdir`",
                MOST, " ".join(self._tree.roots),
            )  # fmt: skip


def described(changed: Iterable[str], directory: str) -> str:
    """ "shop.py has changed", for the log."""
    names = sorted(shown_path(path, directory) for path in changed)
    first = names[0] if len(names[0]) <= _LONGEST_NAME else f"...{names[0][-_LONGEST_NAME:]}"
    if len(names) == 1:
        return f"{first} has changed"
    others = len(names) - 1
    return f"{first} and {others} other file{'' if others == 1 else 's'} have changed"


def forget_bytecode(changed: Iterable[str]) -> None:
    """Remove what Python keeps of these. It knows a source by its size and by the second of its
    time, so one that was saved twice in a second, with the same length, would be taken for the
    first. Without a cache tag it keeps nothing (PEP 3147)."""
    if not sys.implementation.cache_tag:
        return
    for path in changed:
        if path.endswith(".py"):
            with contextlib.suppress(OSError):
                os.unlink(cache_from_source(path))
