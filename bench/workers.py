"""Peers in processes of their own.

OpenVINO 2026.4.1 was seen to damage its heap in these layers, and libraries' threads disturb each
other; so each peer has a process, which waits while others are timed. One that dies is started
again, and where it dies twice in a layer, the layer goes without it.
"""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from peers import PEERS, Peer, checked

from binconv.bench.cases import LayerCase
from binconv.bench.timing import Sample, Sampler


class DiedError(Exception):
    """The process of a peer is gone."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def serve(requests: Connection, name: str) -> None:
    """What the process does: the layers that it is sent, one sample for each request."""
    import binconv as bc

    bc.set_num_threads(1)
    (peer,) = (peer for peer in PEERS if peer.name == name)
    with suppress(EOFError):  # who asks has ended
        while True:
            serve_layer(requests, peer, requests.recv())


def serve_layer(requests: Connection, peer: Peer, case: LayerCase) -> None:
    try:
        prepared = checked(peer, case)
        sampler = Sampler(prepared.run)
    except Exception as error:
        requests.send(error)
        return
    requests.send(prepared.node_seconds is not None)
    while (what := requests.recv()) is not None:
        node = prepared.node_seconds
        requests.send(sampler.sample() if what == "sample" or node is None else node())


class Worker:
    """One peer's process. It is a Sampler of the layer that it was given last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = False
        """Whether the library says what the node alone takes."""
        self._busy = False
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self.name), daemon=True)
        self._process.start()
        other.close()
        self._busy = False

    def take(self, case: LayerCase) -> None:
        """Prepares a layer and compares its result with ours."""
        if not self._process.is_alive():
            self._start()
        if self._busy:
            self._send(None)
        self._busy = False
        self.counts = self._ask(case)
        self._busy = True

    def sample(self) -> Sample:
        return Sample(*self._ask("sample"))

    def node_seconds(self) -> float:
        return float(self._ask("node"))

    def _send(self, message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise DiedError(self.name) from error

    def _ask(self, message: object) -> Any:
        self._send(message)
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise DiedError(self.name) from error
        if isinstance(answer, Exception):
            raise answer
        return answer
