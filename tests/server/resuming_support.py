"""A line that can be cut, or on which all that is sent vanishes: a proxy of TCP between a caller and a server."""

import contextlib
import json
import socket
import threading

from duplex.transports import wire


class CutLine:
    """Passes bytes on between its own port and a server's, until it is cut, or swallows them without a word."""

    def __init__(self, port):
        self._upstream = port
        self._open = True
        self._swallows = False
        self._pairs = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
        self._listening.close()

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    def cut(self):
        """Break all connections, and refuse new ones."""
        self._open = False
        pairs, self._pairs = self._pairs, []
        for each in (one for pair in pairs for one in pair):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def swallow(self):
        """Let all that is sent from now on vanish, on connections that stay open and on new ones; refuse none."""
        self._swallows = True

    def mend(self):
        """Take connections again; those from before stay dead."""
        self._open, self._swallows = True, False

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                if not self._open:
                    accepted.close()
                    continue
                try:
                    pair = accepted, socket.create_connection(("127.0.0.1", self._upstream))
                except OSError:
                    accepted.close()
                    raise
                self._pairs.append(pair)
                for source, target in (pair, pair[::-1]):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source, target):
        """Pass on what comes; once something has been swallowed the rest is, too, an end with it."""
        dead = False
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                dead = dead or self._swallows
                if not dead:
                    target.sendall(data)
        if not (dead or self._swallows):
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
        source.close()


def session(caller):
    """Return the next offer to come back."""
    while True:
        record = json.loads(caller.until(wire.Kind.METADATA).payload)
        if record["type"] == "Session":
            return record


def counted(caller):
    """Return the messages that count, in order, without the offers."""
    kinds = (wire.Kind.AUDIO, wire.Kind.TEXT, wire.Kind.METADATA, wire.Kind.ERROR)
    found, begun = [], False
    for message in caller.messages:
        if message.kind is wire.Kind.METADATA and json.loads(message.payload)["type"] == "Session":
            begun = True
        elif begun and message.kind in kinds:
            found.append(message)
    return found


def vanish(caller):
    """End a caller's connection without a word."""
    caller.websocket.socket.shutdown(socket.SHUT_RDWR)
