"""``python -m duplex.server.fronts LINK``: be a front, started by the model's process, which is at the other end."""

import sys

from duplex.server.fronts.front import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
