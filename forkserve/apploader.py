"""From "module:callable" to the application.

module              its ``application``, else its ``app``
module:name         an attribute; dots go deeper: ``module:site.wsgi``
module:make()       what a factory returns; literal arguments are passed: ``make("prod")``
"""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from forkserve.errors import ApplicationError, in_a_line, traceback_of
from forkserve.proc.strays import strays_end_here

_DEFAULT_NAMES = ("application", "app")
_OWN = (__name__, "importlib")

# How factories are called that could be called like an application, too: all has a default.
_FACTORY = re.compile("(create|make|build|get)_")

# How far a module that is not there is looked for, so that the message can say where it is.
_MOST_DIRECTORIES = 300
_DEPTH = 2
_NOT_LOOKED_INTO = {"node_modules", "site-packages", "venv", "env", "__pycache__"}


def load_application(target: str) -> Callable[..., Any]:
    """Import and return the application that ``target`` names.

    Runs the application's code. Raises ApplicationError, with the application's own traceback if it
    is the application that failed. KeyboardInterrupt passes through.
    """
    try:
        found = _load(target)
        _refuse_what_is_not_wsgi(found, target)
    except ApplicationError as error:
        why = f"cannot load {target!r} (`app`): {error}"
        raise ApplicationError(why, error.traceback) from None
    result: Callable[..., Any] = found
    return result


def _load(target: str) -> Any:
    module_name, _, expression = target.partition(":")
    module = _import(module_name)
    try:
        if expression:
            return _evaluate(module, expression)
        return _default(module)
    except ApplicationError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises
        raise _failed(f"{expression or module_name} raised", error) from None


def _import(name: str) -> Any:
    if not all(name.split(".")):
        raise ApplicationError("it does not name an application: write module:callable")
    try:
        with strays_end_here():  # who is forked by the import is not who serves
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ApplicationError(
                f"there is no module {error.name!r}{_hint(name)}. It is looked for in the working "
                f"directory ({os.getcwd()}), in `pythonpath` and in the installed packages"
                f"{_elsewhere(error.name)}"
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
    made = [name for name in vars(module) if _FACTORY.match(name) and "app" in name]
    advice = (
        f"{module.__name__}:{made[0]}() calls the factory that it has"
        if made
        else f"write {module.__name__}:NAME, if it is the module that you mean"
    )
    if hasattr(module, "__path__") and find_spec(f"{module.__name__}.wsgi") is not None:
        advice = f"did you mean its module {module.__name__}.wsgi?"
    raise ApplicationError(
        f"the module {module.__name__!r} ({where}) has neither `application` nor `app`: {advice}"
    )


def _evaluate(module: Any, expression: str) -> Any:
    """Look up a dotted name, and call it if the expression does."""
    malformed = ApplicationError(
        "it does not name an application: behind the colon stands a name, a dotted name, "
        'or a call like factory() or factory("literal")'
    )
    try:
        node = ast.parse(expression, mode="eval").body
        if not isinstance(node, ast.Call):
            return _look_up(module, node, malformed)
        arguments = [ast.literal_eval(item) for item in node.args]
        keywords = {str(item.arg): ast.literal_eval(item.value) for item in node.keywords}
    except (SyntaxError, ValueError):
        raise malformed from None
    with strays_end_here():
        return _look_up(module, node.func, malformed)(*arguments, **keywords)


def _look_up(module: Any, node: ast.expr, malformed: ApplicationError) -> Any:
    if isinstance(node, ast.Attribute):
        owner, name = _look_up(module, node.value, malformed), node.attr
    elif isinstance(node, ast.Name):
        owner, name = module, node.id
    else:
        raise malformed
    try:
        return getattr(owner, name)
    except AttributeError:
        from difflib import get_close_matches  # only for mistakes

        close = get_close_matches(name, dir(owner), 1)
        where = f" in {module.__name__} ({getattr(module, '__file__', None) or 'built in'})"
        hint = f". Did you mean {close[0]!r}?" if close else f"{where}. Has it another name?"
        raise ApplicationError(f"there is no {name!r}{hint}") from None


def _failed(message: str, error: BaseException) -> ApplicationError:
    """An error with the application's own traceback."""
    return ApplicationError(f"{message} {in_a_line(error)}", traceback_of(error, _OWN))


def _elsewhere(name: str) -> str:
    """The rest of a sentence, if the module that was not found stands in a directory nearby."""
    here, path = os.getcwd(), name.replace(".", os.sep)
    for directory in (*_below(here), os.path.dirname(here)):
        if directory != here and (
            os.path.isfile(os.path.join(directory, f"{path}.py"))
            or os.path.isfile(os.path.join(directory, path, "__init__.py"))
        ):
            return f". There is one in {directory}: start forkserve there, or set --chdir to it"
    return ". Start forkserve where it is, or set --chdir to that directory"


def _below(top: str) -> Iterator[str]:
    """Directories under ``top``, those near it first; not very many, whatever is there."""
    level = [top]
    left = _MOST_DIRECTORIES
    for _ in range(_DEPTH):
        deeper: list[str] = []
        for directory in level:
            try:
                with os.scandir(directory) as entries:
                    deeper += sorted(
                        entry.path
                        for entry in entries
                        if entry.name not in _NOT_LOOKED_INTO
                        and not entry.name.startswith(".")
                        and entry.is_dir(follow_symlinks=False)
                    )
            except OSError:
                continue
            if len(deeper) >= left:
                break
        yield from deeper[:left]
        left -= len(deeper)
        level = deeper
        if left <= 0:
            return


def _refuse_what_is_not_wsgi(found: Any, target: str) -> None:
    """Raises ApplicationError for what cannot be called as PEP 3333 calls an application: at once,
    and not in the first request."""
    if not callable(found):
        raise ApplicationError(
            f"it is a {type(found).__name__}, and a WSGI application must be callable"
        )
    call = found if inspect.isroutine(found) else type(found).__call__
    if any(map(inspect.iscoroutinefunction, (found, call))):
        raise ApplicationError(
            "it is an ASGI application, and forkserve serves WSGI. Name the WSGI one (Django: "
            "mysite.wsgi, not mysite.asgi), wrap it (a2wsgi.ASGIMiddleware), or take a server "
            "for ASGI"
        )
    try:
        # Not that of what a decorator has wrapped: it is the wrapper that is called.
        signature = inspect.signature(found, follow_wrapped=False)
    except Exception:  # noqa: BLE001 - much does not tell: C code, and what stands for another
        return
    takes_none, takes_two = _takes(signature, 0), _takes(signature, 2)
    name = getattr(found, "__name__", "")
    if takes_none and (not takes_two or (inspect.isfunction(found) and _FACTORY.match(name))):
        what = "a class" if inspect.isclass(found) else "a factory, which makes the application"
        call_it = f"{target}()" if ":" in target else f"{target}:{name}()"
        raise ApplicationError(f"it is {what}, and was not called: write {call_it!r}")
    if not takes_two:
        raise ApplicationError(
            f"it takes the arguments {signature}, and a WSGI application (environ, "
            "start_response). If it makes the application, call it: "
            f"{target.partition(':')[0]}:{name or 'NAME'}(...)"
        )


def _takes(signature: inspect.Signature, count: int) -> bool:
    """Whether it can be called with so many positional arguments."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
