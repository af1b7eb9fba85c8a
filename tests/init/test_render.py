"""The texts of the four files, and that the repository's examples are the same ones."""

import configparser
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from forkserve.init.examples import EXAMPLES
from forkserve.init.look import Found
from forkserve.init.render import Place, files, fill
from forkserve.settings import load_settings

ROOT = Path(__file__).parents[2]
PLACE = Place(
    directory="/srv/shop", name="shop", path="/srv/shop/.venv/bin:/usr/bin", user="www-data",
    group="www-data", systemd=255, has_requirements=True, has_project=False,
)  # fmt: skip


def found(app: str = "shop:app", **more: object) -> Found:
    return Found(**{"app": app, "framework": "Flask", "why": "so", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_made_of_the_templates(name: str) -> None:
    """Made with: python -m forkserve.init.examples FILE > FILE"""
    assert EXAMPLES[name]() == (ROOT / name).read_text()


@pytest.mark.parametrize(
    "app", ["shop:app", "shop", 'shop:make("a \\" b", 5)', "shop:make('\u00e9')"]
)
def test_the_configuration_is_what_it_says(tmp_path: Path, app: str) -> None:
    path = tmp_path / "f.toml"
    path.write_text(files(found(app, root="src"), PLACE)["forkserve.toml"])
    loaded = load_settings(str(path), {}, {}, {})
    assert (loaded.settings.app, loaded.settings.chdir) == (app, "src")
    assert loaded.origins["workers"] == loaded.origins["bind"] == str(path)
    assert tomllib.loads(path.read_text())["workers"] == "auto"
    assert max(map(len, path.read_text().splitlines())) <= 100


def unit(place: Place) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(files(found(), place)["shop.service"])
    return parser


def test_the_unit_starts_the_application_where_it_is() -> None:
    service = unit(PLACE)["Service"]
    assert service["WorkingDirectory"] == "/srv/shop"
    assert service["ExecStart"] == "/usr/bin/env forkserve -c /srv/shop/forkserve.toml"
    assert service["Environment"] == "PATH=/srv/shop/.venv/bin:/usr/bin"
    assert (service["User"], service["Type"]) == ("www-data", "notify-reload")
    assert (service["ProtectHome"], service["RuntimeDirectory"]) == ("yes", "shop")


def test_the_unit_of_an_older_systemd_and_of_a_home_directory() -> None:
    service = unit(replace(PLACE, systemd=252, directory="/home/alice/shop"))["Service"]
    assert (service["Type"], service["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")
    assert service["ProtectHome"] == "read-only"


def test_the_site_has_the_static_files() -> None:
    site = files(found(static=("/static/", "/srv/shop/static")), PLACE)["shop.nginx.conf"]
    assert "    location /static/ {\n        alias /srv/shop/static/;\n    }\n" in site
    assert "upstream shop {" in site and "proxy_pass http://shop;" in site
    assert "location /static/ { root" in files(found(), PLACE)["shop.nginx.conf"]


@pytest.mark.parametrize(
    ("changes", "framework", "line"),
    [
        ({}, "Flask", "RUN pip install --no-cache-dir -r requirements.txt"),
        ({"has_requirements": False}, "Flask", "RUN pip install --no-cache-dir forkserve"),
        ({"has_requirements": False, "has_project": True}, "Flask",
         "RUN pip install --no-cache-dir . forkserve"),
        ({}, "Django", "# RUN python src/manage.py collectstatic --noinput"),
    ],
)  # fmt: skip
def test_the_dockerfile(changes: dict[str, bool], framework: str, line: str) -> None:
    about = found(framework=framework, root="src")
    lines = files(about, replace(PLACE, **changes))["Dockerfile"].splitlines()
    assert line in lines
    assert lines[-1] == 'CMD ["forkserve", "-c", "forkserve.toml", "--bind", "0.0.0.0:8000"]'
    for word in ("FROM python:", "WORKDIR /srv/shop", "USER 65534", "EXPOSE 8000", "HEALTHCHECK "):
        assert any(item.startswith(word) for item in lines), word
    # What needs the source comes behind it.
    if "--no-cache-dir . " in line:
        assert lines.index(line) > lines.index("COPY . .")


def test_a_template_knows_all_its_values() -> None:
    with pytest.raises(KeyError):
        fill("service", {"name": "x"})
