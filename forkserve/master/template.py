"""The template processes as the master sees them: which there are, and who waits for which.

One serves a generation whose settings say `preload`. It is made when the first worker of that
generation is, and ended with the generation. A worker that it has not forked yet goes by the
template's pid: so its boot deadline is also that of the import, and whatever ends the template ends
the boot of all who wait for it.
"""

import os
import signal
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from forkserve.errors import EXIT_FAILED, EXIT_OK
from forkserve.master import story
from forkserve.net.fdpass import send_fd
from forkserve.proc.channel import Channel, Message, pack
from forkserve.proc.signals import describe_status


class Office(Protocol):
    """Who is told what became of an order: the shell. Each may be called while it performs an
    action."""

    def born(self, serial: int, pid: int) -> None:
        """The worker is a process of its own."""

    def expected(self, serial: int, pid: int) -> None:
        """The worker is being made by the template process ``pid``."""

    def happened(self, event: story.Event) -> None:
        """Something that the supervisor has to know."""

    def gone(self, serial: int, status: int) -> None:
        """The worker has ended, or was never made. ``status``: a wait status."""

    def await_words(self, channel: Channel) -> None:
        """Wake up when something is said there, and call ``hear`` then."""

    def log(self, level: str, text: str) -> None:
        """For the operator."""


class _Order(NamedTuple):
    serial: int
    text: str
    end: Channel  # the worker's


@dataclass(slots=True)
class Template:
    """One template process. The first of its orders is under way if ``asked``."""

    generation: int
    pid: int
    channel: Channel
    orders: deque[_Order] = field(default_factory=deque)
    ready: bool = False
    asked: bool = False
    aborted: bool = False
    ended: bool = False  # by the master

    def __str__(self) -> str:
        return f"the template process of generation {self.generation} (pid {self.pid})"


class Templates:
    """All template processes. Used by the master's only thread; nothing here blocks."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._all: dict[int, Template] = {}  # by pid
        self._bereft: set[int] = set()  # generations whose template has died

    def get(self, generation: int) -> Template | None:
        """The one that workers of ``generation`` are forked by."""
        for template in self._all.values():
            if template.generation == generation and not template.ended:
                return template
        return None

    def add(self, generation: int, pid: int, channel: Channel) -> Template:
        """One was forked."""
        self._all[pid] = template = Template(generation, pid, channel)
        self._office.await_words(channel)
        if generation in self._bereft:
            self._office.log(
                "warning",
                f"{template} takes the place of one that died. It loads the application as it is "
                "on the disk now, which may be newer than what the other workers of this "
                "generation run. HUP makes them all the same",
            )
        return template

    def order(self, template: Template, action: story.Spawn) -> Channel:
        """Have a worker forked. Returns the master's end of its channel. Raises OSError."""
        ours, theirs = Channel.pair()
        template.orders.append(_Order(action.serial, f"{action.slot} {action.row}", theirs))
        try:
            self._ask(template)
        except OSError:
            template.orders.pop()
            ours.close()
            theirs.close()
            raise
        self._office.expected(action.serial, template.pid)
        return ours

    def _ask(self, template: Template) -> None:
        """Give it the next order, if it is free. Raises OSError."""
        if not template.ready or template.asked or not template.orders:
            return
        order = template.orders[0]
        try:
            send_fd(template.channel.sock, pack(Message.FORK, order.text), order.end.fileno())
        except (BrokenPipeError, ConnectionResetError):
            return  # it is dead, and this is about to be told
        order.end.close()
        template.asked = True

    # ---- what happens

    def hear(self) -> None:
        """Take what the template processes say."""
        for template in list(self._all.values()):  # what follows may bring another
            template.channel.flush()
            for message, text in template.channel.receive() or ():
                self._on_message(template, message, text)
            while template.orders:
                try:
                    self._ask(template)
                    break
                except OSError as error:
                    self._unforked(template, error.strerror or str(error))

    def _on_message(self, template: Template, message: Message, text: str) -> None:
        if message is Message.READY:
            template.ready = True
            self._office.log("debug", f"{template} has loaded the application")
        elif message is Message.FAILED:
            for order in template.orders:
                self._office.happened(story.BootFailed(order.serial, text))
        elif message is Message.FORKED:
            template.asked = False
            self._born(template.orders.popleft().serial, int(text))
        elif message is Message.UNFORKED:
            self._unforked(template, text)

    def _born(self, serial: int, pid: int) -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # killed at birth, and collected before it was known
            self._office.gone(serial, signal.SIGKILL)
            return
        self._office.born(serial, pid)

    def _unforked(self, template: Template, reason: str) -> None:
        template.asked = False
        order = template.orders.popleft()
        order.end.close()
        reason = f"{template} could not fork it: {reason}. Is a limit of processes, of descriptors "
        self._office.happened(story.BootFailed(order.serial, f"{reason}or of memory hit?"))
        self._office.gone(order.serial, EXIT_FAILED << 8)

    def collected(self, pid: int, status: int) -> None:
        """A child has ended that is no worker: perhaps a template process."""
        template = self._all.pop(pid, None)
        if template is None:
            return
        template.channel.close()
        if template.ready and not template.ended:
            self._bereft.add(template.generation)
            self._office.log(
                "warning",
                f"{template} died: {describe_status(status)}. The workers go on. For the next one "
                "that is needed a new template process is made, which loads the application as it "
                "is on the disk then; HUP does both at once",
            )
        for order in template.orders:
            order.end.close()
            self._office.gone(order.serial, EXIT_OK if template.ended else status)

    # ---- what is asked of them

    def kill(self, serial: int, number: signal.Signals) -> None:
        """A worker that is not born is to be killed.

        At SIGABRT its boot took too long: it is its template's stack that tells why. Others wait
        for the same, in vain. Otherwise the worker is killed when it is born.
        """
        for template in self._all.values():
            waits = any(order.serial == serial for order in template.orders)
            if waits and (number == signal.SIGABRT) != template.aborted:
                template.aborted = True
                os.kill(template.pid, number)

    def reopen(self) -> None:
        """Have the log files opened anew, for those who are forked later."""
        for template in self._all.values():
            template.channel.send(Message.REOPEN)

    def end(self, generation: int | None = None) -> None:
        """The template process of ``generation``, or each, is not wanted any more."""
        for template in self._all.values():
            if generation in (None, template.generation) and not template.ended:
                template.ended = True
                os.kill(template.pid, signal.SIGKILL)  # nothing is lost: it holds no request
        self._bereft.discard(generation or 0)

    def let_go(self) -> None:
        """In a forked child: these channels are the master's."""
        for template in self._all.values():
            template.channel.close()
            for order in template.orders:
                order.end.close()
