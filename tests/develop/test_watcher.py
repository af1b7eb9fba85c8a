"""What the watcher says and removes; how it watches is tested with the command."""

from importlib.util import cache_from_source
from pathlib import Path

import pytest

from forkserve.develop.engines import Poll
from forkserve.develop.tree import Sight
from forkserve.develop.watcher import described, forget_bytecode


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (["/s/a.py"], "a.py has changed"),
        (["/s/p/b.py", "/s/p/a.py"], "p/a.py and 1 other file have changed"),
        (["/s/c.py", "/t/b.py", "/s/a.py"], "/t/b.py and 2 other files have changed"),
        (["/s/" + 300 * "x" + ".py"], "..." + 197 * "x" + ".py has changed"),
    ],
)
def test_changes_in_words(changed: list[str], text: str) -> None:
    assert described(changed, "/s") == text


def test_bytecode_of_what_has_changed_is_removed(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    cached = Path(cache_from_source(str(source)))
    cached.parent.mkdir()
    cached.touch()
    other = tmp_path / "a.html"
    other.touch()
    forget_bytecode([str(source), str(other), str(tmp_path / "not_there.py")])
    assert not cached.exists()
    assert other.exists()


def test_without_bytecode_there_is_none_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.implementation.cache_tag", None)
    forget_bytecode(["/shop.py"])


@pytest.mark.parametrize(("took", "pause"), [(0.001, 0.4), (0.1, 1.0), (60.0, 10.0)])
def test_to_look_takes_a_small_part_of_the_time(took: float, pause: float) -> None:
    waits: list[float] = []
    Poll(waits.append).wait(Sight({}, frozenset(), seconds=took))
    assert waits == [pytest.approx(pause)]
