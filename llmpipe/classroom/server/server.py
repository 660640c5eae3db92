"""A hub for a classroom without a network: mirror folders over HTTP, answered as the hub does.

    with serving(Path("mirror")) as server:       # from a shell: llmpipe serve mirror
        print(server.endpoint)                    # http://127.0.0.1:41873

Programs started with `HF_ENDPOINT` set to that address need nothing else: `datasets` (whole and
streamed), `transformers` and `huggingface_hub` find what the folders hold, and are told as the hub
tells them what is missing. What is said is in `replies`, how it goes over the wire here: a
`HubHandler` for each connection, in a thread of its own, of one `HubServer`. Nothing is ever
written, and only what the mirror lists is read.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

from llmpipe.classroom.server.replies import Reply, Request, answer, error_reply
from llmpipe.classroom.server.repository import Mirror, stamp_of

logger = logging.getLogger("llmpipe.serve")
FORM_LENGTH = re.compile(r"[0-9]{1,6}")


class HubHandler(BaseHTTPRequestHandler):
    """The requests of one connection: `respond` decides what to reply, `send_file` sends a file.

    To answer otherwise, override one of the two and pass the class as `serving(..., handler=...)`:

        class Portal(HubHandler):
            def respond(self, request):
                return Reply(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
    """

    server: HubServer
    protocol_version, default_request_version = "HTTP/1.1", "HTTP/1.0"
    server_version, sys_version = "llmpipe", ""
    timeout = 60  # seconds without a byte to or from the client, after which it is given up
    disable_nagle_algorithm = True

    def respond(self, request: Request) -> Reply:
        """What to reply: what the hub would. `ConnectionError` hangs up without a reply."""
        return answer(self.server.mirror, request, self.server.gated)

    def send_file(self, file: BinaryIO, start: int, length: int) -> None:
        """Send `length` bytes of `file` from `start` on, and leave `file` after the last one sent.

        The kernel copies them from the file to the connection: memory stays flat at any size.
        """
        self.connection.sendfile(file, start, length)

    def do_GET(self) -> None:
        """One request of any method: reply, and one line in the log, whatever happens."""
        started = time.perf_counter()
        self.status, self.sent_bytes, ending = 0, 0, "sent"
        try:
            self.send_reply(self.checked_reply())
        except OSError as error:  # the client has gone, or the file has
            ending, self.close_connection = f"sent, then {type(error).__name__}", True
        client, seconds = self.client_address[0], time.perf_counter() - started
        logger.info(
            "%s %s %s: %d, %d bytes %s, %.0f ms",
            *(client, self.command, ascii(self.path), self.status, self.sent_bytes, ending),
            seconds * 1000,
        )

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def checked_reply(self) -> Reply:
        """`respond`'s reply; where this program fails, a 500 for the client, the why in the log."""
        try:
            length = self.headers.get("Content-Length", "0")
            if not FORM_LENGTH.fullmatch(length) or "Transfer-Encoding" in self.headers:
                self.close_connection = True  # what follows would be read as the next request
                return error_reply(400, "a form has to state its length, of up to 6 digits")
            form = self.rfile.read(int(length)).decode("utf-8", "replace")
            return self.respond(Request(self.command, self.path, self.headers, form))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            logger.exception("%s %s failed", self.command, ascii(self.path))
            return error_reply(500, f"the server failed: {type(error).__name__}")

    def send_reply(self, reply: Reply) -> None:
        """Write the head, and unless the request was HEAD, the body."""
        if reply.file is None:
            self.send_head(reply, len(reply.body))
            if self.command != "HEAD":
                self.wfile.write(reply.body)
                self.sent_bytes = len(reply.body)
        else:
            with reply.file.location.open("rb") as file:
                if stamp_of(os.fstat(file.fileno())) == reply.file.stamp:
                    self.send_part(reply, file)
                else:
                    message = f"{reply.file.name} was replaced a moment ago: ask again"
                    self.send_reply(error_reply(503, message, headers={"Retry-After": "1"}))

    def send_part(self, reply: Reply, file: BinaryIO) -> None:
        self.send_head(reply, reply.length)
        if self.command != "HEAD" and reply.length:
            file.seek(reply.start)
            try:
                self.send_file(file, reply.start, reply.length)
            finally:
                self.sent_bytes = file.tell() - reply.start
            # Fewer bytes than announced: only a closed connection tells the client.
            self.close_connection |= self.sent_bytes != reply.length

    def send_head(self, reply: Reply, length: int) -> None:
        self.status = reply.status
        self.send_response_only(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.send_header("Server", self.server_version)
        self.send_header("Date", self.date_time_string())
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` calls for a request that it cannot read."""
        self.close_connection = True
        logger.info("%s sent no valid request: %d, %s", self.client_address[0], code, message)
        message = (message or "bad request").encode("ascii", "backslashreplace").decode()
        self.send_reply(error_reply(code, message[:200]))

    def log_message(self, template: str, *values: object) -> None:
        """`http.server`'s own words (an idle connection timed out) are for debugging."""
        logger.debug(f"%s {template}", self.client_address[0], *values)


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
        self.is_full = False  # of open files: told once
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

    def get_request(self) -> tuple:
        """The next connection. At the limit of open files the client waits until one is closed."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # It stays in the queue, so the socket stays ready: without a pause this would spin.
                if not self.is_full:
                    logger.warning("no connection can be taken: %s; clients wait", error.strerror)
                self.is_full = True
                time.sleep(0.1)
            raise  # which `socketserver` takes for nothing to do

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        self.is_full = False
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
        print(*server.mirror.listing(), sep="\n")
        print(f"served at {server.endpoint} until Ctrl-C. What students type before they start:")
        print(f"  export HF_ENDPOINT={server.endpoint}")
        print(f'  $env:HF_ENDPOINT = "{server.endpoint}"    (PowerShell)')
        if server.server_address[0] in ("127.0.0.1", "::1"):
            print("Only this machine reaches it; --host 0.0.0.0 opens it to the whole network.")
        sys.stdout.flush()
        while True:
            time.sleep(1)  # a signal that comes just before a longer one would wait for its end
