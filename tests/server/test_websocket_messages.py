"""Messages of any length arrive as they were sent, whichever path they take, and what nobody takes is not read."""

import contextlib
import socket
import threading
from functools import partial

import anyio
import uvicorn
from websockets.sync.client import connect

from duplex.server.connections import MAX_UNTAKEN, WebSocketConnection
from server_support import until

SIZES = [0, 1, 125, 126, 127, 3841, 65535, 65536, 200_000]
"""Around each length of a frame's header, and some that occur."""


@contextlib.contextmanager
def serving(app):
    """Run an ASGI application with this server's websockets; yield the address, and the connections there are."""
    config = uvicorn.Config(app, ws=WebSocketConnection, ws_per_message_deflate=False, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"ws://127.0.0.1:{bound.getsockname()[1]}", server.server_state.connections
        finally:
            server.should_exit = True
            thread.join(30)


def test_every_length_arrives_whole_and_in_order():
    sent = [bytes(number % 251 for number in range(size)) for size in SIZES]

    async def app(_, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for data in sent:
            await send({"type": "websocket.send", "bytes": data})
            await send({"type": "websocket.send", "text": f"that was {len(data)}"})
        await send({"type": "websocket.close", "code": 1000, "reason": ""})

    with serving(app) as (url, _), connect(url, max_size=None) as line:
        found = list(line)
    assert found == [each for data in sent for each in (data, f"that was {len(data)}")]


def test_who_has_gone_is_noticed_while_sending():
    raised = []

    async def app(_, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1000)})
                await anyio.sleep(0.001)
        except OSError as error:  # as ASGI has it
            raised.append(error)
            raise

    with serving(app) as (url, _):
        with connect(url, max_size=None) as line:
            line.recv()
            line.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: raised)


def taken_up(connection, number):
    return connection.read_paused or connection.queue.qsize() > number


def test_what_nobody_takes_is_left_in_the_socket():
    go_on, got = threading.Event(), []

    async def app(_, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await anyio.to_thread.run_sync(go_on.wait)
        while (message := await receive())["type"] == "websocket.receive":
            got.append(message["bytes"])

    sent = [bytes([number]) * 50 for number in range(5 * MAX_UNTAKEN)]
    with serving(app) as (url, connections), connect(url) as line:
        (connection,) = connections
        for number, data in enumerate(sent):
            line.send(data)
            until(partial(taken_up, connection, number))  # each comes by itself
        assert MAX_UNTAKEN <= connection.queue.qsize() < len(sent)
        go_on.set()
        until(lambda: got == sent)
        assert not connection.read_paused
