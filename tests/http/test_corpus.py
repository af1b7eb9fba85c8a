"""Each case of the corpus, whole and in all kinds of pieces, gives what the case says."""

from collections.abc import Callable, Iterable

import pytest

from tests.http.corpus import MORE, OPEN, Case, Outcome, Reading, cases, converse, read

CASES = cases()
BEHIND = b"GET /behind HTTP/1.1\r\nHost: h\r\n\r\n"

Way = Callable[[Iterable[bytes]], Outcome]


def of(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def test_the_corpus_is_read_and_names_its_sources() -> None:
    assert len(CASES) > 200
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.source.startswith("RFC ") for case in CASES)


@pytest.mark.parametrize("way", [read, converse])
@of(CASES)
def test_whole_and_octet_by_octet(case: Case, way: Way) -> None:
    assert way([case.octets]) == case.outcome
    assert way([bytes([octet]) for octet in case.octets]) == case.outcome


@pytest.mark.parametrize("way", [read, converse])
@of(CASES)
def test_cut_in_two_at_every_offset(case: Case, way: Way) -> None:
    for offset in range(1, len(case.octets)):
        outcome = way([case.octets[:offset], case.octets[offset:]])
        assert outcome == case.outcome, offset


@of(CASES)
def test_no_request_is_taken_back(case: Case) -> None:
    """What is there at each octet stays the beginning of what is there in the end."""
    reading, before = Reading(), 0
    for octet in case.octets:
        reading.feed(bytes([octet]))
        count = len(reading.requests)
        assert tuple(reading.requests) == case.outcome.requests[:count]
        assert before <= count <= before + 1
        before = count


@pytest.mark.parametrize("way", [read, converse])
@of([case for case in CASES if case.outcome.end != MORE])
def test_octets_behind_it(case: Case, way: Way) -> None:
    requests, end = case.outcome.requests, case.outcome.end
    another, wrong = case.outcome, case.outcome
    if end == OPEN:
        another = Outcome((*requests, ("GET", "/behind", b"")), OPEN)
        wrong = Outcome(requests, 400)
    for behind, outcome in ((BEHIND, another), (b"\0" + BEHIND, wrong)):
        assert way([case.octets + behind]) == outcome
        assert way([case.octets, behind]) == outcome
