"""A hub that fails in the ways networks fail: handlers for `serving(mirror, handler=...)`.

    with serving(mirror, handler=half_body(only=".parquet")) as server:
        ...                                # a client with HF_ENDPOINT=server.endpoint

Each function makes a new handler class. `only` is a part of the path to which the fault is limited
(all requests, if empty); `times` is how many replies are spoiled before the hub is well again (all,
if None), counted over the whole class, so use one class for one server.
"""

from __future__ import annotations

import itertools
from typing import BinaryIO

from llmpipe.classroom.server.replies import Reply, Request, error_reply
from llmpipe.classroom.server.server import HubHandler

PORTAL = b"<!doctype html><html><body>Accept the terms to use this network</body></html>"


def _spoiler(only: str, times: int | None):
    """A predicate of a path: is this one of the replies to spoil? Counts those it says yes to."""
    numbers = itertools.count()  # next() is atomic, and the handlers run in threads
    return lambda path: only in path and (times is None or next(numbers) < times)


def instead(reply: Reply, only: str, times: int | None) -> type[HubHandler]:
    spoils = _spoiler(only, times)

    class Instead(HubHandler):
        def respond(self, request: Request) -> Reply:
            return reply if spoils(request.target) else super().respond(request)

    return Instead


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
    spoils = _spoiler(only, times)

    class Redirect(HubHandler):
        def respond(self, request: Request) -> Reply:
            reply = super().respond(request)
            if not spoils(request.target):
                return reply
            return Reply(302, {**reply.headers, "Location": location})

    return Redirect


def half_body(only: str = "", times: int | None = None) -> type[HubHandler]:
    """The head of the right reply, the first half of the file, then the connection closes."""
    spoils = _spoiler(only, times)

    class HalfBody(HubHandler):
        def send_file(self, file: BinaryIO, start: int, length: int) -> None:
            spoilt = length > 1 and spoils(self.path)
            super().send_file(file, start, length // 2 if spoilt else length)

    return HalfBody


def wrong_bytes(only: str = "", times: int | None = None) -> type[HubHandler]:
    """The announced length, ETag and all, but one bit in the middle of the body is flipped."""
    spoils = _spoiler(only, times)

    class WrongBytes(HubHandler):
        def send_file(self, file: BinaryIO, start: int, length: int) -> None:
            if not spoils(self.path):
                return super().send_file(file, start, length)
            body = bytearray(file.read(length))
            body[length // 2] ^= 1
            self.wfile.write(body)
            return None

    return WrongBytes


def silent(only: str = "", times: int | None = None) -> type[HubHandler]:
    """Takes the request and says nothing, until the client gives up or the server closes."""
    spoils = _spoiler(only, times)

    class Silent(HubHandler):
        timeout = None

        def respond(self, request: Request) -> Reply:
            if not spoils(request.target):
                return super().respond(request)
            self.connection.recv(1)
            raise ConnectionAbortedError("the client gave up")

    return Silent
