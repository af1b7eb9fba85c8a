"""Those who give commands, over real sockets, with a clock of our own."""

import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserve.master.reception import (
    ANSWER_TIMEOUT,
    COMMAND_TIMEOUT,
    MOST_CALLERS,
    Caller,
    Reception,
    Stage,
)
from forkserve.net.address import UnixAddress
from forkserve.net.listeners import open_listeners
from forkserve.ops.control import LARGEST_COMMAND, Command, consent
from tests.descriptors import in_a_child, open_descriptors

pytestmark = pytest.mark.usefixtures("nothing_leaks")

STATUS = b'{"command": "status"}\n'


class Desk:
    """A reception, and the commands that it has taken."""

    def __init__(self, path: Path) -> None:
        [self.listener] = open_listeners([UnixAddress(str(path), mode=0o600)], 64)
        self.path = str(path)
        self.reception = Reception()
        self.reception.open(self.listener)
        self.now = 100.0
        self.commands: list[tuple[Caller, Command]] = []
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(self.path)
        self.clients.append(client)
        return client

    def look(self, after: float = 0.0) -> list[tuple[Caller, Command]]:
        self.now += after
        commands = self.reception.look(self.now)
        self.commands += commands
        return commands

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.reception.leave()
        self.reception.close()
        self.listener.unlink()
        self.listener.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "ctl")
    yield desk
    desk.close()


def rest(client: socket.socket) -> dict[str, object]:
    """All that is still sent, to the end."""
    octets = b""
    while True:
        try:
            more = client.recv(1 << 20)
        except ConnectionResetError:
            break
        if not more:
            break
        octets += more
    answer: dict[str, object] = json.loads(octets)
    return answer


def test_a_command_and_its_answer(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS)
    assert desk.look() == []  # it is accepted
    [(caller, command)] = desk.look()
    assert command == Command("status")
    assert desk.reception.due == float("inf")  # for as long as it takes
    desk.reception.answer(caller, consent("fine"), desk.now)
    assert rest(client) == {"ok": True, "text": "fine"}
    assert caller.gone


def test_a_command_octet_by_octet(desk: Desk) -> None:
    client = desk.connect()
    desk.look()
    for octet in STATUS[:-1]:
        client.send(bytes([octet]))
        assert desk.look() == []
    client.send(b"\n")
    assert [command for _, command in desk.look()] == [Command("status")]


def test_half_a_command_is_given_up(desk: Desk) -> None:
    client = desk.connect()
    client.send(STATUS[:5])
    desk.look()
    desk.look()
    assert desk.reception.due == desk.now + COMMAND_TIMEOUT
    desk.look(COMMAND_TIMEOUT)
    assert "within 10 s" in str(rest(client)["error"])


def test_half_a_command_and_a_hang_up(desk: Desk) -> None:
    client = desk.connect()
    client.send(STATUS[:5])
    client.shutdown(socket.SHUT_WR)
    desk.look()
    desk.look()
    desk.look()
    assert client.recv(10) == b""
    assert desk.reception.due == float("inf")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"nonsense\n", "JSON"),
        (b" " * (LARGEST_COMMAND + 1), "at most 4096 octets"),
        (b" " * LARGEST_COMMAND + b"\n", "at most 4096 octets"),
        (STATUS + STATUS, "for one command"),
    ],
)
def test_what_is_no_command_is_answered(desk: Desk, octets: bytes, why: str) -> None:
    client = desk.connect()
    client.sendall(octets)
    for _ in range(4):
        assert desk.look() == []
    assert why in str(rest(client)["error"])


def test_a_longest_command(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS[:-1].ljust(LARGEST_COMMAND - 1) + b"\n")
    desk.look()
    assert [command for _, command in desk.look()] == [Command("status")]


def test_who_hangs_up_while_it_waits_is_forgotten(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS)
    desk.look()
    [(caller, _)] = desk.look()
    client.close()
    desk.look()
    assert caller.gone
    desk.reception.answer(caller, consent("late"), desk.now)  # and that does no harm


def test_who_only_ends_its_side_is_answered(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS)
    client.shutdown(socket.SHUT_WR)
    desk.look()
    [(caller, _)] = desk.look()
    desk.look()
    desk.reception.answer(caller, consent("fine"), desk.now)
    assert rest(client)["ok"]


def test_a_reader_that_sleeps_is_cut_off(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS)
    desk.look()
    [(caller, _)] = desk.look()
    desk.reception.answer(caller, consent("x" * (4 << 20)), desk.now)
    assert caller.stage is Stage.ANSWER
    for _ in range(100):  # as far as the kernel takes it
        desk.look()
    assert desk.reception.due == desk.now + ANSWER_TIMEOUT
    client.recv(1 << 20)
    desk.look(ANSWER_TIMEOUT / 2)  # it has woken up
    desk.look(ANSWER_TIMEOUT / 2)
    assert not caller.gone
    desk.look(ANSWER_TIMEOUT)
    assert caller.gone


def test_a_slow_reader_gets_all(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS)
    desk.look()
    [(caller, _)] = desk.look()
    desk.reception.answer(caller, consent("x" * (4 << 20)), desk.now)
    octets = b""
    while more := client.recv(1 << 16):
        octets += more
        desk.look(1.0)
    assert len(json.loads(octets)["text"]) == 4 << 20


def test_one_too_many_is_told_so(desk: Desk) -> None:
    for _ in range(MOST_CALLERS):
        desk.connect()
    desk.look()
    late = desk.connect()
    desk.look()
    assert "under way already" in str(rest(late)["error"])
    desk.clients[0].close()
    desk.look()
    client = desk.connect()
    client.sendall(STATUS)
    desk.look()
    assert len(desk.look()) == 1


def test_one_turn_is_short_whoever_comes(desk: Desk) -> None:
    clients = [desk.connect() for _ in range(40)]
    desk.look()
    # 16 are here, and the others still wait in the kernel.
    assert not select.select(clients, [], [], 0)[0]
    desk.look()
    assert len(select.select(clients, [], [], 0)[0]) == 16
    desk.look()
    assert len(select.select(clients, [], [], 0)[0]) == 24


def test_who_stays_is_closed_by_the_end(desk: Desk) -> None:
    client = desk.connect()
    client.sendall(STATUS)
    desk.look()
    [(caller, _)] = desk.look()
    caller.stays = True
    desk.reception.answer(caller, consent("stopping"), desk.now)
    assert json.loads(client.recv(4096))["text"] == "stopping"
    desk.look(ANSWER_TIMEOUT * 2)
    assert not select.select([client], [], [], 0)[0]
    desk.reception.leave()
    desk.reception.close()
    assert client.recv(10) == b""
    desk.reception = Reception()


def test_without_descriptors_it_rests_and_goes_on(desk: Desk) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = desk.connect()
    client.sendall(STATUS)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        desk.look()
        assert desk.reception.due == desk.now + 1.0  # and no turn before that
        assert not select.select([desk.reception.fileno()], [], [], 0)[0] or desk.look() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    desk.look(1.0)
    desk.look()
    assert len(desk.look()) + len(desk.commands) >= 1


def test_another_user_is_refused_even_where_the_file_is_open_to_all(desk: Desk) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be another user")
    os.chmod(desk.path, 0o666)
    for directory in Path(desk.path).parents:
        if directory.stat().st_mode & 0o777 == 0o700:
            directory.chmod(0o755)
    ready, go = os.pipe()

    def as_nobody() -> None:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(desk.path)
            os.write(go, b"x")
            answer = rest(client)
        assert "user 65534 may not" in str(answer["error"])

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            as_nobody()
            status = 0
        finally:
            os._exit(status)
    os.close(go)
    os.read(ready, 1)
    desk.look()
    assert desk.commands == []
    assert os.waitpid(pid, 0)[1] == 0
    os.close(ready)


def test_in_a_child_everything_is_closed(desk: Desk) -> None:
    client = desk.connect()
    desk.look()
    before = open_descriptors()

    def let_go() -> None:
        desk.reception.close()
        assert open_descriptors() == before - 2  # its epoll, and the caller

    in_a_child(let_go)
    client.sendall(STATUS)
    assert len(desk.look()) == 1
