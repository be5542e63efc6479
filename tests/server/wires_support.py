"""What the tests of wires share: callers that speak JSON, and mutated messages."""

import base64
import contextlib
import json
import random
import string
from pathlib import Path

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PATIENCE = 20.0
SCRAPS = [
    None,
    True,
    -1,
    1e308,
    10**19,
    "",
    "x" * 300,
    "\ud800",
    [],
    {},
    [[]],
    {"type": []},
    "AAAA",
    "=",
    "wav;base64,",
]


class Heard:
    """A recorder that keeps what the model heard and said."""

    path = Path("kept")

    def __init__(self):
        self.frames, self.events = [], []

    def record(self, frame):
        self.frames.append(frame)

    def record_event(self, event):
        self.events.append(event)

    def describe(self, about):
        self.about = about

    async def run(self):
        pass


class JsonCaller:
    """A plain client of a wire of JSON: what it has heard stays in ``messages``."""

    def __init__(self, server, path, **options):
        # What nobody reads is kept: a client that stops reading could not close.
        bounds = {"compression": None, "max_size": None, "max_queue": None}
        self.websocket = connect(server.url(path, "ws"), **bounds, **options).__enter__()
        self.messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.websocket.close()

    def say(self, **message):
        self.websocket.send(json.dumps(message))

    def next(self):
        self.messages.append(json.loads(self.websocket.recv(timeout=PATIENCE)))
        return self.messages[-1]

    def until(self, kind, name="type"):
        while (message := self.next()).get(name) != kind:
            pass
        return message

    def rest(self):
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.next()
        return self.messages

    def kinds(self, name="type"):
        return [message[name] for message in self.messages]

    @property
    def code(self):
        return self.websocket.protocol.close_code


def in_base64(pcm):
    return base64.b64encode((pcm * 32767).astype("<i2").tobytes()).decode()


def mutated(samples, count, seed=0):
    """Yield messages near the ``samples``: values, names and characters of them are others, or are missing."""
    chosen = random.Random(seed)  # noqa: S311 -- not for secrets
    for _ in range(count):
        message = json.loads(json.dumps(chosen.choice(samples)))
        for _ in range(chosen.randint(1, 3)):
            _mutate(message, chosen)
        text = json.dumps(message)
        if chosen.random() < 0.2:
            at = chosen.randrange(len(text) + 1)
            text = text[:at] + chosen.choice(string.printable) + text[at + chosen.randint(0, 3) :]
        yield text


def _mutate(message, chosen):
    places = []

    def walk(value):
        if isinstance(value, dict):
            for name, each in value.items():
                places.append((value, name))
                walk(each)

    walk(message)
    if not places:
        return
    record, name = chosen.choice(places)
    action = chosen.random()
    if action < 0.2:
        del record[name]
    elif action < 0.3:
        record["".join(chosen.choices(string.printable, k=5))] = record.pop(name)
    else:
        record[name] = chosen.choice(SCRAPS)


def frames_of(pcm, size):
    return np.pad(pcm, (0, -len(pcm) % size)).reshape(-1, size)
