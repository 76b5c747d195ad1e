# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's end of the channel to a guest; ``inside/agent.py`` is the other one."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .inside.agent import CHUNK_BYTES, HEADER

__all__ = ("Answer", "Channel", "ChannelError")

GRACE_SECONDS = 60.0
"""How long the agent may take beyond what it was asked to do."""


class ChannelError(Exception):
    """The agent in the guest is gone or does not answer in time."""


@dataclass(frozen=True)
class Answer:
    """What the agent sent back."""

    stdout: bytes
    stderr: bytes
    samples: tuple[bytes, ...]
    end: dict[str, Any]


class Channel:
    """A connection to the agent."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def close(self) -> None:
        self._socket.close()

    def ask(self, timeout: float, data: bytes | None = None, **request: Any) -> Answer:
        """
        Send a request and return the answer.

        :param timeout: in seconds, of the request itself.
        :param data: sent after the request.
        :raises ChannelError: if there is no answer in time.
        :raises OSError: if the agent could not do it.
        """
        self.send(timeout, data, **request)
        answer = self.receive(timeout + GRACE_SECONDS)
        if "error" in answer.end:
            raise OSError(f"in the guest: {answer.end['error']}")
        return answer

    def send(self, timeout: float, data: bytes | None = None, **request: Any) -> None:
        """Send a request, as :meth:`ask()`, without waiting for an answer."""
        self._socket.settimeout(timeout + GRACE_SECONDS)
        try:
            self._send(b"q", json.dumps(request).encode())
            if data is not None:
                for start in range(0, len(data), CHUNK_BYTES):
                    self._send(b"d", data[start : start + CHUNK_BYTES])
                self._send(b"d", b"")
        except OSError as error:
            raise ChannelError(f"cannot send to the guest: {error}") from error

    def receive(self, timeout: float) -> Answer:
        """Return the next answer, which must be complete in ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        parts: dict[bytes, list[bytes]] = {b"o": [], b"e": [], b"s": [], b"x": []}
        while not parts[b"x"]:
            kind, length = HEADER.unpack(self._read(HEADER.size, deadline))
            parts[kind].append(self._read(length, deadline))
        return Answer(
            b"".join(parts[b"o"]),
            b"".join(parts[b"e"]),
            tuple(parts[b"s"]),
            json.loads(parts[b"x"][0]),
        )

    def _send(self, kind: bytes, payload: bytes) -> None:
        self._socket.sendall(HEADER.pack(kind, len(payload)) + payload)

    def _read(self, length: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChannelError("the guest does not answer")
            self._socket.settimeout(left)
            try:
                part = self._socket.recv(min(length - len(data), CHUNK_BYTES))
            except OSError as error:
                raise ChannelError(f"the guest does not answer: {error}") from error
            if not part:
                raise ChannelError("the guest is gone")
            data += part
        return bytes(data)
