"""Stand in for Telegram's Bot API, so that a stock bot with telegram enabled can be talked to without the internet.

Freqtrade has no setting for another server. The bot's environment names a loopback proxy instead, which answers
``CONNECT api.telegram.org:443`` itself, with a certificate of an authority that ``SSL_CERT_FILE`` makes httpx trust.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from throw_away_certificate import write_certificate

HOST = "api.telegram.org"
TOKEN = "110201543:stand-in-for-a-token"
CHAT_ID = 4242
LONGEST_TEXT = 4096
LONGEST_POLL_SECONDS = 20.0
# Put before a strategy, has a bot wait for longer than five seconds: a message that is not answered by then is lost.
PATIENT = """
from functools import partialmethod

from telegram.request import HTTPXRequest

HTTPXRequest.__init__ = partialmethod(
    HTTPXRequest.__init__, read_timeout=120.0, write_timeout=120.0, connect_timeout=120.0, pool_timeout=120.0
)
"""
# What Telegram takes in its old Markdown: entities do not nest, and a lone sign must be escaped.
MARKDOWN_PIECE = re.compile(
    r"\\[_*`\[] | ```.*?``` | `(?!``)[^`]*` | \*[^*]*\* | _[^_]*_ | \[[^\]]*\] | [^_*`\[]",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Sent:
    """A message that the bot sent or edited, with every parameter of the call."""

    text: str
    chat_id: int
    parameters: dict[str, Any]


class TelegramStandIn:
    """A context manager: the server runs inside the block.

    ``environment`` is all that a bot needs, its configuration included. As Telegram does, it refuses text that is empty, too long or
    broken Markdown; HTML is not checked.
    """

    def __init__(self) -> None:
        self.messages: list[Sent] = []
        self.rejected: list[tuple[str, str]] = []  # text, reason
        self.calls: list[str] = []
        self.unknown_methods: list[str] = []
        self.other_hosts: list[str] = []  # what else came to the proxy, and was refused
        self._updates: list[dict[str, Any]] = []
        self._next_update = 1
        self._polled = False
        self._closing = False
        self._changed = threading.Condition()

    def __enter__(self) -> TelegramStandIn:
        self._directory = Path(tempfile.mkdtemp(prefix="plimsoll-telegram-"))
        self._authority, chain = write_certificate(self._directory, HOST)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self._server = _Server(self, context)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        proxy, direct = f"http://127.0.0.1:{self._server.server_port}", "127.0.0.1,localhost"
        # The small names win where both are set.
        return {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": direct,
            "no_proxy": direct,
            "SSL_CERT_FILE": str(self._authority),
            "FREQTRADE__TELEGRAM__ENABLED": "true",
            "FREQTRADE__TELEGRAM__TOKEN": TOKEN,
            "FREQTRADE__TELEGRAM__CHAT_ID": str(CHAT_ID),
        }

    def listened_to(self, seconds: float = 300.0) -> None:
        """Wait until the bot listens.

        :raises TimeoutError: where it does not listen in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._polled, seconds):
                raise TimeoutError(f"the bot did not listen within {seconds:g} s; it called {self.calls}")

    def bot_ended(self) -> None:
        """Take note that nobody listens until the next bot does."""
        with self._changed:
            self._polled = False

    def say(self, text: str, *, chat_id: int = CHAT_ID, seconds: float = 300.0) -> int:
        """Write to the bot, once it listens; return how many messages it had sent before.

        What comes before its first poll Freqtrade drops. :raises TimeoutError: where it does not listen in time.
        """
        with self._changed:
            self.listened_to(seconds)
            message = self._message(chat_id, text)
            if text.startswith("/"):
                message["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}]
            self._updates.append({"update_id": self._next_update, "message": message})
            self._next_update += 1
            self._changed.notify_all()
            return len(self.messages)

    def wait(self, containing: str, *, after: int = 0, seconds: float = 150.0) -> str:
        """Return the first text with these words that was sent, not counting the first ``after`` messages.

        :raises TimeoutError: with all that was sent and refused, where none comes in time.
        """

        def found() -> str | None:
            return next((sent.text for sent in self.messages[after:] if containing in sent.text), None)

        with self._changed:
            text = self._changed.wait_for(found, seconds)
            if text is None:
                texts = [sent.text for sent in self.messages[after:]]
                raise TimeoutError(
                    f"no {containing!r} in {seconds:g} s; sent {texts}, refused {self.rejected}"
                )
            return text

    def ask(self, command: str, containing: str, *, seconds: float = 150.0) -> str:
        """Write to the bot and return its answer, known by some words of it."""
        return self.wait(containing, after=self.say(command), seconds=seconds)

    def answer(self, method: str, parameters: dict[str, Any]) -> tuple[int, Any]:
        """Return the status and the result, or the description of the error, of one call of the Bot API."""
        methods: dict[str, Callable[[dict[str, Any]], tuple[int, Any]]] = {
            "getme": lambda _: (200, {**_BOT, "can_join_groups": False, "supports_inline_queries": False}),
            "getupdates": self._get_updates,
            "deletewebhook": self._delete_webhook,
            "sendmessage": self._send,
            "editmessagetext": self._send,
        }
        for name in ("setMyCommands", "deleteMyCommands", "sendChatAction", "answerCallbackQuery"):
            methods[name.lower()] = lambda _: (200, True)
        with self._changed:
            self.calls.append(method)
            if method.lower() not in methods:
                self.unknown_methods.append(method)
                return 404, "Not Found"
            return methods[method.lower()](parameters)

    def _get_updates(self, parameters: dict[str, Any]) -> tuple[int, Any]:
        offset = int(parameters.get("offset", 0))
        self._polled = True
        self._updates = [update for update in self._updates if update["update_id"] >= offset]
        self._changed.notify_all()
        seconds = min(float(parameters.get("timeout", 0)), LONGEST_POLL_SECONDS)
        self._changed.wait_for(lambda: self._updates or self._closing, seconds)
        return 200, self._updates[: int(parameters.get("limit", 100))]

    def _delete_webhook(self, parameters: dict[str, Any]) -> tuple[int, Any]:
        if str(parameters.get("drop_pending_updates", "")).lower() == "true":
            self._updates.clear()
        return 200, True

    def _send(self, parameters: dict[str, Any]) -> tuple[int, Any]:
        text, chat_id = str(parameters.get("text", "")), int(parameters["chat_id"])
        reason = refusal(text, parameters.get("parse_mode"))
        if reason is not None:
            self.rejected.append((text, reason))
            self._changed.notify_all()
            return 400, f"Bad Request: {reason}"
        self.messages.append(Sent(text, chat_id, parameters))
        self._changed.notify_all()
        return 200, {**self._message(chat_id, text), "from": _BOT}

    def _message(self, chat_id: int, text: str) -> dict[str, Any]:
        return {
            "message_id": len(self.messages) + self._next_update,
            "date": int(time.time()),
            "chat": {"id": chat_id, "type": "private", "first_name": "Operator"},
            "from": {"id": chat_id, "is_bot": False, "first_name": "Operator"},
            "text": text,
        }


def refusal(text: str, parse_mode: str | None) -> str | None:
    """Return why Telegram would not take a text, None where it would."""
    if not text.strip():
        return "message text is empty"
    if len(text) > LONGEST_TEXT:
        return "message is too long"
    if parse_mode == "Markdown":
        position = 0
        while position < len(text):
            piece = MARKDOWN_PIECE.match(text, position)
            if piece is None:
                offset = len(text[:position].encode())
                return f"can't parse entities: Can't find end of the entity starting at byte offset {offset}"
            position = piece.end()
    return None


_BOT = {"id": 110201543, "is_bot": True, "first_name": "Stand-in", "username": "stand_in_bot"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, telegram: TelegramStandIn, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.telegram = telegram
        self.context = context

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a bot that ends or is killed leaves its connections in the middle


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    inside: ssl.SSLSocket | None = None

    def do_CONNECT(self) -> None:
        if self.path != f"{HOST}:443":
            self.server.telegram.other_hosts.append(self.path)
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        self.inside = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.inside.makefile("rb"), self.inside.makefile("wb", 0)
        self.close_connection = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        parameters = {**dict(parse_qsl(url.query)), **_parameters(self.headers.get("Content-Type", ""), body)}
        _, bot, method = ["", *url.path.strip("/").split("/"), ""][:3]
        if self.inside is None or bot != f"bot{TOKEN}":
            status, result = 401, "Unauthorized"
        else:
            status, result = self.server.telegram.answer(method, parameters)
        good = {"ok": True, "result": result}
        bad = {"ok": False, "error_code": status, "description": result}
        encoded = json.dumps(good if status == 200 else bad).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def do_GET(self) -> None:
        self.do_POST()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        if self.inside is not None:
            with suppress(OSError):
                self.inside.shutdown(socket.SHUT_RDWR)
            self.inside.close()

    def log_message(self, *_: object) -> None:
        pass


def _parameters(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type.startswith("application/json"):
        return dict(json.loads(body))
    if content_type.startswith("multipart/form-data"):
        parsed = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body, policy=HTTP)
        return {
            str(part.get_param("name", header="content-disposition")): part.get_content()
            for part in parsed.iter_parts()
        }
    return dict(parse_qsl(body.decode(), keep_blank_values=True))
