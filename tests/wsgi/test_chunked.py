"""uWSGI's chunked input: what the two functions promise on any source."""

import sys
from collections.abc import Iterator

import pytest

import forkserve
from forkserve.wsgi.chunked import NO_CHUNKS, ChunkReader, ChunkSizes, install_uwsgi_module

NEVER = float("inf")


class Script(ChunkReader):
    """A source that plays a list: a chunk, None for one that is not there yet, an error."""

    def __init__(self, *items: bytes | OSError | None, more: bool = True) -> None:
        super().__init__(4.0)
        self.items = list(items)
        self.more = more
        self.waits: list[float] = []

    def next_chunk(self) -> bytes | None:
        item = self.items.pop(0) if self.items else b""
        if isinstance(item, OSError):
            raise item
        return item

    def receive_chunk(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return self.more


def test_a_chunk_a_call_and_nothing_for_ever_after() -> None:
    source = Script(b"one", b"two")
    read = source.chunked_read
    assert [read() for _ in range(5)] == [b"one", b"two", b"", b"", b""]
    assert source.waits == []


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [((), 4.0), ((0,), 4.0), ((None,), 4.0), ((7,), 7), ((0.5,), 0.5), ((-1,), NEVER)],
)
def test_the_timeout_is_for_each_wait(arguments: tuple[float | None, ...], seconds: float) -> None:
    source = Script(None, None, b"late")
    assert source.chunked_read(*arguments) == b"late"
    assert source.waits == [seconds, seconds]


def test_the_timeout_is_positional() -> None:
    with pytest.raises(TypeError):
        Script().chunked_read(timeout=1)  # type: ignore[call-arg]


def test_without_waiting() -> None:
    source = Script(None, b"one", b"two", None, more=False)
    read = source.chunked_read_nb
    assert [read() for _ in range(5)] == [None, b"one", b"two", None, b""]
    assert source.waits == [0, 0]


def test_without_waiting_all_that_is_there_is_taken() -> None:
    source = Script(None, None, b"one")
    assert source.chunked_read_nb() == b"one"


def test_an_error_passes_through_both() -> None:
    with pytest.raises(ConnectionError):
        Script(ConnectionError()).chunked_read()
    with pytest.raises(ConnectionError):
        Script(ConnectionError()).chunked_read_nb()


def test_a_request_without_a_body_is_at_its_end() -> None:
    assert NO_CHUNKS.chunked_read() == NO_CHUNKS.chunked_read(-1) == b""
    assert NO_CHUNKS.chunked_read_nb() == b""


# ---- where chunks end


def ends(sizes: ChunkSizes, positions: range) -> list[int | None]:
    return [sizes.end_of(position) for position in positions]


@pytest.mark.parametrize("size", [1, 255, 256, 65536, 1 << 40, (1 << 64) - 1])
def test_sizes_read_back(size: int) -> None:
    sizes = ChunkSizes()
    sizes.extend([1, size, 2])
    assert sizes.end_of(0) == 1
    assert sizes.end_of(1) == sizes.end_of(size) == 1 + size
    assert sizes.end_of(1 + size) == sizes.end_of(2 + size) == 3 + size
    assert sizes.end_of(3 + size) is None


def test_every_octet_belongs_to_one_chunk() -> None:
    sizes = ChunkSizes()
    sizes.extend([2, 300, 1])
    expected = [2] * 2 + [302] * 300 + [303] + [None]
    assert ends(sizes, range(304)) == expected
    assert ends(sizes, range(303, -1, -1)) == expected[::-1]
    sizes.extend([1])
    assert sizes.end_of(303) == 304


def test_what_has_passed_is_forgotten() -> None:
    sizes = ChunkSizes()
    sizes.extend([2, 3, 4])
    assert sizes.end_of(2) == 5
    sizes.forget_passed()
    assert len(sizes) == 1
    assert ends(sizes, range(2, 10)) == [5, 5, 5, 9, 9, 9, 9, None]


def test_a_restart_in_the_middle_of_a_chunk() -> None:
    sizes = ChunkSizes()
    sizes.extend([1] * 1000)
    sizes.restart(700, 5)
    sizes.extend([2])
    assert len(sizes) == 2
    assert ends(sizes, range(700, 708)) == [705] * 5 + [707] * 2 + [None]
    sizes.restart(707, 0)
    assert sizes.end_of(707) is None


def test_a_small_chunk_costs_an_octet() -> None:
    sizes = ChunkSizes()
    sizes.extend([1] * 1_000_000)
    assert len(sizes) == 1_000_000
    assert sizes.end_of(999_999) == 1_000_000


# ---- the functions of the package


@pytest.fixture
def in_a_call() -> Iterator[Script]:
    source = Script(b"one", b"two")
    forkserve.read_chunks_from(lambda: source)
    yield source
    forkserve.read_chunks_from(forkserve._no_call)


def test_the_functions_of_the_package(in_a_call: Script) -> None:
    assert forkserve.chunked_read(1) == b"one"
    assert forkserve.chunked_read_nb() == b"two"
    assert forkserve.chunked_read() == b""


def test_outside_of_a_worker_they_say_so() -> None:
    with pytest.raises(RuntimeError, match="worker"):
        forkserve.chunked_read()
    with pytest.raises(RuntimeError, match="worker"):
        forkserve.chunked_read_nb()


def test_the_module_uwsgi(in_a_call: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", None)
    install_uwsgi_module()
    import uwsgi  # type: ignore[import-not-found]

    assert uwsgi.chunked_read(1) == b"one"
    assert uwsgi.chunked_read_nb() == b"two"
    assert sorted(name for name in vars(uwsgi) if name[0] != "_") == [
        "chunked_read", "chunked_read_nb",
    ]  # fmt: skip
