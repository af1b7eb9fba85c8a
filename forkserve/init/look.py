"""Which application a directory holds, told by its source.

Source is read as text and parsed, never imported: to look at a project must not start it. Django is
recognised by its manage.py, Flask and its like by an assignment or a factory, and plain WSGI by a
function of (environ, start_response).
"""

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from forkserve.errors import ForkserveError
from forkserve.init import django
from forkserve.init.source import body_of, called_name, module_file, parse

# The classes that applications are made of, by the package that they are imported from.
_CLASSES = {"flask": "Flask", "bottle": "Bottle", "falcon": "App"}
_ASGI = {"fastapi": "FastAPI", "starlette": "Starlette", "quart": "Quart", "litestar": "Litestar"}

_FACTORY = re.compile("(create|make|build|get)_?(wsgi_?)?app(lication)?")
_FIRST = ("wsgi.py", "app.py", "application.py", "main.py", "run.py", "server.py")
_NOT_MEANT = re.compile(r"(test_.*|.*_test|tests|conftest|setup|noxfile|fabfile|tasks)\.py")
_MOST_FILES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``app`` as forkserve takes it, and ``why`` in words.

    ``root``: the directory that its module is imported from, below the one that was looked at, ""
    for that itself. ``static``: (URL, directory) of files for nginx. ``hints``: what the operator
    has to mind.
    """

    app: str
    framework: str
    why: str
    root: str = ""
    static: tuple[str, str] | None = None
    hints: tuple[str, ...] = ()


def look(directory: str, target: str | None = None) -> Found:
    """What ``directory`` holds; ``target`` is the application, if the operator has named it.

    Raises ForkserveError if none is seen.
    """
    roots = ["", *(name for name in ("src", *_subdirectories(directory)) if name != "src")]
    if os.path.isdir(os.path.join(directory, "src")):
        roots.insert(1, "src")
    for root in roots:
        found = _django(directory, root)
        if found is not None:
            return found if target is None else replace(found, app=target, why=_named(target))
    roots = roots[: 2 if "src" in roots[:2] else 1]
    if target is not None:
        return _of_target(directory, roots, target)
    seen = [item for root in roots for item in _applications(directory, root)]
    if not seen:
        raise ForkserveError(
            f"no application is seen in {directory}: neither manage.py of Django, nor a file with "
            "`app = Flask(...)`, a factory like create_app(), or a function of (environ, "
            "start_response). Name it: forkserve init MODULE:CALLABLE; or its directory: --dir DIR"
        )
    best = min(seen, key=lambda item: item.rank)
    if best.framework in _ASGI.values():
        raise ForkserveError(
            f"{best.why}: that is an ASGI application, and forkserve serves WSGI. Take a server "
            "for ASGI, or name a WSGI application: forkserve init MODULE:CALLABLE"
        )
    return _with_static(directory, best.found())


def _named(target: str) -> str:
    return f"{target} was named"


# ---- Django


def _django(directory: str, root: str) -> Found | None:
    base = os.path.join(directory, root)
    project = django.read(base)
    if project is None:
        return None
    where = os.path.join(root, "manage.py")
    return Found(
        app=project.app,
        framework="Django",
        why=f"{where} names {project.settings}, and {project.told_by}",
        root=root,
        static=project.static,
        hints=project.hints,
    )


# ---- the others


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """An application in a file. The least ``rank`` is the likeliest."""

    rank: tuple[int, int, int, str]
    target: str
    framework: str
    why: str
    root: str
    hint: str = ""

    def found(self) -> Found:
        hints = (self.hint,) if self.hint else ()
        return Found(
            app=self.target, framework=self.framework, why=self.why, root=self.root, hints=hints
        )


def _of_target(directory: str, roots: list[str], target: str) -> Found:
    """What is known of the application that the operator has named."""
    module = target.partition(":")[0]
    for root in roots:
        path = module_file(os.path.join(directory, root), module)
        if path is not None:
            text = parse(path)
            packages = _imported(text)[1] if text is not None else set()
            framework = next((kind for name, kind in _CLASSES.items() if name in packages), "WSGI")
            found = Found(app=target, framework=framework, why=_named(target), root=root)
            return _with_static(directory, found)
    hint = (
        f"no module {module} is seen in {directory}: it must be installed where forkserve is, or "
        "`pythonpath` name its directory"
    )
    return Found(app=target, framework="WSGI", why=_named(target), hints=(hint,))


def _applications(directory: str, root: str) -> Iterator[_Seen]:
    """What the files of one directory, and of the packages in it, define."""
    base = os.path.join(directory, root)
    for number, (depth, path) in enumerate(_files(base)):
        tree = parse(path)
        if number >= _MOST_FILES:
            return
        if tree is None:
            continue
        shown = os.path.relpath(path, base).removesuffix(".py").replace(os.sep, ".")
        module = shown.removesuffix(".__init__")
        name = os.path.basename(path)
        place = _FIRST.index(name) if name in _FIRST else len(_FIRST)
        where = os.path.relpath(path, directory)
        for kind, made, framework, hint in _made_by(tree):
            # What exists comes before what has to be made; then by the name of the file.
            callable_name = f"{made}()" if kind == "factory" else made
            what = f"the factory {made}()" if kind == "factory" else f"`{made}`"
            yield _Seen(
                rank=(kind == "factory", place, depth + (made not in ("application", "app")), path),
                target=f"{module}:{callable_name}",
                framework=framework,
                why=f"{where} has {what}" + ("" if framework == "WSGI" else f" of {framework}"),
                root=root,
                hint=hint,
            )


def _files(base: str) -> Iterator[tuple[int, str]]:
    """(depth, path) of the modules in ``base``, and of those in its packages."""
    names = sorted(os.listdir(base))
    for name in names:
        if name.endswith(".py") and not _NOT_MEANT.fullmatch(name):
            yield 0, os.path.join(base, name)
    for name in names:
        package = os.path.join(base, name)
        if os.path.isfile(os.path.join(package, "__init__.py")) and name != "tests":
            for inner in sorted(os.listdir(package)):
                if inner.endswith(".py") and not _NOT_MEANT.fullmatch(inner):
                    yield 1, os.path.join(package, inner)


def _imported(tree: ast.Module) -> tuple[dict[str, str], set[str]]:
    """(how a class is called here -> framework, the packages that are imported)."""
    classes, packages = {}, set()
    known = _CLASSES | _ASGI
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            package = node.module.partition(".")[0]
            packages.add(package)
            for alias in node.names:
                if known.get(package) == alias.name:
                    classes[alias.asname or alias.name] = _label(package)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.partition(".")[0]
                packages.add(package)
                if package in known:
                    classes[f"{alias.asname or package}.{known[package]}"] = _label(package)
    return classes, packages


def _label(package: str) -> str:
    return {**_ASGI, "flask": "Flask", "bottle": "Bottle", "falcon": "Falcon"}[package]


def _made_by(tree: ast.Module) -> Iterator[tuple[str, str, str, str]]:
    """("instance" or "factory", name, framework, hint) of what a module defines at its top."""
    classes, _ = _imported(tree)
    factories: dict[str, str] = {}
    for node in body_of(tree):
        if isinstance(node, ast.FunctionDef):
            made = _makes(node, classes)
            if made is not None:
                factories[node.name] = made
                if _required(node):
                    continue  # nobody here knows its arguments
                yield "factory", node.name, made, ""
            elif [item.arg for item in node.args.args[:2]] == ["environ", "start_response"]:
                yield "instance", node.name, "WSGI", ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                if _FACTORY.fullmatch(alias.name):
                    factories[name] = next(iter(classes.values()), "Flask")
                elif name == "application":  # `from shop import app as application`
                    yield "instance", name, next(iter(classes.values()), "WSGI"), ""
        for name, call in _assigned(node):
            made = classes.get(call) or factories.get(call)
            if made is not None:
                yield "instance", name, made, ""


def _makes(function: ast.FunctionDef, classes: dict[str, str]) -> str | None:
    """The framework of which a function makes an application."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and (made := classes.get(called_name(node))):
            return made
    return None


def _required(function: ast.FunctionDef) -> bool:
    """Whether a function must be given something."""
    arguments = function.args
    without = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return without > 0 or any(default is None for default in arguments.kw_defaults)


def _assigned(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """(name, what is called) of ``name = call(...)``."""
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, called_name(node.value)


def _with_static(directory: str, found: Found) -> Found:
    """With the directory of Flask's static files, if there is one."""
    if found.framework != "Flask":
        return found
    package = found.app.partition(":")[0].partition(".")[0]
    for where in (package, ""):
        path = os.path.join(directory, found.root, where, "static")
        if os.path.isdir(path):
            return replace(found, static=("/static/", os.path.normpath(path)))
    return found


def _subdirectories(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise ForkserveError(
            f"{directory} (--dir) cannot be looked at: {error.strerror}. Name the directory of "
            "your application"
        ) from None
    return [name for name in names if os.path.isfile(os.path.join(directory, name, "manage.py"))]
