"""wsgi.file_wrapper: what it iterates, and when the file itself may be sent instead."""

# ruff: noqa: SIM115 - the files of the tables are opened in the tests

import gzip
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkserve.wsgi.file_wrapper import FileWrapper

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    return file


def test_it_iterates_from_where_the_file_stands() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(2)
    wrapper = FileWrapper(file, 3)
    assert list(wrapper) == [b"234", b"567", b"89"]
    wrapper.close()
    assert file.closed

    class Bare:
        def read(self, size: int) -> bytes:
            return b""

    assert list(FileWrapper(Bare())) == []
    assert not hasattr(FileWrapper(Bare()), "close")


def read_to(file: Any, position: int) -> Any:
    """Read, not seek: so what is buffered is further on than the position."""
    assert file.read(position) == CONTENT[:position]
    return file


def with_more(file: Any) -> Any:
    file.write(CONTENT)
    file.seek(100)
    file.write(b"changed")
    return file


PLAIN: list[Callable[[Path], Any]] = [
    lambda path: open(path, "rb"),
    lambda path: open(path, "rb", buffering=0),
    lambda path: open(path, "r+b"),
    lambda path: read_to(open(path, "rb"), 1000),
    lambda path: read_to(open(path, "rb", buffering=0), 1000),
    lambda path: read_to(open(path, "r+b"), 1000),
    lambda path: with_more(tempfile.TemporaryFile()),
    lambda path: with_more(tempfile.NamedTemporaryFile()),
    lambda path: read_to(tempfile._TemporaryFileWrapper(open(path, "rb"), "n", delete=False), 5),
]


@pytest.mark.parametrize("opened", PLAIN)
def test_a_plain_file_is_a_region_of_what_iterating_gives(
    path: Path, opened: Callable[[Path], Any]
) -> None:
    with opened(path) as file:
        wrapper = FileWrapper(file)
        region = wrapper.region()
        assert region is not None
        assert region.wrapper is wrapper
        octets = os.pread(region.fd, region.length, region.offset)
        assert octets == b"".join(wrapper)
        assert len(octets) == region.length
    assert os.pread(region.fd, 1, region.offset) == octets[:1]  # whoever has closed the file
    assert not os.get_inheritable(region.fd)
    os.close(region.fd)


class Sliced(io.BufferedIOBase):
    """Part of a file, with the descriptor of the whole. As WhiteNoise answers a range."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int | None = -1) -> bytes:
        return b""

    def fileno(self) -> int:
        return int(self.file.fileno())


class Other(io.FileIO):
    pass


def patched(file: Any) -> Any:
    file.read = lambda size: b""
    return file


def closed(file: Any) -> Any:
    file.close()
    return file


def detached(file: Any) -> Any:
    file.detach()
    return file


def at_the_end(file: Any) -> Any:
    file.seek(len(CONTENT))
    return file


def beyond_the_end(file: Any) -> Any:
    file.seek(len(CONTENT) + 1)
    return file


def pipe() -> Any:
    reading, writing = os.pipe()
    os.close(writing)
    return open(reading, "rb", buffering=0)


OTHERS: list[Callable[[Path], Any]] = [
    lambda path: io.BytesIO(CONTENT),
    lambda path: open(path),
    lambda path: gzip.open(path),
    lambda path: Sliced(open(path, "rb")),
    lambda path: io.BufferedReader(Other(path)),
    lambda path: Other(path),
    lambda path: patched(open(path, "rb")),
    lambda path: patched(open(path, "rb", buffering=0)),
    lambda path: closed(open(path, "rb")),
    lambda path: detached(open(path, "rb")),
    lambda path: at_the_end(open(path, "rb")),
    lambda path: beyond_the_end(open(path, "rb")),
    lambda path: open(os.devnull, "rb"),
    lambda path: open("/proc/cpuinfo", "rb"),
    lambda path: open("/sys/devices/system/cpu/online", "rb"),
    lambda path: open(path, "ab", buffering=0),
    lambda path: pipe(),
    lambda path: tempfile.SpooledTemporaryFile(),
    lambda path: tempfile.NamedTemporaryFile(),
    lambda path: object(),
]


@pytest.mark.parametrize("opened", OTHERS)
def test_what_may_read_something_else_is_iterated(
    path: Path, opened: Callable[[Path], Any]
) -> None:
    file = opened(path)
    descriptors = os.listdir("/proc/self/fd")
    assert FileWrapper(file).region() is None
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


def test_without_a_descriptor_to_be_had_it_is_iterated(path: Path) -> None:
    import resource

    with open(path, "rb") as file:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(file.fileno())  # the least one that is free
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            assert FileWrapper(file).region() is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        region = FileWrapper(file).region()
        assert region is not None
        os.close(region.fd)
