"""The application as it is served in development: with the page in front of it, or the debugger.

Who gets the page while new code does not load: a person who opens a document (GET, and the browser
says that it wants HTML and is about to show it). Scripts, forms, images, other programs go on with
the last good code, so that what is open in the browser keeps working; and so does the person, by a
button on the page, until the next change. Without any good code everybody is told why.
"""

import logging
import secrets
import sys
from collections.abc import Callable, Iterable
from typing import Any

from forkserve.apploader import load_application
from forkserve.develop.board import Board, Notice
from forkserve.develop.failure import explain, own_modules
from forkserve.develop.page import content_security_policy, page
from forkserve.errors import ApplicationError, ForkserveError, in_a_line
from forkserve.settings import Settings

Application = Callable[..., Iterable[bytes]]
Environ = dict[str, Any]

_ASKS = "HTTP_X_FORKSERVE_NOTICE"
_COOKIE = "forkserve_notice"
_STATUS = "500 Internal Server Error"


def load_for_development(
    settings: Settings,
    generation: int,
    board: Board | None,
    log: logging.Logger,
    *,
    speaks: bool,
) -> Application:
    """Load the application, and put in front of it what is wanted.

    ``board``: with `reload`. If the first code of all does not load, what is returned answers with
    the reason; ``speaks``: this process says so in the log. If there is a notice before there is
    any code, that has ended those who tried to load it, and is not tried. Raises ForkserveError.
    """
    first = board is not None and not board.loaded and generation == 1
    if board is not None and first and (notice := board.read()) is not None:
        return WithNotices(None, board, notice.text)
    try:
        app: Application = load_application(settings.app)
    except ApplicationError as error:
        error = explain(error)
        if board is None or not first:
            raise error from None
        if speaks:
            log.error(
                "the application does not load, and every request is told why. Repair it, and save "
                "it: it is loaded then. %s",
                error.report(),
            )
        return WithNotices(None, board, error.report())
    if settings.debugger:
        app = debugged(app, log, speaks=speaks and not (board and board.loaded))
    if board is None:
        return app
    board.note_loaded()
    return WithNotices(app, board)


class WithNotices:
    """An application, None if there is none because of what ``report`` says, behind the page."""

    def __init__(self, app: Application | None, board: Board, report: str = "") -> None:
        self._app = app
        self._board = board
        self._own = None if app is not None else Notice(0, report)
        self._told: set[str] = set()
        self._tell_of_modules()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application."""
        notice = self._board.read() or self._own
        if _ASKS in environ:
            return _news(notice, environ[_ASKS], start_response)
        if self._app is None:
            assert notice is not None
            if "text/html" in environ.get("HTTP_ACCEPT", ""):
                return _show(notice, start_response, old_code=False)
            return _say(notice, start_response)
        if notice is not None and _is_for_a_person(environ) and not _knows(environ, notice):
            return _show(notice, start_response, old_code=True)
        if len(sys.modules) != self._modules:  # some are imported when they are first needed
            self._tell_of_modules()
        return self._app(environ, start_response)

    def _tell_of_modules(self) -> None:
        self._modules = len(sys.modules)
        new = set(own_modules()) - self._told
        self._told |= new
        self._board.tell(sorted(new))


def _is_for_a_person(environ: Environ) -> bool:
    """A browser is going to show the answer as a document. Old ones, and those that speak plain
    HTTP to another machine, do not say which use they have for it."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and "text/html" in environ.get("HTTP_ACCEPT", "")
        and environ.get("HTTP_SEC_FETCH_DEST", "document") == "document"
    )


def _knows(environ: Environ, notice: Notice) -> bool:
    """Whether the person has read this notice, and wants to see what the old code answers."""
    cookies = [item.strip() for item in environ.get("HTTP_COOKIE", "").split(";")]
    return f"{_COOKIE}={notice.number}" in cookies


def _news(
    notice: Notice | None, number: str, start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """For the page: whether anything has changed since it was shown."""
    same = notice is not None and str(notice.number) == number
    if same:
        start_response("204 No Content", [("Cache-Control", "no-store")])
        return []
    headers = [("Content-Type", "text/plain"), ("Cache-Control", "no-store")]
    start_response("200 OK", headers)
    return []


def _show(notice: Notice, start_response: Callable[..., Any], *, old_code: bool) -> Iterable[bytes]:
    nonce = secrets.token_urlsafe(16)
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", content_security_policy(nonce)),
    ]
    start_response(_STATUS, headers)
    return [page(notice.text, number=notice.number, nonce=nonce, old_code=old_code)]


def _say(notice: Notice, start_response: Callable[..., Any]) -> Iterable[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    start_response(_STATUS, headers)
    text = f"The code does not load.\n\n{notice.text}\n"
    return [text.encode("utf-8", "backslashreplace")]


def debugged(app: Application, log: logging.Logger, *, speaks: bool) -> Application:
    """``app`` behind Werkzeug's debugger. Raises ForkserveError if that is not installed."""
    try:
        from werkzeug.debug import DebuggedApplication
    except ImportError as error:
        raise ForkserveError(
            f"--debugger needs Werkzeug ({in_a_line(error)}): pip install 'forkserve[debugger]'"
        ) from None
    debugged_app = DebuggedApplication(app, evalex=True)
    if not hasattr(debugged_app, "trusted_hosts"):
        # Its console would run what the page of any site asks for (CVE-2024-34069).
        raise ForkserveError(
            "--debugger needs Werkzeug 3.0.3 or later, because the one before answers to any name: "
            "pip install --upgrade 'forkserve[debugger]'"
        )
    debugger: Application = debugged_app
    if speaks and debugged_app.pin is None:
        log.warning("the debugger asks for no PIN, because WERKZEUG_DEBUG_PIN is off")
    elif speaks:
        log.info("the debugger's PIN is %s", debugged_app.pin)

    def answer(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # The debugger does not say that its page takes the place of a response that the
            # application had begun (PEP 3333, exc_info).
            current = sys.exc_info()
            return start_response(status, headers, exc_info or (current if current[0] else None))

        return debugger(environ, start)

    return answer
