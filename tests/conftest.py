"""No test may reach a network: sockets are blocked for all of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

# Before an engine is loaded: its threads sleep while they wait. Spinning, they take a busy machine's every core, and
# tests of two threads a hundred times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every attempt to connect fail."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("cultev tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
