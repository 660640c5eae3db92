"""A hub that fails in the ways networks fail: handlers for `serving(mirror, handler=...)`.

    with serving(mirror, handler=half_body(only=".parquet")) as server:
        ...                                # a client with HF_ENDPOINT=server.endpoint

Each function makes a new handler class. `only` is a part of the path to which the fault is limited
(all requests, if empty); `times` is how many replies are spoiled before the hub is well again (all,
if None), counted over the whole class, so use one class for one server.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import BinaryIO

from llmpipe.classroom.server.replies import Reply, Request, error_reply
from llmpipe.classroom.server.server import HubHandler

PORTAL = b"<!doctype html><html><body>Accept the terms to use this network</body></html>"


def spoiled(
    only: str, times: int | None, respond: Callable | None = None, send_file: Callable | None = None
) -> type[HubHandler]:
    """A handler with `respond(handler, request)` or `send_file(handler, file, start, length)`
    instead of the right one, for the replies that are to be spoiled."""
    numbers = itertools.count()  # next() is atomic, and the handlers run in threads

    def spoils(path: str) -> bool:
        return only in path and (times is None or next(numbers) < times)

    class Spoiled(HubHandler):
        def respond(self, request: Request) -> Reply:
            own = respond if respond and spoils(request.target) else HubHandler.respond
            return own(self, request)

        def send_file(self, file: BinaryIO, start: int, length: int) -> None:
            own = send_file if send_file and spoils(self.path) else HubHandler.send_file
            own(self, file, start, length)

    return Spoiled


def instead(reply: Reply, only: str, times: int | None) -> type[HubHandler]:
    return spoiled(only, times, lambda handler, request: reply)


def captive_portal(only: str = "", times: int | None = None) -> type[HubHandler]:
    """200 and a page of HTML, whatever was asked."""
    return instead(Reply(200, {"Content-Type": "text/html"}, PORTAL), only, times)


def unavailable(only: str = "", times: int | None = 2) -> type[HubHandler]:
    """503, twice; then all is well."""
    return instead(error_reply(503, "the hub is busy"), only, times)


def redirect(
    location: str = "file:///etc/passwd", only: str = "", times: int | None = None
) -> type[HubHandler]:
    """302 to `location`, with the headers of the right reply, as the hub sends to its storage."""

    def respond(handler: HubHandler, request: Request) -> Reply:
        headers = HubHandler.respond(handler, request).headers
        return Reply(302, {**headers, "Location": location})

    return spoiled(only, times, respond)


def half_body(only: str = "", times: int | None = None) -> type[HubHandler]:
    """The head of the right reply, the first half of the file, then the connection closes."""

    def send_file(handler: HubHandler, file: BinaryIO, start: int, length: int) -> None:
        HubHandler.send_file(handler, file, start, max(1, length // 2))

    return spoiled(only, times, send_file=send_file)


def wrong_bytes(only: str = "", times: int | None = None) -> type[HubHandler]:
    """The announced length, ETag and all, but one bit in the middle of the body is flipped."""

    def send_file(handler: HubHandler, file: BinaryIO, start: int, length: int) -> None:
        body = bytearray(file.read(length))
        body[length // 2] ^= 1
        handler.wfile.write(body)

    return spoiled(only, times, send_file=send_file)


def silent(only: str = "", times: int | None = None) -> type[HubHandler]:
    """Takes the request and says nothing, until the client gives up or the server closes."""

    def respond(handler: HubHandler, request: Request) -> Reply:
        handler.connection.settimeout(None)
        handler.connection.recv(1)
        raise ConnectionAbortedError("the client gave up")

    return spoiled(only, times, respond)
