"""X-Request-Start in each of its forms, and clocks that are wrong."""

import pytest

from forkserve.http.request_start import START, TRACE, waited

NOW = 1512379167.574


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("t=1512379166.574", 1.0),  # nginx
        ("1512379166.574", 1.0),
        ("1512379166574", 1.0),  # Heroku
        ("t=1512379166574", 1.0),
        ("t=1512379166574000", 1.0),  # Apache
        ("1512379166574000000", 1.0),
        (" t=1512379166 ", 1.574),
        ("t=1512379160.0, t=1512379166.574", 1.0),  # the last proxy is the one in front of us
        ("t=1512375567.6", 3599.974),
        ("t=1512375567.5", 0.0),  # absurd: more than an hour
        ("t=1512379168.574", 0.0),  # in the future
        ("t=1512379167.574", 0.0),
        ("", 0.0), ("t=", 0.0), ("t=x", 0.0), ("-1512379166", 0.0), ("t=1e9", 0.0), ("nan", 0.0),
        ("151237916", 0.0), ("9" * 19, 0.0), ("9" * 5000, 0.0), ("t=1512379166.574.1", 0.0),
        ("\u0661512379166", 0.0),  # a digit to Python, and not to HTTP
    ],
)  # fmt: skip
def test_forms(text: str, seconds: float) -> None:
    assert waited({START: text}, NOW) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Root=1-5a25131a-bd862e3fe1be46a994272793", 4.574),  # said in whole seconds: at least
        # Root is whoever began the trace, a client or an hour of work before; Self is the last one.
        ("Self=1-5a25131a-12456789abcdef012345678;Root=1-5a251200-67891233abcdef012345678", 4.574),
        ("Root=1-5a251200-67891233abcdef012345678; Self=1-5a25131a-12456789abcdef012345678", 4.574),
        ("Self=1-67891234-12456789abcdef012345678;Root=1-5a25131a-67891233abcdef012345678", 0.0),
        ("Self=1-xyz-1;Root=1-5a25131a-67891233abcdef012345678", 4.574),
        ("Root=1-5a25131f-bd862e3fe1be46a994272793", 0.0),
        ("Root=1-xyz-bd862e3fe1be46a994272793", 0.0), ("", 0.0),
    ],
)  # fmt: skip
def test_the_trace_of_aws(text: str, seconds: float) -> None:
    assert waited({TRACE: text}, NOW) == pytest.approx(seconds, abs=1e-5)


def test_who_says_it_better_is_heard() -> None:
    fields = {START: "t=1512379166.574", TRACE: "Root=1-5a251200-bd862e3fe1be46a994272793"}
    assert waited(fields, NOW) == pytest.approx(1.0, abs=1e-5)
    assert waited({}, NOW) == 0.0
