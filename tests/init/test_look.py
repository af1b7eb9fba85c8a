"""What is seen in a directory, by its source alone."""

from pathlib import Path

import pytest

from forkserve.errors import ForkserveError
from forkserve.init.look import look

MANAGE = "import os\ndef main():\n    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n"
WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
SETTINGS = (
    "WSGI_APPLICATION = 'mysite.wsgi.application'\nALLOWED_HOSTS = ['a']\nSTATIC_URL = 'static/'\n"
)
FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FACTORY = "from flask import Flask\ndef create_app(config=None):\n    return Flask(__name__)\n"
DJANGO = {"manage.py": MANAGE, "mysite/wsgi.py": WSGI, "mysite/settings.py": SETTINGS}
PLAIN = "def application(environ, start_response): pass\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def write(place: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(place)


@pytest.mark.parametrize(
    ("files", "app", "framework", "why", "root"),
    [
        # Django
        (DJANGO, "mysite.wsgi:application", "Django",
         "manage.py names mysite.settings, and WSGI_APPLICATION is mysite.wsgi.application", ""),
        ({**DJANGO, "mysite/settings.py": "DEBUG = False\n"}, "mysite.wsgi:application", "Django",
         "manage.py names mysite.settings, and mysite/wsgi.py is there", ""),
        ({**DJANGO, "mysite/settings.py": "WSGI_APPLICATION = 'mysite.gone.application'\n"},
         "mysite.wsgi:application", "Django", "mysite/wsgi.py is there", ""),
        ({"src/" + name: text for name, text in DJANGO.items()}, "mysite.wsgi:application", "Django",
         "src/manage.py names mysite.settings", "src"),
        ({"backend/" + name: text for name, text in DJANGO.items()}, "mysite.wsgi:application",
         "Django", "backend/manage.py names", "backend"),
        ({"manage.py": "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings.live'\n",
          "config/wsgi.py": WSGI, "config/settings/live.py": "from .base import *\n"},
         "config.wsgi:application", "Django", "config/wsgi.py is there", ""),
        # Flask
        ({"shop.py": FLASK}, "shop:app", "Flask", "shop.py has `app` of Flask", ""),
        ({"shop.py": "import flask as f\nsite = f.Flask('x')\n"}, "shop:site", "Flask", "`site`", ""),
        ({"shop.py": "from flask import Flask as F\napp: F = F('x')\n"}, "shop:app", "Flask", "`app`", ""),
        ({"shop.py": FACTORY}, "shop:create_app()", "Flask",
         "shop.py has the factory create_app() of Flask", ""),
        ({"shop/__init__.py": FACTORY}, "shop:create_app()", "Flask", "shop/__init__.py has", ""),
        ({"shop/__init__.py": FACTORY, "wsgi.py": "from shop import create_app\napp = create_app()\n"},
         "wsgi:app", "Flask", "wsgi.py has `app`", ""),
        ({"shop.py": FLASK, "wsgi.py": "from shop import app as application\n"},
         "wsgi:application", "WSGI", "wsgi.py has `application`", ""),
        ({"src/shop/__init__.py": FLASK}, "shop:app", "Flask", "src/shop/__init__.py has `app`", "src"),
        ({"shop.py": FLASK, "app.py": FLASK}, "app:app", "Flask", "app.py has", ""),
        ({"test_shop.py": FLASK, "tests/__init__.py": FLASK, "setup.py": FLASK, "web.py": FLASK},
         "web:app", "Flask", "web.py has", ""),
        ({"shop.py": "try:\n    from flask import Flask\n    app = Flask('x')\nexcept OSError: pass\n"},
         "shop:app", "Flask", "", ""),
        ({"broken.py": "def (", "octets.py": "\0", "shop.py": FLASK}, "shop:app", "Flask", "", ""),
        # Others
        ({"shop.py": "import bottle\napp = bottle.Bottle()\n"}, "shop:app", "Bottle", "", ""),
        ({"shop.py": "from falcon import App\napplication = App()\n"}, "shop:application", "Falcon", "", ""),
        ({"shop.py": PLAIN}, "shop:application", "WSGI", "shop.py has `application`", ""),
    ],
)  # fmt: skip
def test_what_is_found(
    place: Path, files: dict[str, str], app: str, framework: str, why: str, root: str
) -> None:
    found = look(write(place, files))
    assert (found.app, found.framework, found.root) == (app, framework, root)
    assert why in found.why


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({}, "no application is seen"),
        ({"shop.py": "x = 1\n"}, "forkserve init MODULE:CALLABLE"),
        ({"shop.py": "from flask import Flask\ndef create_app(config): return Flask('x')\n"},
         "no application is seen"),
        ({"shop.py": "from flask import Flask\nif __name__ == '__main__':\n    app = Flask('x')\n"},
         "no application is seen"),
        ({"main.py": "from fastapi import FastAPI\napp = FastAPI()\n"},
         "main.py has `app` of FastAPI: that is an ASGI application"),
        ({"manage.py": MANAGE, "mysite/settings.py": ""}, "no wsgi.py is seen"),
    ],
)  # fmt: skip
def test_what_is_refused(place: Path, files: dict[str, str], part: str) -> None:
    place.mkdir()
    with pytest.raises(ForkserveError, match="application") as caught:
        look(write(place, files))
    assert part in str(caught.value)


def test_a_directory_that_is_not_there(place: Path) -> None:
    with pytest.raises(ForkserveError, match=r"\(--dir\) cannot be looked at: No such file"):
        look(str(place))


def test_nothing_is_executed(place: Path) -> None:
    trap = "raise SystemExit('executed')\n"
    files = {name: trap + text for name, text in DJANGO.items()}
    assert look(write(place, files)).app == "mysite.wsgi:application"
    assert not list(place.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("settings", "static", "hint"),
    [
        ("STATIC_ROOT = BASE_DIR / 'files' / 'static'", "{}/files/static", None),
        ("STATIC_ROOT = os.path.join(BASE_DIR, 'out')", "{}/out", None),
        ("STATIC_ROOT = str(BASE_DIR / 'out')", "{}/out", None),
        ("STATIC_ROOT = '/var/www/static/'", "/var/www/static", None),
        (
            "STATIC_ROOT = environ('X')",
            "{}/staticfiles",
            "STATIC_ROOT is not set, or not as a plain",
        ),
        ("", "{}/staticfiles", "STATIC_ROOT is not set"),
        ("DEBUG = True", "{}/staticfiles", "DEBUG is True in mysite.settings"),
        ("ALLOWED_HOSTS = []", "{}/staticfiles", "ALLOWED_HOSTS is empty in mysite.settings"),
    ],
)
def test_what_settings_of_django_say(
    place: Path, settings: str, static: str, hint: str | None
) -> None:
    base = write(place, {**DJANGO, "mysite/settings.py": f"{SETTINGS}{settings}\n"})
    found = look(base)
    assert found.static == ("/static/", static.format(base))
    assert (found.hints == ()) if hint is None else any(hint in told for told in found.hints)


def test_settings_that_begin_with_others(place: Path) -> None:
    files = {
        "manage.py": MANAGE.replace("mysite.settings", "mysite.settings.live"),
        "mysite/wsgi.py": WSGI,
        "mysite/settings/__init__.py": "",
        "mysite/settings/base.py": f"{SETTINGS}DEBUG = True\nfrom .live import *\n",
        "mysite/settings/live.py": "from .base import *\nSTATIC_ROOT = BASE_DIR / 'out'\nDEBUG = False\n",
    }
    found = look(write(place, files))
    assert found.static == ("/static/", f"{place}/out")
    assert found.hints == ()


def test_the_settings_that_serve_are_those_of_wsgi_py(place: Path) -> None:
    """manage.py names those of development in many projects."""
    files = {
        "manage.py": MANAGE.replace("mysite.settings", "mysite.settings.local"),
        "mysite/wsgi.py": f"import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings.live')\n{WSGI}",
        "mysite/settings/__init__.py": "",
        "mysite/settings/local.py": f"{SETTINGS}DEBUG = True\n",
        "mysite/settings/live.py": f"{SETTINGS}STATIC_ROOT = BASE_DIR / 'out'\n",
    }
    found = look(write(place, files))
    assert found.why.startswith("manage.py names mysite.settings.local, and")
    assert found.why.endswith("which serves with mysite.settings.live")
    assert (found.static, found.hints) == (("/static/", f"{place}/out"), ())


@pytest.mark.parametrize("url", ["", "https://cdn.example/", "/"])
def test_static_files_that_are_not_here(place: Path, url: str) -> None:
    settings = SETTINGS.replace("'static/'", repr(url))
    assert look(write(place, {**DJANGO, "mysite/settings.py": settings})).static is None


def test_the_static_files_of_flask(place: Path) -> None:
    base = write(place, {"shop/__init__.py": FLASK, "shop/static/a.css": ""})
    assert look(base).static == ("/static/", f"{base}/shop/static")


@pytest.mark.parametrize(
    ("files", "target", "framework", "hint"),
    [
        ({"shop.py": FLASK}, "shop:other", "Flask", None),
        ({"src/shop/__init__.py": FLASK}, "shop:other", "Flask", None),
        ({"shop.py": "x = 1\n"}, "shop:other", "WSGI", None),
        (DJANGO, "other.wsgi:application", "Django", None),
        ({"shop.py": ""}, "elsewhere:app", "WSGI", "no module elsewhere is seen"),
    ],
)
def test_an_application_that_was_named(
    place: Path, files: dict[str, str], target: str, framework: str, hint: str | None
) -> None:
    found = look(write(place, files), target)
    assert (found.app, found.framework, found.why) == (target, framework, f"{target} was named")
    if hint is not None:
        assert hint in found.hints[0]
