"""Names of other machines are looked up in one process, for another."""

import socket
from collections.abc import Iterator

import pytest

from forkserve.net import lookup


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    yield
    lookup.take("")


def test_what_one_process_finds_another_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [("127.0.0.1", 8125), ("::1", 514), ("no such name", 1)]
    text = lookup.tell_later(places)

    def getaddrinfo(*arguments: object, **named: object) -> object:
        raise AssertionError("it is asked again")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    lookup.take(text)
    assert lookup.look_up("127.0.0.1", 8125) == [(socket.AF_INET, ("127.0.0.1", 8125))]
    assert lookup.look_up("::1", 514) == [(socket.AF_INET6, ("::1", 514, 0, 0))]
    with pytest.raises(OSError, match=r"not known|resolution"):
        lookup.look_up("no such name", 1)
    with pytest.raises(AssertionError):
        lookup.look_up("127.0.0.1", 8126)


def test_what_was_told_counts_once() -> None:
    lookup.take('{"localhost 1": ["it is gone", []]}')
    with pytest.raises(OSError, match="it is gone"):
        lookup.look_up("localhost", 1)
    lookup.take("")
    assert lookup.look_up("localhost", 1)


@pytest.mark.parametrize(
    ("host", "takes"),
    [
        ("127.0.0.1", False), ("::1", False), ("fe80::1%lo", False), ("localhost", False),
        ("logs.example", True), ("statsd", True),
    ],
)  # fmt: skip
def test_what_takes_time(host: str, takes: bool) -> None:
    assert lookup.takes_time(host) == takes
