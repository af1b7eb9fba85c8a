"""The hooks that the master calls, and ``server`` as they see it.

They are the operator's code, in the master because they share their variables with those of the
workers (see ``forkserve.hooks``). Nothing of the master depends on what they do: what they raise is
logged, and what they take is measured. The hooks of a worker are those of its generation.
"""

from collections.abc import Callable

from forkserve.errors import ForkserveError
from forkserve.hooks.calling import call_timed
from forkserve.hooks.loggers import lend
from forkserve.hooks.views import Newborn, Server, Worker
from forkserve.master import roster
from forkserve.master.generation import Generation
from forkserve.master.generations import Generations


class MasterHooks:
    """Used by the master's only thread. ``server`` is there once ``begin`` was called."""

    server: Server

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._workers: dict[int, Worker] = {}  # by serial
        self._wanted: int | None = None

    def begin(self, undo: Callable[[], None]) -> None:
        """The sockets listen, and no worker is forked. Raises ForkserveError, after ``undo``."""
        current = self._generations.current
        self.server = Server(self._generations.log, current.settings)
        lend(self._generations.log)
        self._look_at(current)
        self.count(current.settings.workers.least)
        hook = current.settings.on_starting
        if not self._call(current, "on_starting", self.server):
            undo()
            raise ForkserveError(
                f"the hook on_starting ({hook}) raised, and the log says what: nothing was started"
            )
        self._call(current, "when_ready", self.server)

    def count(self, wanted: int) -> None:
        """So many workers are wanted."""
        before, self._wanted = self._wanted, wanted
        if before != wanted:
            self.server.num_workers = wanted
            current = self._generations.current
            self._call(current, "nworkers_changed", self.server, wanted, before)

    def newborn(self, serial: int, slot: int, generation: Generation) -> Newborn:
        """A worker is about to be forked."""
        worker = Worker(self.server, slot, generation.number, generation.settings)
        self._workers[serial] = worker
        self._call(generation, "pre_fork", self.server, worker)
        return Newborn(self.server, worker)

    def born(self, known_as: roster.Worker, pid: int) -> None:
        """The worker is a process. (A template process has called ``pre_fork`` of those that it
        forks.)"""
        worker = self._workers.get(known_as.serial)
        if worker is None:
            own = self._generations.get(known_as.generation)
            worker = Worker(self.server, known_as.slot, known_as.generation, own.settings)
            self._workers[known_as.serial] = worker
        worker.pid = pid
        self.server.WORKERS[pid] = worker

    def gone(self, serial: int) -> None:
        """The worker was collected, or never came to be."""
        worker = self._workers.pop(serial, None)
        if worker is None:
            return
        worker.alive = False
        if isinstance(worker.pid, int):
            self.server.WORKERS.pop(worker.pid, None)
            generation = self._generations.get(worker.generation)
            self._call(generation, "child_exit", self.server, worker)

    def reloads(self, number: int) -> None:
        """The settings of generation ``number`` are sound, and none of its workers is forked."""
        generation = self._generations.get(number)
        self.server.adopt(self._generations.log, generation.settings)
        self._call(generation, "on_reload", self.server)

    def in_force(self) -> None:
        """Another generation is, or the next one was given up."""
        current = self._generations.current
        self.server.adopt(self._generations.log, current.settings)
        lend(self._generations.log)
        self._look_at(current)

    def launches(self) -> None:
        """Another master is about to be started, for an upgrade."""
        self._call(self._generations.current, "pre_exec", self.server)

    def end(self) -> None:
        """All workers have ended."""
        self._call(self._generations.current, "on_exit", self.server)

    def _look_at(self, generation: Generation) -> None:
        self.server.LISTENERS = [listener.socket for listener in generation.listeners]

    def _call(self, generation: Generation, name: str, *arguments: object) -> bool:
        hook = getattr(generation.settings, name)
        return call_timed(hook, self._generations.log, name, *arguments)
