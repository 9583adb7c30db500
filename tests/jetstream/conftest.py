"""Servers for the tests of streams: one node and a cluster for a whole session."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Generator, Iterator
from pathlib import Path

import pytest

from qos_async.jetstream.api import call
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.wire import Wire
from tests.support.nats_servers import NatsCluster, NatsServer
from tests.support.written_stream import Log

_numbers = itertools.count(1)


@pytest.fixture
def stream_name() -> str:
    """The name of a stream that no other test uses."""
    return f"S{os.getpid()}x{next(_numbers)}"


@pytest.fixture(scope="session")
def _node_of_session(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("node"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def _cluster_of_session(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[NatsCluster]:
    cluster = NatsCluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.kill()


@pytest.fixture
def node(_node_of_session: NatsServer) -> Iterator[NatsServer]:
    """One node; a test may kill or stop it."""
    streams = _node_of_session.streams()
    yield _node_of_session
    process = _node_of_session.process
    if process is None or process.poll() is not None:
        _node_of_session.start()
    else:
        process.send_signal(signal.SIGCONT)
    _node_of_session.delete_streams(streams)


@pytest.fixture
def cluster(_cluster_of_session: NatsCluster) -> Iterator[NatsCluster]:
    """Three nodes; a test may kill or stop any."""
    first = next(iter(_cluster_of_session))
    streams = first.streams()
    yield _cluster_of_session
    _cluster_of_session.repair()
    first.delete_streams(streams)


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[NatsServer]:
    """One node for one test, which configures and starts it."""
    server = NatsServer(tmp_path / "own-node")
    yield server
    server.kill()
    shutil.rmtree(server.store, ignore_errors=True)


@pytest.fixture
async def log(node: NatsServer, stream_name: str) -> AsyncGenerator[Log]:
    """A stream that the test writes, message by message."""
    async with Wire(parse_place(f"{node.url}/{stream_name}", {})) as wire:
        await wire.connect()
        await ensure_stream(wire, stream_name, StreamOptions(max_bytes=50_000_000))
        made = Log(node, wire, stream_name)
        yield made
        for source in made.sources:
            await source.aclose()
        await call(wire, f"STREAM.DELETE.{stream_name}")
