"""Whether an application runs in debug mode, as far as it lets itself be looked at."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from forkserve.worker.debug import debug_warning


class App:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __call__(self) -> None: ...


class DebuggedApplication(App): ...


class Hostile:
    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name) if name.startswith("__") else RuntimeError(name)


def ring() -> App:
    app = App()
    app.app = app  # type: ignore[attr-defined]
    return app


@pytest.mark.parametrize(
    ("app", "part"),
    [
        (App(debug=True), "its attribute `debug` is True"),
        (App(app=App(application=App(debug=True))), "its attribute `debug` is True"),
        (DebuggedApplication(app=App()), "the debugger of werkzeug"),
    ],
)
def test_debug_mode_is_seen_through_middlewares(app: Any, part: str) -> None:
    warning = debug_warning(app)
    assert warning is not None and part in warning and "send HUP" in warning


@pytest.mark.parametrize(
    "app",
    [App(), App(debug=False), App(debug="yes"), App(debug=print), App(app=None), Hostile(), ring(),
     lambda environ, start_response: []],
)  # fmt: skip
def test_what_is_in_no_debug_mode(app: Any) -> None:
    assert debug_warning(app) is None


@pytest.mark.parametrize(
    ("name", "members", "part"),
    [
        ("bottle", {"DEBUG": True}, "bottle.debug() is on"),
        ("django.conf", {"settings": SimpleNamespace(configured=True, DEBUG=True, SETTINGS_MODULE="a.b")},
         "`DEBUG` is True in a.b (Django)"),
        ("bottle", {"DEBUG": False}, None),
        ("bottle", {}, None),
        ("django.conf", {"settings": SimpleNamespace(configured=False)}, None),
        ("django.conf", {"settings": SimpleNamespace(configured=True, DEBUG=False)}, None),
        ("django.conf", {"settings": Hostile()}, None),
    ],
)  # fmt: skip
def test_what_frameworks_say(
    monkeypatch: pytest.MonkeyPatch, name: str, members: dict[str, Any], part: str | None
) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    for other in ("bottle", "django.conf"):
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.setitem(sys.modules, name, module)
    warning = debug_warning(App())
    assert (warning is None) if part is None else (warning is not None and part in warning)
