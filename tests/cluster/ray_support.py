"""``duplex serve --ray`` as a process, for the slow tests."""

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
from batch_support import SURROUNDINGS

from server_support import Server

START_SECONDS = 240
REPLICA = "ServeReplica"


class Command:
    """The command, in a session of its own: of a driver that is killed Ray ends the whole process group."""

    def __init__(self, address, *arguments, **environment):
        command = [sys.executable, "-m", "duplex", "serve", "--ray", address, "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**SURROUNDINGS, "OMP_NUM_THREADS": "1", **environment},
        )
        self.told = ""
        address = None
        deadline = time.monotonic() + START_SECONDS
        while address is None:
            line = self.process.stderr.readline()
            assert line, self.told
            assert time.monotonic() < deadline, self.told
            self.told += line
            address = re.search(r"listens at https?://\S+:(\d+)", line)
        self.door = Server(int(address[1]), None)
        self._reader = threading.Thread(target=self.process.communicate, daemon=True)
        self._reader.start()

    def replicas(self):
        """The processes of its replicas, by what Ray calls them."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(f"{REPLICA}:duplex-{self.door.port}:" in word for word in each.cmdline()):
                    found.append(each)
        return found

    def stop(self):
        """End it, unless it has ended, and wait for that."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=60)
        self._reader.join()
