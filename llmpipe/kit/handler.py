"""How the hub's replies go over the wire: one connection, its requests in turn (HTTP/1.1)."""

from __future__ import annotations

import logging
import os
import re
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, BinaryIO

from llmpipe.kit.hub import Reply, Request, answer, error_reply
from llmpipe.kit.repository import stamp_of

if TYPE_CHECKING:
    from llmpipe.kit.serve import HubServer

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
