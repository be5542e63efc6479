"""A server on many machines: replicas that Ray Serve starts, restarts and scales, and one door in front of them.

1. A *replica* (:mod:`.replica`) is an actor that holds the models, with a server and a port of its own. Sound goes
   between it and its callers, and through nothing of Ray's.
2. Replicas tell the *registry* (:mod:`.registry`), an actor too, how many talk and wait there.
3. The *ingress* (:mod:`.ingress`) is where callers come first: it has the page, and gives each caller addresses of
   replicas with tickets (:mod:`.ticket`), best first (:mod:`.placing`). What it knows of replicas is half a second
   old; whether there is a place is decided by the replica, which refuses if there is none, and the caller asks at the
   next one.
4. How many replicas there are is decided on who talks and waits (:mod:`.scaling`), by Ray Serve's controller. One that
   is to go lets nobody in, has its calls moved to others if they can be, and waits for the rest.

It needs the extras ``ray`` and ``serve``. :func:`serve_on_cluster` blocks.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
