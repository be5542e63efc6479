"""What the tests of server share."""

import contextlib
import json
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from duplex.server import application
from duplex.transports import wire
from server_support import Server, until


def position(caller):
    return json.loads(caller.until(wire.Kind.METADATA).payload)


@contextlib.contextmanager
def mounted(model, settings=None, **options):
    """Run an application of others, which has this one at /talk, in a server of theirs: plain uvicorn."""
    outer = Starlette(routes=[Mount("/talk", application(model, settings))])
    config = uvicorn.Config(outer, port=0, ws="websockets-sansio", log_config=None, lifespan="off", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield Server(server.servers[0].sockets[0].getsockname()[1], None)
    finally:
        server.should_exit = True
        thread.join()
