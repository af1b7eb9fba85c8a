"""The threads of a worker, and which of them leads.

Each of `threads` application threads (the first is the main thread) can run the loop, and the one
that leads does: it accepts, reads, writes, and calls the application itself, with no switch of
threads and no queue. One more thread stands by. It watches the calls, and when one is long, it sees
to it that the loop goes on: it hands the lead to an application thread that is free, or else leads
by itself. It never calls the application. Then what waits for a thread is given to sibling workers,
or waits here; everything else goes on as ever.

A thread whose call outlasted its lead leaves the connection to the loop. If the standby leads, that
thread is given the lead back, and else it is free.

While nothing happens, nobody wakes up: the standby sleeps until a turn begins. While no call is
long, it looks less often.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable

from forkserve.errors import EXIT_OK, EXIT_SOFTWARE, traceback_of
from forkserve.ops.scoreboard import Cell
from forkserve.proc.channel import Message
from forkserve.proc.signals import blocked
from forkserve.proc.stacks import current_frames
from forkserve.worker.lead import ALONE, CALM, LATELY, LONG, Lost
from forkserve.worker.loop import Loop
from forkserve.worker.service import Service

_PYTHONS_OWN, _SWITCH = 0.005, 0.001
"""Seconds after which a thread in Python code lets another one run. That which leads asks for it
after each system call, so that with Python's own a fast request waits for a call beside it, which
computes, several times 5 ms. An application that has set another one keeps it."""

_STACK = 1 << 20
"""Octets of stack of the standby. Its own calls are not deep, but if the main thread is stuck, the
exit functions of the application are run on it. Less than a huge page, which would all be used."""


class Member:
    """An application thread. ``bell`` is released when it gets the lead, or when all is over."""

    __slots__ = ("bell", "cell", "ident")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.ident = 0
        self.bell = threading.Lock()
        self.bell.acquire()


class Crew:
    """Made by the main thread, which leads. ``serve`` returns in the main thread when it is over.

    What the threads tell each other stands under ``_mutex``: who is free, who is to lead next.
    """

    def __init__(
        self,
        service: Service,
        loop: Loop,
        cells: list[Cell],
        run_exit_functions: Callable[[], None],
    ) -> None:
        """``cells``: one for each application thread; the main thread has the first.

        ``run_exit_functions``: at the end, in the main thread unless that is stuck for ever.
        """
        self._service = service
        self._lead = service.lead
        self._loop = loop
        self._run_exit_functions = run_exit_functions
        self._members = [Member(cell) for cell in cells]
        self._mutex = threading.Lock()
        self._free: list[Member] = []
        self._next: Member | None = None  # gets the lead from the standby
        self._standby_leads = False
        self._last_long = float("-inf")
        self._over = False
        self._sleep = threading.Lock()  # of the standby; released to wake it
        self._sleep.acquire()
        self._lead.rouse = self._rouse
        service.report_stuck = self._report_stuck

    def serve(self) -> None:
        """Serve with all threads, until it is over. For the main thread."""
        if sys.getswitchinterval() == _PYTHONS_OWN:
            sys.setswitchinterval(_SWITCH)
        main, *others = self._members
        self._free = list(others)
        # Signals are for the main thread: there they interrupt a call that waits, too.
        with blocked():
            threading.stack_size(_STACK)
            threading.Thread(target=self._stand_by, name="standby", daemon=True).start()
            threading.stack_size(0)
            for number, member in enumerate(others, 1):
                threading.Thread(
                    target=self._work, args=(member,), name=f"call-{number}", daemon=True
                ).start()
        main.bell.release()
        self._serve(main)
        self._run_exit_functions()

    # ---- application threads

    def _work(self, member: Member) -> None:
        """What an application thread other than the main one does."""
        try:
            self._serve(member)
        except SystemExit as error:  # of a child of the application that came back to us
            os._exit(error.code if isinstance(error.code, int) else bool(error.code))
        except BaseException as error:  # noqa: BLE001 - a worker without its loop is none
            if not self._service.forked:
                self._service.log.critical("the worker fails\n%s", traceback_of(error, ()))
            os._exit(EXIT_SOFTWARE)

    def _serve(self, member: Member) -> None:
        """Lead whenever it is this member's turn. Returns when it is over."""
        member.ident = threading.get_ident()
        self._service.running.cell = member.cell
        while self._await_lead(member):
            try:
                self._loop.run()
            except Lost as lost:
                if self._service.forked:
                    raise SystemExit(EXIT_SOFTWARE) from None
                self._rejoin(member, lost)
            else:
                self._finish(member)

    def _await_lead(self, member: Member) -> bool:
        """False: there is nothing more to lead."""
        member.bell.acquire()
        if self._over:
            return False
        self._lead.cell = member.cell
        self._lead.set_calls(True)
        return True

    def _rejoin(self, member: Member, lost: Lost) -> None:
        """A call is over that outlasted the lead of its thread."""
        with self._mutex:
            # Both at once: when the loop is over, every thread that is in no call is known.
            if lost.call is not None:
                self._lead.returned.append(lost.call)
            if self._standby_leads and self._next is None:
                self._next = member
            else:
                self._free.append(member)
        self._lead.wake()  # the loop has back what the call was for, and perhaps another leader

    # ---- the standby

    def _rouse(self) -> None:
        """A turn begins, and nobody watches; or a call, and the standby waits for one.

        For the thread that leads: of two at once, one would release what is released already.
        """
        self._lead.alert = self._lead.awaited = False
        if self._sleep.locked():
            self._sleep.release()

    def _stand_by(self) -> None:
        try:
            while self._watch():
                self._loop.watch_call()
                with self._mutex:
                    member = self._free.pop() if self._free else None
                    self._standby_leads = member is None
                if member is None:
                    member = self._lead_without_calls()
                if member is None:
                    return
                member.bell.release()
        except BaseException as error:  # noqa: BLE001 - a worker without its loop is none
            self._service.log.critical("the worker fails\n%s", traceback_of(error, ()))
            os._exit(EXIT_SOFTWARE)

    def _watch(self) -> bool:
        """Wait for a call that is long, and take the lead. False: all is over."""
        lead = self._lead
        while not self._over:
            turn, calm = lead.turns, self._service.clock() - self._last_long > LATELY
            if lead.haste and self._is_helped():
                taken = self._take_next()
            else:
                self._sleep.acquire(timeout=CALM if calm else self._patience())
                lasted = lead.call_lasts(self._service.clock())
                taken = lasted >= LONG and lasted >= self._patience() and lead.take()
            if taken:
                self._last_long = self._service.clock()
                return True
            if lead.turns == turn and turn & 1:
                # The loop waits, for as long as there is nothing to do; and so does this thread.
                lead.alert = True
                if lead.turns == turn:
                    self._sleep.acquire()
                lead.alert = False
        return False

    def _take_next(self) -> bool:
        """Take the lead as soon as a call begins, if one does within LONG.

        Not always: who has just looked at ``awaited`` rouses nobody, and the next round takes it.
        """
        lead = self._lead
        lead.awaited = True
        taken = lead.take() or (self._sleep.acquire(timeout=LONG) and lead.take())
        lead.awaited = False
        return taken

    def _is_helped(self) -> bool:
        """Another thread, or a sibling, is free for a request."""
        return bool(self._free) or self._loop.helped

    def _patience(self) -> float:
        """Seconds after which a call is long."""
        return LONG if self._is_helped() else ALONE

    def _lead_without_calls(self) -> Member | None:
        """Run the loop until a member is back. None: it was over before."""
        self._lead.set_calls(False)
        self._loop.run(until=lambda: self._next is not None)
        if self._loop.over:
            self._finish(None)
            return None
        with self._mutex:
            member, self._next = self._next, None
            self._standby_leads = False
        return member

    # ---- the end

    def _finish(self, leader: Member | None) -> None:
        """The loop has ended. Let every thread know; one that is stuck in a call never will."""
        with self._mutex:
            self._over = True
            rung = [member for member in (leader, self._next, *self._free) if member is not None]
        self._rouse()
        for member in rung:
            member.bell.release()
        if self._members[0] not in rung:
            self._run_exit_functions()
            os._exit(EXIT_OK)

    # ---- a stuck call

    def _report_stuck(self, cell: Cell, request: str, request_id: str) -> None:
        """Say where it stands, and have this worker replaced."""
        ident = next(member.ident for member in self._members if member.cell is cell)
        self._service.log.error(
            "the call of %.200r has made no progress for %g s, longer than %s allows. The "
            "client is told, and the worker is replaced; nobody else is affected. Raise `timeout` "
            "if such requests are normal, or see environ['forkserve.deadline']. It stands at\n%s",
            request, cell.limit, self._service.named("timeout"), _stack_of(ident),
            extra={"request_id": request_id},
        )  # fmt: skip
        self._service.announce(Message.STUCK, request)
        self._service.aborts()


def _stack_of(ident: int) -> str:
    """Where a thread stands in the application."""
    frame = current_frames().get(ident)
    frames = []
    while frame is not None and frame.f_globals.get("__name__") != "forkserve.wsgi.call":
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return "".join(traceback.StackSummary.extract(reversed(frames)).format()).rstrip("\n")
