"""From "module:callable" to the application.

module              its ``application``, else its ``app``
module:name         an attribute; dots go deeper: ``module:site.wsgi``
module:make()       what a factory returns; literal arguments are passed: ``make("prod")``
"""

import ast
import importlib
import os
import traceback
from collections.abc import Callable
from typing import Any

from forkserve.errors import ApplicationError

_DEFAULT_NAMES = ("application", "app")


def load_application(target: str) -> Callable[..., Any]:
    """Import and return the application that ``target`` names.

    Runs the application's code. Raises ApplicationError, with the application's own traceback if it
    is the application that failed. KeyboardInterrupt passes through.
    """
    module_name, _, expression = target.partition(":")
    module = _import(module_name, target)
    try:
        if expression:
            found = _evaluate(module, expression, target)
        else:
            found = _default(module, target)
    except ApplicationError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        raise _failed(f"{target!r} raised {_describe(error)}", error) from None
    if not callable(found):
        raise ApplicationError(
            f"{target!r} is a {type(found).__name__}, and a WSGI application must be callable"
        )
    result: Callable[..., Any] = found
    return result


def _import(name: str, target: str) -> Any:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise ApplicationError(f"{target!r} does not name an application: write module:callable")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ApplicationError(
                f"there is no module {error.name!r}. It is looked for in the working directory "
                f"({os.getcwd()}), in `pythonpath` and in the installed packages"
            ) from None
        raise _failed(f"importing {name!r} failed: {_describe(error)}", error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        raise _failed(f"importing {name!r} failed: {_describe(error)}", error) from None


def _default(module: Any, target: str) -> Any:
    for name in _DEFAULT_NAMES:
        if hasattr(module, name):
            return getattr(module, name)
    raise ApplicationError(
        f"the module {target!r} has neither `application` nor `app`: write {target}:NAME"
    )


def _evaluate(module: Any, expression: str, target: str) -> Any:
    """Look up a dotted name, and call it if the expression does."""
    malformed = ApplicationError(
        f"{target!r} does not name an application: behind the colon stands a name, a dotted name, "
        'or a call like factory() or factory("literal")'
    )
    try:
        node = ast.parse(expression, mode="eval").body
        if not isinstance(node, ast.Call):
            return _look_up(module, node, malformed, target)
        arguments = [ast.literal_eval(item) for item in node.args]
        keywords = {str(item.arg): ast.literal_eval(item.value) for item in node.keywords}
    except (SyntaxError, ValueError):
        raise malformed from None
    return _look_up(module, node.func, malformed, target)(*arguments, **keywords)


def _look_up(module: Any, node: ast.expr, malformed: ApplicationError, target: str) -> Any:
    if isinstance(node, ast.Attribute):
        owner, name = _look_up(module, node.value, malformed, target), node.attr
    elif isinstance(node, ast.Name):
        owner, name = module, node.id
    else:
        raise malformed
    try:
        return getattr(owner, name)
    except AttributeError:
        from difflib import get_close_matches  # only for mistakes

        close = get_close_matches(name, dir(owner), 1)
        hint = f". Did you mean {close[0]!r}?" if close else ""
        raise ApplicationError(f"{target!r}: there is no {name!r}{hint}") from None


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _failed(message: str, error: BaseException) -> ApplicationError:
    """An error with the traceback from the application's first line on, without our own frames."""
    frame = error.__traceback__
    while frame is not None and (
        frame.tb_frame.f_code.co_filename == __file__
        or "importlib" in frame.tb_frame.f_code.co_filename
    ):
        frame = frame.tb_next
    lines = traceback.format_exception(type(error), error, frame)
    return ApplicationError(message, "".join(lines))
