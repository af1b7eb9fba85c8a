"""Python source, read without running it."""

import ast
import contextlib
import os
from collections.abc import Iterator

_LONGEST = 1 << 20  # octets: what is longer was written by a program


def parse(path: str) -> ast.Module | None:
    """The syntax tree of a file; None for what cannot be read, or is not Python."""
    with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        if os.path.getsize(path) <= _LONGEST:
            with open(path, "rb") as file:
                return ast.parse(file.read())
    return None


def module_file(base: str, module: str) -> str | None:
    """The file of a module that is imported from ``base``; None if it is not there."""
    path = os.path.join(base, *module.split("."))
    for candidate in (f"{path}.py", os.path.join(path, "__init__.py")):
        if os.path.isfile(candidate):
            return candidate
    return None


def body_of(tree: ast.Module) -> Iterator[ast.stmt]:
    """What runs at the import of a module, to the first level of ``try`` and ``if``."""
    for node in tree.body:
        if isinstance(node, ast.Try):
            yield from node.body
        elif isinstance(node, ast.If):
            if "__main__" not in ast.dump(node.test):
                yield from node.body
        else:
            yield node


def called_name(node: ast.Call) -> str:
    """ "flask.Flask" of ``flask.Flask(__name__)``; "" if it is no dotted name of one or two."""
    function = node.func
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return ""
