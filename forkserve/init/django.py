"""What the files of a Django project say: its settings and its WSGI application, unexecuted."""

import ast
import os
from dataclasses import dataclass
from typing import Any

from forkserve.errors import ForkserveError
from forkserve.init.source import body_of, module_file, parse

_VARIABLE = "DJANGO_SETTINGS_MODULE"
_DEPTH = 4  # of settings that begin with `from .base import *`


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """``settings`` is the module's name; ``told_by`` says where ``app`` is from; ``static`` is
    (URL, directory)."""

    settings: str
    app: str
    told_by: str
    static: tuple[str, str] | None
    hints: tuple[str, ...]


def read(base: str) -> Project | None:
    """The project whose manage.py is in ``base``; None if there is none.

    Raises ForkserveError for one without a WSGI application.
    """
    tree = parse(os.path.join(base, "manage.py"))
    named = None if tree is None else _settings_module(tree)
    if named is None:
        return None
    settings = named
    values = _values(base, settings, _DEPTH)
    app, told_by = _application(base, settings, values)
    # Those of production may be others, and it is wsgi.py that names them.
    path = module_file(base, app.partition(":")[0])
    served = None if path is None or (tree := parse(path)) is None else _settings_module(tree)
    if served is not None and served != settings:
        told_by += f", which serves with {served}"
        settings, values = served, _values(base, served, _DEPTH)
    static, hints = _static(base, values)
    return Project(
        settings=named,
        app=app,
        told_by=told_by,
        static=static,
        hints=(*hints, *_hints(settings, values)),
    )


def _settings_module(tree: ast.Module) -> str | None:
    """What ``os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")`` names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and len(node.args) >= 2:
            name, value = map(_literal, node.args[:2])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            name, value = _literal(node.targets[0].slice), _literal(node.value)
        else:
            continue
        if name == _VARIABLE and isinstance(value, str):
            return value
    return None


def _application(base: str, settings: str, values: dict[str, ast.expr]) -> tuple[str, str]:
    """("mysite.wsgi:application", why)."""
    named = _literal(values.get("WSGI_APPLICATION"))
    if isinstance(named, str) and "." in named:
        module, _, name = named.rpartition(".")
        if module_file(base, module) is not None:
            return f"{module}:{name}", f"WSGI_APPLICATION is {named}"
    parts = settings.split(".")
    for length in range(len(parts) - 1, -1, -1):
        module = ".".join([*parts[:length], "wsgi"])
        if module_file(base, module) is not None:
            return f"{module}:application", f"{module.replace('.', os.sep)}.py is there"
    raise ForkserveError(
        f"{os.path.join(base, 'manage.py')} names the settings {settings}, and no wsgi.py is seen "
        "beside them. Make one (django-admin startproject shows what it looks like), or name the "
        "application: forkserve init MODULE:CALLABLE"
    )


def _values(base: str, module: str, depth: int) -> dict[str, ast.expr]:
    """name -> expression of what settings assign; those of ``from .base import *`` too."""
    values: dict[str, ast.expr] = {}
    path = module_file(base, module)
    tree = None if path is None or depth == 0 else parse(path)
    if tree is None:
        return values
    is_package = path is not None and path.endswith("__init__.py")
    for node in body_of(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            parts = module.split(".")
            parent = parts[: len(parts) - node.level + is_package] if node.level else []
            values |= _values(base, ".".join([*parent, node.module or ""]).strip("."), depth - 1)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    values[target.id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            values[node.target.id] = node.value
    return values


def _static(
    base: str, values: dict[str, ast.expr]
) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """((URL, directory), hints)."""
    url = _literal(values.get("STATIC_URL"))
    if not isinstance(url, str) or "://" in url:
        return None, ()
    url = f"/{url.strip('/')}/"
    if url == "//":
        return None, ()
    directory = _path(base, values.get("STATIC_ROOT"))
    if directory is None:
        hint = (
            "STATIC_ROOT is not set, or not as a plain path: set STATIC_ROOT = BASE_DIR / "
            '"staticfiles", which is what the files here take for it'
        )
        return (url, os.path.join(base, "staticfiles")), (hint,)
    return (url, directory), ()


def _path(base: str, node: ast.expr | None) -> str | None:
    """The path of ``BASE_DIR / "a"``, ``os.path.join(BASE_DIR, "a")`` or "/a". BASE_DIR is taken
    for the directory of manage.py, as startproject has it."""
    match node:
        case ast.Constant(value=str(text)):
            return os.path.normpath(os.path.join(base, text)) if text else None
        case ast.Name(id="BASE_DIR"):
            return base
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=str(text))):
            parent = _path(base, left)
            return None if parent is None else os.path.normpath(os.path.join(parent, text))
        case ast.Call(func=ast.Attribute(attr="join"), args=[first, *rest]):
            parts = [_literal(item) for item in rest]
            parent = _path(base, first)
            if parent is not None and all(isinstance(part, str) for part in parts):
                return os.path.normpath(os.path.join(parent, *parts))
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return _path(base, inner)
    return None


def _hints(settings: str, values: dict[str, ast.expr]) -> list[str]:
    hints = []
    if _literal(values.get("DEBUG")) is True:
        hints.append(f"DEBUG is True in {settings}: in production it must be False")
    if _literal(values.get("ALLOWED_HOSTS")) in ([], ()):
        hints.append(
            f"ALLOWED_HOSTS is empty in {settings}: it must have the names of the site, or all "
            "requests get a 400 as soon as DEBUG is False"
        )
    return hints


def _literal(node: ast.expr | None) -> Any:
    """The value of a literal; None of everything else."""
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None
