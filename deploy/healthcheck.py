"""Exit with 0 if the server in this container lives, whether it speaks HTTP or, with --tls, HTTPS.

A port other than 8998 must be given as DUPLEX_PORT, which is the server's setting too.
"""

import os
import ssl
import sys
import urllib.request

PORT = os.environ.get("DUPLEX_PORT", "8998")
UNVERIFIED = ssl._create_unverified_context()  # noqa: S323, SLF001 -- it asks itself

for scheme in ("http", "https"):
    try:
        urllib.request.urlopen(f"{scheme}://127.0.0.1:{PORT}/healthz", timeout=5, context=UNVERIFIED)  # noqa: S310
    except OSError:
        continue
    sys.exit(0)
sys.exit(f"nothing answers on port {PORT}")
