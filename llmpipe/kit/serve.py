"""A hub for a classroom without a network: mirror folders over HTTP, answered as the hub does.

    with serving(Path("mirror")) as server:       # from a shell: llmpipe serve mirror
        print(server.endpoint)                    # http://127.0.0.1:41873

Programs started with `HF_ENDPOINT` set to that address need nothing else: `datasets` (whole and
streamed), `transformers` and `huggingface_hub` find what the folders hold, and are told as the hub
tells them what is missing. What is said is in `hub.py`, how it goes over the wire in `handler.py`.
Nothing is ever written, and only what the mirror lists is read. A thread serves each connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Collection, Iterator
from http.server import ThreadingHTTPServer

from llmpipe.kit.handler import HubHandler
from llmpipe.kit.repository import Mirror

logger = logging.getLogger("llmpipe.serve")


class HubServer(ThreadingHTTPServer):
    """The listening socket. `OSError` from the constructor: the port is taken, or no such host."""

    daemon_threads = False  # so that closing waits for the replies under way
    request_queue_size = 128  # a class that starts at once; the default is 5
    allow_reuse_address = os.name == "posix"  # elsewhere it lets two servers share a port

    def __init__(
        self,
        mirror: Mirror,
        host: str = "127.0.0.1",
        port: int = 0,
        gated: Collection[str] = (),
        handler: type[HubHandler] = HubHandler,
    ):
        self.mirror, self.gated = mirror, frozenset(gated)
        self.connections: set[socket.socket] = set()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the name service who we are, which takes long without a network.
        socketserver.TCPServer.server_bind(self)

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` has to be; with all interfaces open, the address on the network."""
        host, port = self.server_address[:2]
        host = network_address() if host in ("0.0.0.0", "::") else host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        """A connection ended by an exception: hanging up is a client's right, the rest a bug."""
        gone = issubclass(sys.exc_info()[0], (ConnectionError, TimeoutError))
        level = logging.DEBUG if gone else logging.ERROR
        logger.log(level, "the connection to %s broke", client_address[0], exc_info=not gone)

    def close(self) -> None:
        """Stop listening, hang up on everyone (idle clients would keep their threads), and wait."""
        self.shutdown()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):  # it has just gone by itself
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


def network_address() -> str:
    """This machine's address on its network, or its name where there is none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documents (RFC 5737)
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()


@contextlib.contextmanager
def serving(
    *folders: str | os.PathLike,
    host: str = "127.0.0.1",
    port: int = 0,
    gated: Collection[str] = (),
    handler: type[HubHandler] = HubHandler,
) -> Iterator[HubServer]:
    """Serve mirror `folders` from a thread of this process until the `with` block ends.

    Port 0 takes any that is free; `server.endpoint` says which. Files of repositories in `gated`
    are refused to clients without a token (any token will do). `OSError`: the port is taken.
    """
    server = HubServer(Mirror(*folders), host, port, gated, handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="llmpipe.serve")
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def serve(*folders: str | os.PathLike, **options: object) -> None:
    """Serve until interrupted (Ctrl-C), after printing what, and what students have to type.

    `options` are those of `serving`, with its errors.
    """
    with serving(*folders, **options) as server, contextlib.suppress(KeyboardInterrupt):
        for repo_id in server.mirror.repo_ids():
            sizes = [file.size for file in server.mirror.find(repo_id).files.values()]
            print(f"  {repo_id}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")
        print(f"served at {server.endpoint} until Ctrl-C. What students type before they start:")
        print(f"  export HF_ENDPOINT={server.endpoint}")
        print(f'  $env:HF_ENDPOINT = "{server.endpoint}"    (PowerShell)')
        if server.server_address[0] in ("127.0.0.1", "::1"):
            print("Only this machine reaches it; --host 0.0.0.0 opens it to the whole network.")
        sys.stdout.flush()
        while True:
            time.sleep(3600)
