# Copyright (c) drgn_vmap authors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The host's hand in the guest: runs commands, reads and writes files.

Talks over a virtio-serial port of its own. A message is a kind (one byte), a length
(four bytes, big endian) and that many bytes; the kinds:

====== ==================================================================
``q``  host: a request, a JSON object with the name of a function below
``d``  host: data for a request; an empty one ends it
``o``  guest: standard output, or the contents of a file
``e``  guest: standard error
``s``  guest: a sample of a file, taken while a command ran
``x``  guest: the end of an answer, a JSON object
====== ==================================================================

One process answers the requests, one after the other, and only ``run`` starts
another: a new process has a kernel stack, a line in the very /proc/vmallocinfo that
tests compare.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import struct
import subprocess
import time
from typing import Any, Iterator

PORTS = "/sys/class/virtio-ports"
"""One is there; its name begins with the number that the device has on this machine."""
HEADER = struct.Struct(">cI")
CHUNK_BYTES = 1 << 18
SAMPLE_SECONDS = 0.05


class Port:
    """The guest's end of the channel."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, kind: bytes, payload: bytes) -> None:
        data = memoryview(HEADER.pack(kind, len(payload)) + payload)
        while data:
            data = data[os.write(self._descriptor, data) :]

    def receive(self) -> tuple[bytes, bytes]:
        kind, length = HEADER.unpack(self._read(HEADER.size))
        return kind, self._read(length)

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = os.read(self._descriptor, min(length - len(data), CHUNK_BYTES))
            if not part:
                raise EOFError("the host has closed the channel")
            data += part
        return bytes(data)


def run(
    port: Port,
    command: str,
    timeout_seconds: float,
    cwd: str,
    env: dict[str, str],
    sample: str | None,
) -> dict[str, Any]:
    """Run a shell command, streaming its output, and sample a file meanwhile."""
    sampler = Sampler(sample)
    sampler.take()
    with subprocess.Popen(
        ["/bin/bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **env},
        start_new_session=True,
    ) as process:
        try:
            forward(port, process, time.monotonic() + timeout_seconds, sampler)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            return {"timed_out": True}
    sampler.take()
    for text in sampler.samples:
        port.send(b"s", text)
    return {"status": process.returncode}


class Sampler:
    """What a file held at several moments, each text once."""

    def __init__(self, path: str | None) -> None:
        self.samples: dict[bytes, None] = {}
        self._path = path

    def take(self) -> None:
        if self._path is not None:
            self.samples[b"".join(contents(self._path))] = None

    def wait(self, selector: selectors.BaseSelector, deadline: float) -> set[int]:
        """Return the descriptors that are ready, sampling until one is."""
        ready: list[Any] = []
        while not ready:
            left = deadline - time.monotonic()
            if left < 0:
                raise TimeoutError
            ready = selector.select(min(left, SAMPLE_SECONDS) if self._path else left)
            self.take()
        return {key.fd for key, _ in ready}


def forward(
    port: Port, process: subprocess.Popen[bytes], deadline: float, sampler: Sampler
) -> None:
    """Send what a process writes until it ends, whatever it left in background."""
    assert process.stdout and process.stderr
    kinds = {process.stdout.fileno(): b"o", process.stderr.fileno(): b"e"}
    end = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in (*kinds, end):
                selector.register(descriptor, selectors.EVENT_READ)
            while readable := sampler.wait(selector, deadline) - {end}:
                for descriptor in readable:
                    data = os.read(descriptor, CHUNK_BYTES)
                    if data:
                        port.send(kinds[descriptor], data)
                    else:
                        selector.unregister(descriptor)
    finally:
        os.close(end)


def read(port: Port, path: str) -> dict[str, Any]:
    """Send the contents of a file."""
    for part in contents(path):
        port.send(b"o", part)
    return {}


def write(port: Port, path: str, mode: int) -> dict[str, Any]:
    """Write the data that follows the request to a file."""
    parts = list(iter(lambda: port.receive()[1], b""))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb", buffering=0) as file:
        for part in parts:
            file.write(part)
    return {}


def contents(path: str) -> Iterator[bytes]:
    """Read a file, which may be one of /proc that says its size is 0."""
    with open(path, "rb", buffering=0) as file:
        while part := file.read(CHUNK_BYTES):
            yield part


def serve(port: Port) -> None:
    """Answer requests for ever."""
    functions = {function.__name__: function for function in (run, read, write)}
    while True:
        _, request = port.receive()
        arguments = json.loads(request)
        try:
            answer = functions[arguments.pop("function")](port, **arguments)
        except OSError as error:
            answer = {"error": str(error)}
        port.send(b"x", json.dumps(answer).encode())


if __name__ == "__main__":
    [port] = os.listdir(PORTS)
    channel = Port(os.open(f"/dev/{port}", os.O_RDWR))
    channel.send(b"x", b"{}")
    serve(channel)
