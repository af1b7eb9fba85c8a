"""The origin of a setting, in a message about it."""

import pytest

from forkserve.settings import Settings
from forkserve.settings.origin import Origins

KNOWN = Origins(
    origins={
        "bind": "--bind", "app": "command line", "user": "default", "pid": "/etc/f.toml",
        "workers": "WEB_CONCURRENCY",
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("cannot listen (`bind`): why", "cannot listen (`bind` from --bind): why"),
        ("`app`, then `app` again", "`app` from the command line, then `app` again"),
        ("`user` and `pid`", "`user` by default and `pid` from /etc/f.toml"),
        ("`workers` is 3", "`workers` from WEB_CONCURRENCY is 3"),
        ("`bind` from elsewhere, `user` by default", "`bind` from elsewhere, `user` by default"),
        ("`application` and `DEBUG` are no settings", "`application` and `DEBUG` are no settings"),
    ],
)
def test_an_origin_is_told_once(message: str, told: str) -> None:
    assert KNOWN.explained(message) == told


def test_without_origins_nothing_is_added() -> None:
    assert Settings().explained("`bind` is wrong") == "`bind` is wrong"
    assert Settings().named("bind") == "`bind`"


def test_settings_are_equal_wherever_they_came_from() -> None:
    assert Settings(origins={"bind": "--bind"}) == Settings()
    assert hash(Settings(origins={"bind": "--bind"})) == hash(Settings())
