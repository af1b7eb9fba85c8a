"""What is watched, and what is not."""

import os
from pathlib import Path

import pytest

from forkserve.develop.tree import MOST, Extra, Tree, tree_of
from forkserve.settings import Settings


def seen(tree: Tree) -> list[str]:
    return sorted(os.path.relpath(path, tree.directory) for path in tree.look().files)


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def test_python_files_are_watched_but_not_those_of_others(tmp_path: Path) -> None:
    make(
        tmp_path, "a.py", "p/__init__.py", "p/q/b.py", "p/q/b.txt", ".git/c.py", ".venv/d.py",
        "node_modules/e.py", "env/pyvenv.cfg", "env/f.py", "x/__pycache__/g.py", "x/a.pyc",
        "lib/site-packages/h.py", "p/.#b.py", "p/flycheck_b.py",
    )  # fmt: skip
    (tmp_path / "circle").symlink_to(tmp_path)
    tree = Tree([str(tmp_path)], [], str(tmp_path))
    assert seen(tree) == ["a.py", "p/__init__.py", "p/q/b.py"]
    directories = {os.path.relpath(path, tmp_path) for path in tree.look().directories}
    assert directories == {".", "p", "p/q", "x", "lib"}


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        (".env", [".env"]),
        ("t", ["t/a.html", "t/b/c.html", "t/b/d.txt"]),
        ("t/*.html", ["t/a.html"]),
        ("t/**/*.html", ["t/a.html", "t/b/c.html"]),
        ("*/b/*.txt", ["t/b/d.txt"]),
        ("t/b/[cx].*", ["t/b/c.html"]),
        (".hidden/*", [".hidden/x.yaml"]),
        ("none/*.html", []),
        ("none", []),
    ],
)
def test_extra(tmp_path: Path, pattern: str, files: list[str]) -> None:
    root = tmp_path / "[1] *"  # which is no pattern
    make(root, ".env", "t/a.html", "t/b/c.html", "t/b/d.txt", ".hidden/x.yaml", "other.txt")
    tree = Tree([], [Extra.of(pattern, str(root))], str(root))
    assert seen(tree) == files
    assert tree.look().directories
    for name in files:
        assert tree.concerns(str(root / name))
    plain = root.rename(tmp_path / "plain")
    absolute = Tree([], [Extra.of(str(plain / pattern), "/")], "/")
    assert sorted(absolute.look().files) == [str(plain / name) for name in files]


def test_what_differs(tmp_path: Path) -> None:
    make(tmp_path, "same.py", "gone.py", "changed.py", "replaced.py")
    tree = Tree([str(tmp_path)], [], str(tmp_path))
    before = tree.look()
    assert before.differs(tree.look()) == set()
    (tmp_path / "gone.py").unlink()
    (tmp_path / "changed.py").write_text("1")
    stamp = os.stat(tmp_path / "replaced.py")
    make(tmp_path, "new", "come.py")
    os.utime(tmp_path / "new", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (tmp_path / "new").rename(tmp_path / "replaced.py")
    names = {os.path.basename(path) for path in before.differs(tree.look())}
    assert names == {"gone.py", "changed.py", "replaced.py", "come.py"}


def test_a_root_inside_another_is_walked_once(tmp_path: Path) -> None:
    make(tmp_path, "src/a.py", ".venv/src/b/c.py")
    inner, hidden = str(tmp_path / "src"), str(tmp_path / ".venv" / "src")
    tree = Tree([str(tmp_path), inner, hidden], [], str(tmp_path))
    assert tree.roots == [str(tmp_path), hidden]
    assert seen(tree) == [".venv/src/b/c.py", "src/a.py"]


def test_what_is_worth_a_look(tmp_path: Path) -> None:
    make(tmp_path, "db.sqlite3", "t/x.css", "a.py")
    extra = [Extra.of(text, str(tmp_path)) for text in ("t/*.html", ".env")]
    tree = Tree([str(tmp_path)], extra, str(tmp_path))
    for name, worth in (
        ("a.py", True), ("gone.py", True), ("t", True), ("t/x.css", True), (".env", True),
        ("db.sqlite3", False), ("gone", True), ("__pycache__", False), (".a.py.swp", False),
    ):  # fmt: skip
        assert tree.concerns(str(tmp_path / name)) is worth, name


def test_the_settings_say_where(tmp_path: Path) -> None:
    make(tmp_path, "site/a.py", "lib/b.py", "conf/f.toml")
    settings = Settings(
        app="a", chdir=str(tmp_path / "site"), pythonpath=("../lib",), reload_extra=("x.html",)
    )
    config = str(tmp_path / "conf" / "f.toml")
    assert config in tree_of(settings, f"file:{config}").look().files
    tree = tree_of(settings, config)
    assert tree.directory == str(tmp_path / "site")
    assert tree.roots[:2] == [str(tmp_path / "site"), str(tmp_path / "lib")]
    assert not [root for root in tree.roots if "site-packages" in root or "/python3" in root]
    files = tree.look().files
    assert {str(tmp_path / name) for name in ("site/a.py", "lib/b.py", "conf/f.toml")} <= set(files)
    import forkserve

    assert not [path for path in files if path.startswith(os.path.dirname(forkserve.__file__))]


def test_a_directory_that_is_none_of_an_application(tmp_path: Path) -> None:
    """Somebody started it at home: it does not look at everything there."""
    for number in range(MOST + 100):
        (tmp_path / f"d{number}").mkdir()
    sight = Tree([str(tmp_path)], [], str(tmp_path)).look()
    assert sight.overflow
    assert len(sight.directories) == MOST


def test_the_root_of_the_machine_is_no_reason_to_read_proc() -> None:
    paths = Tree(["/"], [], "/").look().directories
    assert not [path for path in paths if path.startswith(("/proc", "/sys", "/dev"))]
