"""The stacks of workers, for who asks: a file in memory for each, that it writes into when told.

The thread that leads the worker writes them, also while a call runs. If no word comes back, C code
holds the interpreter, and a signal has them written all the same (``proc/stacks.py``). A worker
that is stopped never writes, so nobody waits for longer than a deadline.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from forkserve.net.fdpass import send_fd
from forkserve.proc.channel import Channel, Message, pack
from forkserve.proc.descriptors import allow_descriptors
from forkserve.proc.stacks import StackFile, is_writing, send_signal

_PATIENCE = 2.0  # for the thread that leads; one that only waits for its turn has it in a moment
_TIMEOUT = 2.0  # for the signal
_LOOK = 0.01  # seconds between two looks whether its handler has ended
_FEW = 128  # workers: with their channels they take that many descriptors twice
_NEVER = float("inf")

NOT_WRITTEN = (
    "it does not write its stack: it is stopped, or in a system call that nothing interrupts, or "
    "has just been born, or the application has taken the signal for itself"
)
GONE = "it has ended"


@dataclass(slots=True)
class _Question:
    """``tells``: whom to tell ``(stacks, "")``, or ``("", why not)``."""

    pid: int
    until: float
    signalled: bool = False
    tells: list[Callable[[str, str], None]] = field(default_factory=list)


class Stacks:
    """Used by the master's only thread. ``due``: when ``look`` must be called at the latest."""

    def __init__(self, order: Callable[[int, Message], None]) -> None:
        """``order`` says something to a worker, by its serial."""
        self.due = _NEVER
        self._order = order
        self._files: dict[int, StackFile] = {}  # by serial
        self._questions: dict[int, _Question] = {}  # by serial
        self._ordered: set[int] = set()  # serials of those that have an order to carry out

    def equip(self, serial: int, channel: Channel) -> None:
        """Give a worker that is being born its file. It waits for this word, with a file or not."""
        if len(self._files) > _FEW:
            allow_descriptors(4 * len(self._files))
        try:
            file = StackFile()
        except OSError:  # without it the worker serves as well
            channel.send(Message.STACKS)
            return
        try:
            send_fd(channel.sock, pack(Message.STACKS), file.fileno())
        except OSError:
            file.close()
            channel.send(Message.STACKS)
        else:
            self._files[serial] = file

    def ask(
        self, serial: int, pid: int, booting: bool, tell: Callable[[str, str], None], now: float
    ) -> None:
        """Have a worker write its stacks, and tell them. ``booting``: it does not listen yet."""
        file = self._files.get(serial)
        if file is None:
            tell("", NOT_WRITTEN)
            return
        question = self._questions.get(serial)
        if question is None:
            file.clear()
            question = self._questions[serial] = _Question(pid, now + _PATIENCE)
            if booting:
                question.until = now
            elif serial not in self._ordered:
                # Else it has not come to the order before this, and two would be carried out one
                # behind the other, into one file.
                self._ordered.add(serial)
                self._order(serial, Message.STACKS)
        question.tells.append(tell)
        self.due = min(self.due, question.until)

    def written(self, serial: int) -> None:
        """The worker says that it has written them."""
        self._ordered.discard(serial)
        question = self._questions.get(serial)
        if question is not None and not question.signalled:
            self._settle(serial)

    def look(self, now: float) -> None:
        """See to the time, and whether signals have done their work."""
        if now < self.due:
            return
        for serial, question in list(self._questions.items()):
            if question.signalled:
                # Between the two signs of /proc is a moment without either: then nothing is there.
                ended = not is_writing(question.pid) and self._files[serial].read()
                if ended or question.until <= now:
                    self._settle(serial)
            elif question.until <= now:
                self._files[serial].clear()
                question.signalled, question.until = True, now + _TIMEOUT
                if not send_signal(question.pid):
                    self._settle(serial)
        self.due = min(
            (now + _LOOK if it.signalled else it.until for it in self._questions.values()),
            default=_NEVER,
        )

    def gone(self, serial: int) -> None:
        """The worker has ended."""
        self._ordered.discard(serial)
        if serial in self._questions:
            self._settle(serial, GONE)
        file = self._files.pop(serial, None)
        if file is not None:
            file.close()

    def _settle(self, serial: int, why_not: str = "") -> None:
        text = "" if why_not else self._files[serial].read()
        for tell in self._questions.pop(serial).tells:
            tell(text, "" if text else why_not or NOT_WRITTEN)

    def close(self) -> None:
        """In a forked child, too."""
        for file in self._files.values():
            file.close()
        self._files.clear()
