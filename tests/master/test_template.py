"""The master's view of template processes: real channels, and a test at their other end."""

import os
import signal
from collections.abc import Iterator

import pytest

from forkserve.master import story
from forkserve.master.template import Template, Templates
from forkserve.net.fdpass import receive_fd
from forkserve.proc.channel import LARGEST, Channel, Message, unpack


class Desk:
    """The office: notes what it is told."""

    def __init__(self) -> None:
        self.notes: list[object] = []

    def born(self, serial: int, pid: int) -> None:
        self.notes.append(("born", serial, pid))

    def expected(self, serial: int, pid: int) -> None:
        self.notes.append(("expected", serial, pid))

    def happened(self, event: story.Event) -> None:
        self.notes.append(event)

    def gone(self, serial: int, status: int) -> None:
        self.notes.append(("gone", serial, status))

    def await_words(self, channel: Channel) -> None:
        pass

    def log(self, level: str, text: str) -> None:
        self.notes.append((level, text))

    def take(self) -> list[object]:
        """The notes since the last call, without what is said at debug."""
        notes = [
            note for note in self.notes if not (isinstance(note, tuple) and note[0] == "debug")
        ]
        self.notes.clear()
        return notes


class Play:
    """A template process that the test plays, with a real pid that can be killed."""

    def __init__(self, generation: int = 1) -> None:
        self.desk = Desk()
        self.templates = Templates(self.desk)
        self.pids: list[int] = []
        self.generation = generation
        self.template = self.another()

    def another(self) -> Template:
        ours, self.end = Channel.pair()
        pid = self.child()
        return self.templates.add(self.generation, pid, ours)

    def child(self) -> int:
        """A child that does nothing."""
        pid = os.posix_spawnp("sleep", ["sleep", "600"], os.environ)
        self.pids.append(pid)
        return pid

    def order(self, serial: int) -> Channel:
        return self.templates.order(self.template, story.Spawn(serial, serial + 10, 1, serial + 20))

    def asked(self) -> tuple[Message, str, int | None] | None:
        """The next message that the template process reads; None if there is none."""
        try:
            octets, fd = receive_fd(self.end.sock, LARGEST)
        except BlockingIOError:
            return None
        return (*unpack(octets), fd)

    def says(self, message: Message, text: str = "") -> list[object]:
        self.end.send(message, text)
        self.templates.hear()
        return self.desk.take()

    def ends(self, status: int = 9) -> list[object]:
        self.end.close()
        self.templates.hear()
        self.templates.collected(self.template.pid, status)
        return self.desk.take()


@pytest.fixture
def play() -> Iterator[Play]:
    play = Play()
    yield play
    for pid in play.pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def test_orders_wait_for_the_import_and_go_out_one_at_a_time(play: Play) -> None:
    channels = [play.order(serial) for serial in (1, 2)]
    assert play.desk.take() == [("expected", serial, play.template.pid) for serial in (1, 2)]
    assert play.asked() is None
    assert play.says(Message.READY) == []
    asked = play.asked()
    assert asked is not None
    message, text, fd = asked
    assert (message, text) == (Message.FORK, "11 21")
    assert play.asked() is None
    assert fd is not None
    Channel.of(fd).send(Message.READY)  # the worker's end of its channel
    assert channels[0].receive() == [(Message.READY, "")]
    first, second = play.child(), play.child()
    assert play.says(Message.FORKED, str(first)) == [("born", 1, first)]
    asked = play.asked()
    assert asked is not None
    assert asked[:2] == (Message.FORK, "12 22")
    assert play.says(Message.FORKED, str(second)) == [("born", 2, second)]
    play.order(3)
    asked = play.asked()
    assert asked is not None
    assert asked[:2] == (Message.FORK, "13 23")


def test_an_import_that_fails_is_the_failure_of_all_who_wait(play: Play) -> None:
    for serial in (1, 2):
        play.order(serial)
    play.desk.take()
    assert play.says(Message.FAILED, "why") == [
        story.BootFailed(1, "why"),
        story.BootFailed(2, "why"),
    ]
    assert play.ends(3 << 8) == [("gone", 1, 3 << 8), ("gone", 2, 3 << 8)]
    assert play.templates.get(1) is None


def test_one_that_cannot_fork_goes_on_with_the_next_order(play: Play) -> None:
    play.says(Message.READY)
    for serial in (1, 2):
        play.order(serial)
    play.desk.take()
    notes = play.says(Message.UNFORKED, "Resource temporarily unavailable")
    assert "could not fork it: Resource temporarily unavailable" in str(notes[0])
    assert notes[1:] == [("gone", 1, 1 << 8)]
    assert play.asked() is not None
    asked = play.asked()
    assert asked is not None
    assert asked[:2] == (Message.FORK, "12 22")


def test_a_worker_that_was_collected_before_it_was_known(play: Play) -> None:
    play.says(Message.READY)
    play.order(1)
    play.desk.take()
    pid = play.child()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert play.says(Message.FORKED, str(pid)) == [("gone", 1, signal.SIGKILL)]


def test_its_death_is_told_and_its_successor_is_told_of(play: Play) -> None:
    play.says(Message.READY)
    (note,) = play.ends()
    assert isinstance(note, tuple)
    level, text = note
    assert level == "warning"
    assert f"the template process of generation 1 (pid {play.template.pid}) died: SIGKILL" in text
    play.another()
    (note,) = play.desk.take()
    assert "as it is on the disk now" in str(note)


def test_an_order_to_one_that_has_just_died_ends_with_it(play: Play) -> None:
    play.says(Message.READY)
    play.end.close()
    play.order(1)
    assert play.desk.take() == [("expected", 1, play.template.pid)]
    notes = play.ends()
    assert notes[1:] == [("gone", 1, 9)]


def test_one_that_is_ended_by_the_master_is_no_news(play: Play) -> None:
    play.says(Message.READY)
    play.templates.end(2)
    assert play.templates.get(1) is play.template
    play.templates.end(1)
    assert play.templates.get(1) is None
    assert os.waitpid(play.template.pid, 0)[1] == signal.SIGKILL
    assert play.ends() == []
    play.another()
    assert play.desk.take() == []


def test_who_waits_for_one_that_is_not_wanted_is_not_wanted_either_and_has_not_died(
    play: Play,
) -> None:
    play.order(1)
    play.desk.take()
    play.templates.end()
    assert play.ends(signal.SIGKILL) == [("gone", 1, 0)]


def test_only_a_boot_that_takes_too_long_ends_the_template_process(play: Play) -> None:
    """A worker that is not wanted any more is killed when it is born."""
    play.order(1)
    play.order(2)
    play.templates.kill(1, signal.SIGKILL)
    play.templates.kill(3, signal.SIGABRT)
    assert os.waitpid(play.template.pid, os.WNOHANG) == (0, 0)
    play.templates.kill(2, signal.SIGABRT)
    assert os.waitpid(play.template.pid, 0)[1] & 0x7F == signal.SIGABRT


def test_reopening_reaches_it_after_the_import(play: Play) -> None:
    play.templates.reopen()
    play.templates.reopen()
    assert play.asked() == (Message.REOPEN, "", None)


def test_a_child_of_the_master_gives_up_all_ends(play: Play) -> None:
    play.order(1)
    before = len(os.listdir("/proc/self/fd"))
    play.templates.let_go()
    assert len(os.listdir("/proc/self/fd")) == before - 2
