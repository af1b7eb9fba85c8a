"""From the master to a worker: the fork, and what the child must let go of."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from forkserve.errors import EXIT_SOFTWARE, traceback_of
from forkserve.master.generation import Generation
from forkserve.ops.scoreboard import Row
from forkserve.proc import signals
from forkserve.proc.channel import Channel


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is born with."""

    generation: Generation
    slot: int
    row: Row
    channel: Channel
    master: int  # pid


def fork_worker(
    generation: Generation,
    slot: int,
    row: Row,
    enter: Callable[[Seat], int],
    let_go: Callable[[], None],
) -> tuple[int, Channel]:
    """Fork a worker that runs ``enter`` and exits with what it returns.

    ``let_go`` runs in the child first: it closes what is the master's alone. Signals are blocked
    around the fork, and stay so in the child until it has handlers of its own: none reaches a
    handler that belongs to the other process. Returns (pid, the master's end of the channel).
    Raises OSError if the kernel gives no process.
    """
    ours, theirs = Channel.pair()
    master = os.getpid()
    with signals.blocked():
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            status = EXIT_SOFTWARE
            try:
                ours.close()
                let_go()
                status = enter(Seat(generation, slot, row, theirs, master))
            except SystemExit as error:  # of a child of the application that came back to us
                status = error.code if isinstance(error.code, int) else bool(error.code)
            except BaseException as error:  # noqa: BLE001 - nothing may unwind into our frames
                text = f"{traceback_of(error, ())}\n"
                generation.error_file.write(text.encode("utf-8", "backslashreplace"))
            finally:
                os._exit(status & 0xFF)
    theirs.close()
    return pid, ours
