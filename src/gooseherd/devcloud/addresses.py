"""The addresses of the local cloud's tasks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator


class NoAddressLeft(Exception):
    """Every address of the subnet is taken."""


class AddressPool:
    """Loopback addresses, one per live task; a freed one is reused as late as possible.

    Linux answers on all of 127.0.0.0/8 without configuration; elsewhere the addresses have
    to be added to the loopback interface first.
    """

    def __init__(self, network: ipaddress.IPv4Network) -> None:
        if not network.is_loopback:
            raise ValueError(f"{network} is not loopback")
        self._network = network
        self._hosts = self._cycle()
        self._taken: set[str] = set()

    def take(self) -> str:
        """An address nobody has. Raises NoAddressLeft."""
        for _ in range(self._network.num_addresses):
            address = next(self._hosts)
            if address not in self._taken:
                self._taken.add(address)
                return address
        raise NoAddressLeft

    def give_back(self, address: str) -> None:
        """It is free again."""
        self._taken.discard(address)

    def _cycle(self) -> Iterator[str]:
        while True:
            yield from map(str, self._network.hosts())


def own_network(port: int) -> ipaddress.IPv4Network:
    """254 loopback addresses that belong to whoever listens on that port: no two local clouds share one."""
    return ipaddress.IPv4Network((f"127.{port >> 8}.{port & 255}.0", 24))
