"""From "module:callable" to the application.

module              its ``application``, else its ``app``
module:name         an attribute; dots go deeper: ``module:site.wsgi``
module:make()       what a factory returns; literal arguments are passed: ``make("prod")``
"""

import ast
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from forkserve.errors import ApplicationError, in_a_line, traceback_of

_DEFAULT_NAMES = ("application", "app")
_OWN = (__name__, "importlib")


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
            found = _default(module)
    except ApplicationError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        raise _failed(f"{target!r} raised", error) from None
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
                f"there is no module {error.name!r}{_hint(name)}. It is looked for in the working "
                f"directory ({os.getcwd()}), in `pythonpath` and in the installed packages"
            ) from None
        raise _failed(f"importing {name!r} failed:", error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        raise _failed(f"importing {name!r} failed:", error) from None


def _hint(name: str) -> str:
    """What the name of a module that is not there may be meant to be."""
    parent, _, last = name.rpartition(".")
    if last == "py":
        return f"; write {parent!r}, without the .py"
    if last in dir(sys.modules.get(parent)):
        return f"; did you mean {parent}:{last}?"
    return ""


def _default(module: Any) -> Any:
    for name in _DEFAULT_NAMES:
        if hasattr(module, name):
            return getattr(module, name)
    where = getattr(module, "__file__", None) or "built in"
    raise ApplicationError(
        f"the module {module.__name__!r} ({where}) has neither `application` nor `app`: write "
        f"{module.__name__}:NAME, if it is the module that you mean"
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


def _failed(message: str, error: BaseException) -> ApplicationError:
    """An error with the application's own traceback."""
    return ApplicationError(f"{message} {in_a_line(error)}", traceback_of(error, _OWN))
