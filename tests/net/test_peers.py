"""Who is trusted: what people write, and which addresses it stands for."""

import pytest

from forkserve.net.peers import parse_peer, show_peer, trust_in


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.5", "10.0.0.5"), ("10.0.0.5/32", "10.0.0.5"), ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"), ("0.0.0.0/0", "0.0.0.0/0"), ("::1", "::1"),
        ("2001:DB8:0::/32", "2001:db8::/32"), ("::/0", "::/0"), (" ::1 ", "::1"),
        ("::ffff:10.0.0.5", "10.0.0.5"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"), ("unix", "unix"), ("*", "*"), ("none", "none"),
    ],
)  # fmt: skip
def test_what_is_written_and_shown(text: str, shown: str) -> None:
    peer = parse_peer(text)
    assert show_peer(peer) == shown
    assert parse_peer(shown) == peer


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"), (" ", "is empty"), ("localhost", "is no address"), ("[::1]", "is no address"),
        ("10.1", "is no address"), ("010.0.0.1", "is no address"), ("10.0.0.0/33", "is no address"),
        ("10.0.0.1:80", "is no address"), ("10.0.0.\u0665", "is no address"), ("UNIX", "is no address"),
        ("10.0.0.1/8", "write 10.0.0.1 or 10.0.0.0/8"), ("2001:db8::1/32", "write 2001:db8::1 or 2001:db8::/32"),
        ("fe80::1%eth0", "leave it out"), ("1" * 5000, "is no address"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) ") as caught:
        parse_peer(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("peers", "trusted", "untrusted"),
    [
        ("127.0.0.1 ::1 unix", ["127.0.0.1", "::1", "", "::ffff:127.0.0.1"],
         ["127.0.0.2", "::2", "::ffff:127.0.0.2", "192.0.2.1", "fe80::1%eth0", "not an address"]),
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["11.0.0.0", "", "::", "::10.0.0.1"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0"], ["::1", "254.128.0.0", ""]),
        ("*", ["192.0.2.1", "::1", "", "not an address"], []),
        ("none", [], ["127.0.0.1", "::1", "", "0.0.0.0", "::"]),
        ("", [], ["127.0.0.1", "::1", ""]),
        ("unix", [""], ["127.0.0.1"]),
        ("0.0.0.0/0", ["192.0.2.1", "::ffff:192.0.2.1"], ["::1", ""]),
    ],
)  # fmt: skip
def test_who_is_trusted(peers: str, trusted: list[str], untrusted: list[str]) -> None:
    trusts = trust_in([parse_peer(text) for text in peers.split()])
    for _ in range(2):  # the second answer is remembered
        assert [address for address in trusted if not trusts(address)] == []
        assert [address for address in untrusted if trusts(address)] == []
