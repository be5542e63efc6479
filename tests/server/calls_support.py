"""What the tests of server share."""

import json

from duplex.transports import wire


def position(caller):
    return json.loads(caller.until(wire.Kind.METADATA).payload)
