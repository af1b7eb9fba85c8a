"""Files that a reload reads again."""

import os
from pathlib import Path

import pytest

from forkserve.settings.files import read_regular


def test_the_octets_of_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\r\n")
    assert read_regular(str(tmp_path / "a")) == b"\xff\r\n"


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "not a regular file"), (".", "directory"), ("none", "No such file")):
        with pytest.raises(OSError, match=why):
            read_regular(str(tmp_path / name))
