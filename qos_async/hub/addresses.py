"""Addresses of a hub: which of them other machines reach, and what clients dial."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

__all__ = ["address_to_dial", "is_address", "is_loopback"]

# Of networks for documentation (RFC 5737 and 3849): no packet is sent to them.
_ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_DISCARD = 9


def is_address(host: str) -> bool:
    """Whether a host is an IP address, and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address."""
    if host == "localhost":
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def address_to_dial(address: str, names: Sequence[str]) -> str:
    """Return the host that clients dial, in brackets if it has colons.

    It is the address itself if that is loopback; else the first of the names, as a
    certificate has names. Without names, ``0.0.0.0`` and ``::``, which no other machine
    can dial, become the address with the route to other networks; without a route, the
    address of loopback.
    """
    if names and not is_loopback(address):
        return names[0]
    if ipaddress.ip_address(address).is_unspecified:
        address = _own_address(ipaddress.ip_address(address).version)
    return f"[{address}]" if ":" in address else address


def _own_address(version: int) -> str:
    with socket.socket(_FAMILIES[version], socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((_ELSEWHERE[version], _DISCARD))
            found: str = sock.getsockname()[0]
        except OSError:  # No route.
            return _LOOPBACK[version]
    return found
