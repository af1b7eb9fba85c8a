"""Peers that are trusted, as people name them.

127.0.0.1   ::1   10.0.0.0/8   2001:db8::/32   unix (clients of our unix sockets)   * (everybody)
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface

EVERYBODY = "*"
UNIX = "unix"
NOBODY = "none"

Peer = IPv4Network | IPv6Network | str
"""A network (one address is a small one), or one of the three words."""


def parse_peer(text: str) -> Peer:
    """Parse one item. Raises ValueError, whose text continues what was written: "is no..."."""
    text = text.strip()
    if text in (EVERYBODY, UNIX, NOBODY):
        return text
    if not text:
        raise ValueError("is empty; nobody is written none")
    if "%" in text:
        raise ValueError("has a zone, and zones are not compared: leave it out")
    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(
            "is no address and no network: write 10.0.0.5, 10.0.0.0/8, 2001:db8::/32, unix or *"
        ) from None
    network = interface.network
    if "/" in text and interface.ip != network.network_address:
        raise ValueError(f"is an address within a network: write {interface.ip} or {network}")
    return _as_ipv4(network)


def show_peer(peer: Peer) -> str:
    """A form that reads back the same."""
    if isinstance(peer, str) or peer.num_addresses > 1:
        return str(peer)
    return str(peer.network_address)


def trust_in(peers: Sequence[Peer]) -> Callable[[str], bool]:
    """A function that says whether an address as text is one of ``peers``.

    "" is the address of a unix socket's client. The answers of late are remembered.
    """
    networks = [peer for peer in peers if not isinstance(peer, str)]
    if EVERYBODY in peers:
        return lambda address: True

    @lru_cache(maxsize=1024)
    def trusts(address: str) -> bool:
        if not address:
            return UNIX in peers
        try:
            number = ip_address(address)
        except ValueError:  # of a socket family that has no such addresses
            return False
        if isinstance(number, IPv6Address):
            number = number.ipv4_mapped or number
        return any(number in network for network in networks)

    return trusts


def _as_ipv4(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """IPv4 addresses that are written as IPv6 (::ffff:10.0.0.5) are compared as IPv4."""
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network
