"""``forkserve init``: the real command, and each of the four files with the program it is for."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.command.harness import COMMAND, Server, run, unix_client
from tests.command.proxies import OUR_USER, complaints, nginx
from tests.conftest import need
from tests.test_documents import need_or_skip

Start = Callable[..., Server]

FACTORY = """
from flask import Flask
def create_app():
    app = Flask(__name__)
    app.add_url_rule("/", view_func=lambda: "hello from Flask")
    return app
"""
PAGE = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse(f"hello from {request.get_host()}"))]
"""


@pytest.fixture
def flask(tmp_path: Path) -> Path:
    place = tmp_path / "shop"
    (place / "static").mkdir(parents=True)
    (place / "static" / "a.txt").write_text("a static file")
    (place / "shop.py").write_text(FACTORY)
    (place / "requirements.txt").write_text("flask\nForkserve>=0.1\n")
    return place


@pytest.fixture
def django(tmp_path: Path) -> Path:
    """What startproject makes, ready for production."""
    place = tmp_path / "my-site"
    place.mkdir()
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite", str(place)], check=True
    )
    settings = place / "mysite" / "settings.py"
    text = settings.read_text().replace("DEBUG = True", "DEBUG = False")
    text = text.replace("ALLOWED_HOSTS = []", 'ALLOWED_HOSTS = ["localhost"]')
    settings.write_text(f'{text}\nSTATIC_ROOT = BASE_DIR / "public"\n')
    (place / "mysite" / "urls.py").write_text(PAGE)
    return place


def init(*arguments: str, cwd: Path, status: int = 0) -> str:
    result = run("init", *arguments, cwd=cwd)
    assert result.returncode == status, result.stdout + result.stderr
    text: str = result.stdout + result.stderr
    assert "Traceback" not in text
    return text


def written(place: Path, before: set[Path]) -> set[str]:
    return {path.name for path in set(place.iterdir()) - before}


def test_flask_is_found_and_served(start: Start, flask: Path) -> None:
    before = set(flask.iterdir())
    said = init(cwd=flask)
    assert "found: Flask: shop:create_app() (shop.py has the factory create_app() of Flask)" in said
    names = {"forkserve.toml", "shop.service", "shop.nginx.conf", "Dockerfile"}
    assert written(flask, before) == names
    assert {f"wrote: {name} (" in said for name in names} == {True}
    assert "forkserve --check-config -c forkserve.toml" in said
    check = run("--check-config", "-c", "forkserve.toml", cwd=flask)
    assert (check.returncode, check.stderr) == (0, "")
    unit = dict(
        line.split("=", 1)
        for line in (flask / "shop.service").read_text().splitlines()
        if "=" in line
    )
    assert unit["ExecStart"] == f"/usr/bin/env forkserve -c {flask}/forkserve.toml"
    path = unit["Environment"].removeprefix("PATH=")
    assert shutil.which("forkserve", path=path) == COMMAND
    server = start("-c", f"{flask}/forkserve.toml", cwd=unit["WorkingDirectory"])
    assert server.get() == (200, b"hello from Flask")


def test_requirements_that_forget_forkserve(flask: Path) -> None:
    hint = "requirements.txt does not name forkserve"
    assert hint not in init(cwd=flask)
    (flask / "requirements.txt").write_text("flask\n# forkserve\n")
    assert hint in init("--force", cwd=flask)


def test_django_is_found_and_served(start: Start, django: Path) -> None:
    said = init(cwd=django)
    assert "found: Django: mysite.wsgi:application (manage.py names mysite.settings" in said
    assert "STATIC_ROOT" not in said and "ALLOWED_HOSTS" not in said
    assert "python manage.py collectstatic" in said
    server = start("-c", "forkserve.toml", cwd=django)
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response().content == b"hello from localhost"  # type: ignore[attr-defined]
    assert "debug mode" not in server.log


def test_what_django_lacks_for_production_is_said(django: Path) -> None:
    settings = django / "mysite" / "settings.py"
    settings.write_text(
        settings.read_text().replace("DEBUG = False", "DEBUG = True").replace('["localhost"]', "[]")
    )
    said = init("--dir", str(django), cwd=django.parent)
    assert "DEBUG is True in mysite.settings" in said
    assert "ALLOWED_HOSTS is empty in mysite.settings" in said
    assert f"cd {django} && forkserve -c forkserve.toml" in said
    check = run("--check-config", "-c", "forkserve.toml", cwd=django)
    assert check.returncode == 0
    assert "the application runs in debug mode: `DEBUG` is True in mysite.settings" in check.stderr


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[[Path, int], Path]]:
    """``proxy(site, port)`` runs nginx with that site, in front of that port; returns its socket."""
    with ExitStack() as running:

        def starter(site: Path, port: int) -> Path:
            front, text = tmp_path / "front.sock", site.read_text()
            for old, new in (
                ("listen 80;", f"listen unix:{front};"),
                ("127.0.0.1:8000;", f"127.0.0.1:{port};"),
            ):
                assert old in text
                text = text.replace(old, new)
            config = (
                f"{OUR_USER} daemon off; pid {tmp_path}/nginx.pid;\n"
                f"error_log {tmp_path}/nginx.log notice;\nevents {{}}\n"
                f"http {{ access_log off;\n{text}}}\n"
            )
            running.enter_context(nginx(config, tmp_path))
            return front

        yield starter
    log = tmp_path / "nginx.log"
    assert not log.exists() or complaints(log) == []


def test_the_site_serves_files_and_application(
    start: Start, flask: Path, proxy: Callable[[Path, int], Path]
) -> None:
    init(cwd=flask)
    server = start("-c", "forkserve.toml", cwd=flask)
    with unix_client(proxy(flask / "shop.nginx.conf", server.port)) as client:
        assert client.get("/") == (200, b"hello from Flask")
        assert client.get("/static/a.txt") == (200, b"a static file")


def test_the_static_files_of_django_are_collected_where_nginx_looks(django: Path) -> None:
    init(cwd=django)
    site = (django / "my-site.nginx.conf").read_text()
    assert f"location /static/ {{\n        alias {django}/public/;" in site
    result = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput"],
        cwd=django, capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert str(django / "public") in result.stdout


def test_nginx_has_checked_the_site(flask: Path) -> None:
    need("nginx")
    assert "wrote: shop.nginx.conf (nginx -t)" in init(cwd=flask)


def test_systemd_accepts_the_unit(flask: Path) -> None:
    program = need_or_skip("systemd-analyze")
    assert "wrote: shop.service (systemd-analyze verify)" in init(cwd=flask)
    result = subprocess.run(
        [program, "verify", "--man=no", str(flask / "shop.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_programs_that_are_not_there_are_named(flask: Path, tmp_path: Path) -> None:
    """The files are written all the same."""
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    script = (
        "import forkserve.init.verify as v; v._DIRECTORIES = ''\n"
        "from forkserve.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "init"], cwd=flask, env={"PATH": str(nowhere)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "shop.service (not checked: there is no systemd-analyze here)" in result.stdout
    assert "shop.nginx.conf (not checked: there is no nginx here)" in result.stdout


def test_the_dockerfile_starts_the_application(start: Start, flask: Path) -> None:
    """As far as that can be told without Docker."""
    init(cwd=flask)
    lines = (flask / "Dockerfile").read_text().splitlines()
    command = json.loads(lines[-1].removeprefix("CMD "))
    assert command[0] == "forkserve"
    result = run(*command[1:], "--print-config", cwd=flask)
    assert 'bind = ["0.0.0.0:8000"]  # --bind' in result.stdout
    assert 'app = "shop:create_app()"' in result.stdout
    server = start(*command[1:-1], "127.0.0.1:0", cwd=flask, bind=None)
    assert server.get() == (200, b"hello from Flask")


def test_what_is_there_is_kept(flask: Path) -> None:
    (flask / "Dockerfile").write_text("mine\n")
    said = init(cwd=flask)
    assert "kept:  Dockerfile is there already; --force writes over it" in said
    assert (flask / "Dockerfile").read_text() == "mine\n"
    assert (flask / "forkserve.toml").exists()
    before = {path: path.read_bytes() for path in flask.iterdir() if path.is_file()}
    assert "nothing was written" in init(cwd=flask, status=1)
    assert before == {path: path.read_bytes() for path in flask.iterdir() if path.is_file()}
    assert "wrote: Dockerfile" in init("--force", cwd=flask)
    assert "HEALTHCHECK" in (flask / "Dockerfile").read_text()


def test_a_link_is_replaced_and_not_followed(flask: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine\n")
    (flask / "forkserve.toml").symlink_to(tmp_path / "mine")
    assert "kept:  forkserve.toml" in init(cwd=flask)
    init("--force", cwd=flask)
    assert (tmp_path / "mine").read_text() == "mine\n"
    assert not (flask / "forkserve.toml").is_symlink()


def test_an_application_that_is_named(start: Start, flask: Path) -> None:
    said = init("shop:create_app()", cwd=flask)
    assert "found: Flask: shop:create_app() (shop:create_app() was named)" in said
    assert start("-c", "forkserve.toml", cwd=flask).get()[0] == 200


@pytest.mark.parametrize(
    ("arguments", "source", "status", "part"),
    [
        ([], "", 1, "no application is seen in"),
        ([], "from fastapi import FastAPI\napp = FastAPI()\n", 1, "that is an ASGI application"),
        (["12:34"], "", 2, "'12:34' is not like module:callable"),
        (["--dir", "gone"], "", 1, "(--dir) cannot be looked at: No such file or directory"),
        (["a:b", "c:d"], "", 2, "unexpected extra argument"),
    ],
)
def test_refusals(
    tmp_path: Path, arguments: list[str], source: str, status: int, part: str
) -> None:
    (tmp_path / "main.py").write_text(source)
    assert part in init(*arguments, cwd=tmp_path, status=status)
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


def test_a_path_that_systemd_would_read_otherwise(flask: Path) -> None:
    odd = flask.rename(flask.parent / "my shop 100%")
    said = init(cwd=odd, status=1)
    assert "has characters that systemd and nginx would read otherwise" in said
    assert not (odd / "forkserve.toml").exists()


def test_a_directory_whose_name_would_be_lines_of_a_file(django: Path) -> None:
    """Of a project that somebody else has made, whose static files are elsewhere."""
    settings = django / "mysite" / "settings.py"
    settings.write_text(f'{settings.read_text()}\nSTATIC_URL = "https://static.example/"\n')
    inner = django / "site\nRUN touch pwned\n#"
    inner.mkdir()
    (django / "manage.py").rename(inner / "manage.py")
    (django / "mysite").rename(inner / "mysite")
    text = init("--dir", str(django), cwd=django.parent, status=1)
    assert "has characters that systemd and nginx would read otherwise" in text
    assert not (django / "Dockerfile").exists()


def test_nothing_of_the_application_is_executed(flask: Path) -> None:
    trap = f"open({str(flask / 'executed')!r}, 'w')\n"
    for name in ("shop.py", "forkserve.py", "click.py"):
        source = (flask / name).read_text() if (flask / name).exists() else ""
        (flask / name).write_text(f"{trap}{source}")
    init(cwd=flask)
    assert not (flask / "executed").exists()


def test_an_application_that_is_called_init(start: Start, flask: Path) -> None:
    (flask / "shop.py").rename(flask / "init.py")
    assert start("init:create_app()", cwd=flask).get() == (200, b"hello from Flask")


def test_a_directory_that_the_service_may_not_enter_is_named(flask: Path) -> None:
    flask.chmod(0o700)
    assert "of the service, may not enter /" in init(cwd=flask)


def test_a_reader_that_goes_away(flask: Path) -> None:
    result = subprocess.run(
        ["sh", "-c", f"{COMMAND} init | true"],
        cwd=flask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr and "cannot be written" not in result.stderr


@pytest.mark.parametrize("name", ["tmp", "a path; that is {too} long for a unix socket " * 3])
def test_the_temporary_directory_is_gone(flask: Path, tmp_path: Path, name: str) -> None:
    places = tmp_path / name
    places.mkdir()
    result = run("init", cwd=flask, env={"TMPDIR": str(places)})
    assert result.returncode == 0
    assert list(places.iterdir()) == []


def test_the_working_directory_is_gone(flask: Path) -> None:
    command = f"cd {flask} && mv {flask} {flask}.old && rm -r {flask}.old && exec {COMMAND} init"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "forkserve init: the working directory is gone: somebody has removed it, or put another in "
        "its place. Enter it anew\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can go without its rights")
def test_a_directory_that_cannot_be_written(flask: Path) -> None:
    flask.chmod(0o555)
    drop = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        drop,
        shutil.which("forkserve", path=os.path.dirname(sys.executable)) or "",
    ]
    result = subprocess.run(
        [*command, "init"], cwd=flask, capture_output=True, text=True, check=False
    )
    flask.chmod(0o755)
    assert result.returncode == 1
    assert (
        "cannot be written: Permission denied. User 0 must be able to write in ." in result.stderr
    )


def test_the_templates_are_in_the_package() -> None:
    """flit packs what is beside the modules; nothing may name a path of the checkout."""
    root = Path(__file__).parents[2] / "forkserve" / "init"
    assert {path.stem for path in (root / "templates").iterdir()} == {
        "service", "nginx", "nginx-whole", "Dockerfile",
    }  # fmt: skip
    for path in root.glob("*.py"):
        assert "__file__" not in ast.dump(ast.parse(path.read_text()))
