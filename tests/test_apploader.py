"""From "module:callable" to the application, and what is said if there is none."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forkserve.apploader import load_application
from forkserve.errors import EXIT_APPLICATION, ApplicationError
from forkserve.settings.kinds import APPLICATION

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module where it can be imported from. None is left behind."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def failure(target: str) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        load_application(target)
    assert caught.value.exit_status == EXIT_APPLICATION
    return caught.value


SITE = """
def application(environ, start_response): return "application"
def app(environ, start_response): return "app"
class deep:
    class er:
        def app(environ, start_response): return "deeper"
def make(*arguments, **keywords):
    return lambda environ, start_response: (arguments, keywords)
number = 5
"""


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("site_", "application"),
        ("site_:app", "app"),
        ("site_:deep.er.app", "deeper"),
        ("site_:make()", ((), {})),
        ("site_:make('a', 2, [None, True], b=-1.5)", (("a", 2, [None, True]), {"b": -1.5})),
    ],
)
def test_targets(write: Write, target: str, answer: object) -> None:
    write("site_", SITE)
    assert load_application(target)({}, None) == answer


@pytest.mark.parametrize("name", ["my-site_", "01_site"])
def test_a_module_that_no_import_statement_can_name(write: Write, name: str) -> None:
    write(name, SITE)
    assert load_application(f"{name}:app")({}, None) == "app"
    assert APPLICATION.read(f"{name}:app") == f"{name}:app"
    with pytest.raises(ValueError, match=f"did you mean {name}:app"):
        APPLICATION.read(f"./{name}.py:app")


@pytest.mark.parametrize("text", ["8000", "12:34", "-site", "site/app", ":app", "site..app:x"])
def test_what_names_no_module(text: str) -> None:
    with pytest.raises(ValueError, match="is not like module:callable"):
        APPLICATION.read(text)


def test_app_is_taken_if_there_is_no_application(write: Write) -> None:
    write("site_", "app = print")
    assert load_application("site_") is print


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("site_:ap", "there is no 'ap'. Did you mean 'app'?"),
        ("site_:zzzzzz", "there is no 'zzzzzz'"),
        ("site_:deep.er.ap", "there is no 'ap'. Did you mean 'app'?"),
        ("site_:number", "is a int, and a WSGI application must be callable"),
        ("site_:make(1)(2)", "does not name an application"),
        ("site_:make(app)", "does not name an application"),
        ("site_:make(__import__('os'))", "does not name an application"),
        ("site_:app or make", "does not name an application"),
        ("site_:app[0]", "does not name an application"),
        ("site_:(", "does not name an application"),
        ("site_.py", "no module 'site_.py'; write 'site_', without the .py."),
        ("site_.py:app", "no module 'site_.py'; write 'site_', without the .py."),
        ("site_.app", "no module 'site_.app'; did you mean site_:app?"),
        ("site_.ap", "no module 'site_.ap'. It is looked for in"),
        ("no_such_site", "no module 'no_such_site'. It is looked for in"),
        ("no_such_site.wsgi:app", "no module 'no_such_site'. It is looked for in"),
    ],
)
def test_targets_that_name_nothing(write: Write, target: str, part: str) -> None:
    write("site_", SITE)
    error = failure(target)
    assert part in str(error)
    assert error.traceback == ""
    assert error.report() == str(error)


def test_a_name_in_a_package_that_is_no_module(write: Write) -> None:
    write("package_/__init__", "def create(): pass")
    assert "did you mean package_:create?" in str(failure("package_.create"))


def test_a_package_whose_application_is_in_its_module_wsgi(write: Write) -> None:
    write("package_/__init__", "")
    write("package_/wsgi", "raise SystemExit('not to be imported')")
    assert "did you mean its module package_.wsgi?" in str(failure("package_"))


def test_a_module_without_an_application_is_named_with_its_file(write: Write) -> None:
    """It may be another module of that name, found first."""
    path = write("site_", "appl = print")
    message = str(failure("site_"))
    assert f"'site_' ({path}) has neither" in message
    assert "site_:NAME" in message
    assert "'time' (built in) has neither" in str(failure("time"))


BROKEN = {
    "raise ValueError('why')": "ValueError: why",
    "import no_such_library": "ModuleNotFoundError: No module named 'no_such_library'",
    "import sys; sys.exit('no settings')": "SystemExit: no settings",
    "raise SystemExit": "SystemExit",
}


@pytest.mark.parametrize(("source", "what"), BROKEN.items())
def test_a_module_that_fails_shows_its_own_traceback(write: Write, source: str, what: str) -> None:
    path = write("site_", f"def inner():\n    {source}\ninner()\n")
    error = failure("site_:app")
    assert str(error) == f"cannot load 'site_:app' (`app`): importing 'site_' failed: {what}"
    lines = error.traceback.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{path}", line 3, in <module>',
    ]
    assert lines[-1] == what
    assert error.report() == f"{error}\n{error.traceback}"


def test_a_module_that_cannot_be_compiled_shows_where(write: Write) -> None:
    path = write("site_", "a = 1\nb = = 2\n")
    error = failure("site_")
    assert str(error) == (
        "cannot load 'site_' (`app`): importing 'site_' failed: SyntaxError: invalid syntax"
    )
    assert f'File "{path}", line 2' in error.traceback
    assert "apploader" not in error.traceback


@pytest.mark.parametrize(("source", "what"), BROKEN.items())
def test_a_factory_that_fails_shows_its_own_traceback(write: Write, source: str, what: str) -> None:
    path = write("site_", f"def make():\n    {source}\n")
    error = failure("site_:make()")
    assert str(error) == f"cannot load 'site_:make()' (`app`): make() raised {what}"
    assert error.traceback.splitlines()[1] == f'  File "{path}", line 2, in make'


def test_a_factory_that_is_given_what_it_does_not_take(write: Write) -> None:
    write("site_", SITE)
    error = failure("site_:deep(1)")
    assert str(error) == (
        "cannot load 'site_:deep(1)' (`app`): deep(1) raised TypeError: deep() takes no arguments"
    )
    assert "File" not in error.traceback


def test_ctrl_c_passes_through(write: Write) -> None:
    write("site_", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_application("site_")


NO_WSGI = """
import functools
def create_app(): pass
def make_app(config=None, testing=False): pass
def build(config): pass
class Site:
    def __init__(self): pass
    def __call__(self, environ, start_response): pass
async def asgi(scope, receive, send): pass
class Asgi:
    async def __call__(self, scope, receive, send): pass
wrapped = Asgi()
def three(scope, receive, send): pass

# Applications, however they look at first:
def late(environ=None, start_response=None): pass
instance = Site()
class PerRequest:
    def __init__(self, environ, start_response): pass
def decorated(function):
    @functools.wraps(function)
    def call(*arguments): pass
    return call
@decorated
def of_a_request(request): pass
partial = functools.partial(lambda name, environ, start_response: None, "x")
"""


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("site_:create_app", "it is a factory, which makes the application, and was not called: "
         "write 'site_:create_app()'"),
        ("site_:make_app", "write 'site_:make_app()'"),
        ("site_:build", "it takes the arguments (config), and a WSGI application (environ, "
         "start_response). If it makes the application, call it: site_:build(...)"),
        ("site_:Site", "it is a class, and was not called: write 'site_:Site()'"),
        ("site_:asgi", "it is an ASGI application, and forkserve serves WSGI"),
        ("site_:wrapped", "it is an ASGI application"),
        ("site_:three", "it takes the arguments (scope, receive, send)"),
        ("site_", "has neither `application` nor `app`: site_:create_app() calls the factory"),
    ],
)  # fmt: skip
def test_what_cannot_be_called_as_an_application(write: Write, target: str, part: str) -> None:
    write("site_", NO_WSGI)
    assert part in str(failure(target))


@pytest.mark.parametrize("name", ["late", "instance", "PerRequest", "of_a_request", "partial"])
def test_applications_of_unusual_shape(write: Write, name: str) -> None:
    write("site_", NO_WSGI)
    assert callable(load_application(f"site_:{name}"))


def test_a_module_that_is_nearby_is_found(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("deep/shop", "app = print")
    (tmp_path / "deep" / "er").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "secret_shop.py").write_text("app = print")
    there = f"There is one in {tmp_path}/deep: start forkserve there, or set --chdir to it"
    for directory, name, part in (
        (tmp_path, "shop", there),
        (tmp_path / "deep" / "er", "shop:app", there),
        (tmp_path, "secret_shop", "Start forkserve where it is, or set --chdir"),
    ):
        monkeypatch.chdir(directory)
        assert part in str(failure(name))


def test_a_module_is_not_looked_for_in_a_whole_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(400):
        (tmp_path / f"{number:03}" / "below").mkdir(parents=True)
    (tmp_path / "000" / "below" / "far_shop.py").touch()
    monkeypatch.chdir(tmp_path)
    assert "Start forkserve where it is" in str(failure("far_shop"))
