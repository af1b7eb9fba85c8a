"""The contract of PEP 3333, on a sink that only writes down what it is told."""

import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from forkserve.http.errors import InvalidResponse
from forkserve.wsgi.call import COMMITTED, FINISHED, NEW, STARTED, Sink, Stage, run_app
from forkserve.wsgi.file_wrapper import FileWrapper


class Record(Sink):
    """``room``: blocks that fit into what was announced; 0 after HEAD, or with a 204.

    ``takes_files``: what ``send_file`` answers."""

    def __init__(self, room: int | None = None, *, takes_files: bool = False) -> None:
        super().__init__()
        self.takes_files = takes_files
        self.events: list[Any] = []
        self.room = room

    def start(self, status: str, headers: Sequence[tuple[str, str]]) -> None:
        assert self.stage is NEW
        if status == "bad":
            raise InvalidResponse("bad")
        self.events.append(status)

    def send(self, block: bytes) -> None:
        assert self.stage in (STARTED, COMMITTED)
        self.stage = COMMITTED
        if self.room is None or self.room > 0:
            self.events.append(block)
        if self.room is not None:
            self.room -= 1
            if self.room < 0:
                self.finish()

    def send_only(self, block: bytes) -> None:
        assert self.stage is STARTED
        self.stage = FINISHED
        self.events.append(("only", block))

    def send_file(self, wrapper: FileWrapper) -> bool:
        assert self.stage is STARTED
        self.events.append("file")
        return self.takes_files

    def finish(self) -> None:
        assert self.stage is COMMITTED
        self.stage = FINISHED
        self.events.append("end")


def run(app: Any) -> list[Any]:
    record = Record()
    run_app(app, {}, record)
    return record.events


class Body:
    """An iterable that counts how often it is closed."""

    def __init__(self, blocks: Iterable[bytes], record: Record | None = None) -> None:
        self.blocks = blocks
        self.closed = 0
        self.record = record

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.blocks)

    def close(self) -> None:
        self.closed += 1
        if self.record is not None:
            self.record.events.append("closed")


@pytest.mark.parametrize(
    ("blocks", "events"),
    [
        ([b"a"], ["200 OK", ("only", b"a")]),
        ([b""], ["200 OK", ("only", b"")]),
        ([], ["200 OK", ("only", b"")]),
        ([b"a", b"b"], ["200 OK", b"a", b"b", "end"]),
        ((b"a", b"b"), ["200 OK", b"a", b"b", "end"]),
        (iter([b"", b"a", b"", b"b"]), ["200 OK", b"a", b"b", "end"]),
        (iter([b"", b""]), ["200 OK", ("only", b"")]),
        ({b"a": 1}, ["200 OK", b"a", "end"]),
    ],
)
def test_blocks(blocks: Any, events: list[Any]) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return blocks

    assert run(app) == events


def test_start_response_may_come_with_the_first_block() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"

    assert run(app) == ["200 OK", b"a", "end"]


@pytest.mark.parametrize("blocks", [[b"a"], [b""], [], iter([b"a"]), iter([])])
def test_an_application_that_does_not_start(blocks: Any) -> None:
    with pytest.raises(InvalidResponse, match="did not call start_response"):
        run(lambda environ, start_response: blocks)


def test_write() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"")
        write(b"a")
        write(b"b")
        return [b"c"]

    assert run(app) == ["200 OK", b"a", b"b", b"c", "end"]


def test_a_second_start_needs_exc_info() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("500 Oops", [])
        return [b"a"]

    with pytest.raises(InvalidResponse, match="again"):
        run(app)


def test_exc_info_replaces_what_is_not_sent() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            raise ValueError("x")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"a"]

    assert run(app) == ["200 OK", "500 Oops", ("only", b"a")]


@pytest.mark.parametrize(("room", "stage"), [(None, COMMITTED), (0, FINISHED)])
def test_exc_info_raises_again_what_comes_too_late(room: int | None, stage: Stage) -> None:
    record = Record(room)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"a")
        assert record.stage is stage
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())

    with pytest.raises(ValueError, match="late") as caught:
        run_app(app, {}, record)
    assert record.events == ["200 OK", b"a" if room is None else "end"]
    assert record.stage is stage
    assert caught.traceback[-1].name == "app"  # where it was raised first


def test_a_refused_start_leaves_nothing_started() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            raise ValueError("x")
        except ValueError:
            with pytest.raises(InvalidResponse):
                start_response("bad", [], sys.exc_info())
        return [b"a"]

    with pytest.raises(InvalidResponse, match="did not call"):
        run(app)


@pytest.mark.parametrize("block", ["text", None, 5, bytearray(b"a"), memoryview(b"a"), [b"a"]])
@pytest.mark.parametrize("shape", [lambda b: [b], lambda b: [b"a", b], lambda b: iter([b])])
def test_a_block_is_bytes(block: Any, shape: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return shape(block)

    with pytest.raises(InvalidResponse, match="not bytes but"):
        run(app)


def test_a_subclass_of_bytes_is_bytes() -> None:
    class Special(bytes):
        pass

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [Special(b"a")]

    assert run(app) == ["200 OK", ("only", b"a")]


def raising(blocks: Iterable[bytes]) -> Iterator[bytes]:
    yield from blocks
    raise RuntimeError("in the middle")


def test_close_is_called_once_after_the_end() -> None:
    record = Record()
    body = Body([b"a"], record)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    run_app(app, {}, record)
    assert record.events == ["200 OK", b"a", "end", "closed"]
    assert body.closed == 1


@pytest.mark.parametrize(
    "blocks",
    [[], raising([]), raising([b"a"]), ["text"], [b"a", None]],
    ids=lambda item: repr(item)[:20],
)
def test_close_is_called_once_whatever_happens(blocks: Any) -> None:
    body = Body(blocks)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    try:
        run(app)
    except (RuntimeError, InvalidResponse):
        assert blocks
    assert body.closed == 1


def test_close_is_called_when_the_application_did_not_start() -> None:
    body = Body([b"a"])
    with pytest.raises(InvalidResponse):
        run(lambda environ, start_response: body)
    assert body.closed == 1


@pytest.mark.parametrize(
    ("room", "events"), [(0, ["200 OK", "end"]), (2, ["200 OK", b"a", b"a", "end"])]
)
def test_a_response_that_is_finished_is_iterated_no_further(room: int, events: list[Any]) -> None:
    """After HEAD, a 204, or as much as was announced: the rest may be expensive, or endless."""
    record = Record(room)
    body = Body(itertools.repeat(b"a"), record)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    run_app(app, {}, record)
    assert record.events == [*events, "closed"]
    assert body.closed == 1


@pytest.mark.parametrize("blocks", [[b"b"], [], [b"b", b"c"], iter([b"b"]), (b"b",)])
def test_nothing_follows_a_write_that_finished_the_response(blocks: Any) -> None:
    """As write() does in answer to HEAD."""
    record = Record(0)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"a")
        return blocks

    run_app(app, {}, record)
    assert record.events == ["200 OK", "end"]


@pytest.mark.parametrize("blocks", [[b"a"], [b"a", b"b"], []])
def test_a_write_after_the_end_is_dropped(blocks: Any) -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        kept.append(start_response("200 OK", []))
        return blocks

    record = Record()
    run_app(app, {}, record)
    events = record.events.copy()
    kept[0](b"late")
    assert record.events == events
    assert record.stage is FINISHED


# ---- wsgi.file_wrapper


class File(io.BytesIO):
    """A file that counts how often it is closed."""

    closings = 0

    def close(self) -> None:
        self.closings += 1


def answer_file(wrap: Any = FileWrapper, *, write: bytes = b"") -> tuple[File, Any]:
    file = File(b"content")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(write)
        return wrap(file)

    return file, app


def test_a_file_is_left_to_the_sink_with_its_close() -> None:
    record = Record(takes_files=True)
    file, app = answer_file()
    run_app(app, {}, record)
    assert (record.events, file.closings) == (["200 OK", "file"], 0)


def test_a_file_that_the_sink_does_not_take_is_iterated() -> None:
    file, app = answer_file()
    assert run(app) == ["200 OK", "file", b"content", "end"]
    assert file.closings == 1


class Special(FileWrapper):
    """It may iterate something else."""


@pytest.mark.parametrize("wrap", [Special, lambda file: map(bytes.upper, FileWrapper(file))])
def test_only_the_very_wrapper_is_a_file(wrap: Any) -> None:
    record = Record(takes_files=True)
    _, app = answer_file(wrap)
    run_app(app, {}, record)
    assert "file" not in record.events
    assert "end" in record.events


def test_a_file_behind_a_write_is_iterated() -> None:
    record = Record(takes_files=True)
    file, app = answer_file(write=b"before")
    run_app(app, {}, record)
    assert record.events == ["200 OK", b"before", b"content", "end"]
    assert file.closings == 1


def test_a_file_without_a_start_is_refused_and_closed() -> None:
    record = Record(takes_files=True)
    file = File(b"content")
    with pytest.raises(InvalidResponse, match="did not call start_response"):
        run_app(lambda environ, start_response: FileWrapper(file), {}, record)
    assert file.closings == 1


def test_a_file_at_which_the_sink_fails_is_closed() -> None:
    class Broken(Record):
        def send_file(self, wrapper: FileWrapper) -> bool:
            raise OSError("gone")

    file, app = answer_file()
    with pytest.raises(OSError, match="gone"):
        run_app(app, {}, Broken())
    assert file.closings == 1
