"""Whether the application runs in the debug mode of its framework, which is for development only.

Its error pages show source, settings and secrets to everybody, and it keeps what it need not. Only
looks at what the import has left, and imports no framework itself.
"""

import contextlib
import sys
from typing import Any

# Where middlewares keep what they wrap.
_INNER = ("app", "application", "_app", "wsgi_app")
_DEPTH = 8

_WARNING = (
    "the application runs in debug mode: {how}. Its error pages show source and settings to "
    "everybody. It serves all the same; {remedy}, then send HUP"
)


def debug_warning(app: Any) -> str | None:
    """What to tell the operator; None if no debug mode is seen."""
    # What an application defines can raise anything when it is looked at; then nothing is seen.
    with contextlib.suppress(Exception):
        how, remedy = _django() or _bottle() or _wrapped(app) or ("", "")
        if how:
            return _WARNING.format(how=how, remedy=remedy)
    return None


def _django() -> tuple[str, str] | None:
    conf: Any = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured or conf.settings.DEBUG is not True:
        return None
    module = getattr(conf.settings, "SETTINGS_MODULE", "the settings")
    return f"`DEBUG` is True in {module} (Django)", "set it to False there, with ALLOWED_HOSTS"


def _bottle() -> tuple[str, str] | None:
    bottle: Any = sys.modules.get("bottle")
    if bottle is None or not getattr(bottle, "DEBUG", False):
        return None
    return "bottle.debug() is on", "leave that call out"


def _wrapped(app: Any) -> tuple[str, str] | None:
    """Of the application, or of one that it wraps."""
    for _ in range(_DEPTH):
        kind = type(app)
        if kind.__name__ == "DebuggedApplication":
            return "it is wrapped in the debugger of werkzeug, which runs what a browser sends", (
                "leave that out"
            )
        if getattr(app, "debug", None) is True:
            name = kind.__module__.partition(".")[0].capitalize()
            return f"its attribute `debug` is True ({name})", (
                "leave out FLASK_DEBUG, DEBUG in its configuration and debug=True"
            )
        inner = [value for name in _INNER if callable(value := vars(app).get(name))]
        if not inner:
            return None
        app = inner[0]
    return None
