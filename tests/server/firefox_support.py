"""Firefox as it is installed, driven over WebDriver BiDi, which it speaks itself."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess

from websockets.sync.client import connect

from server_support import PATIENCE, until

FIREFOX = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
PREFERENCES = {
    "media.navigator.permission.disabled": True,  # the microphone is given without a question
    "media.autoplay.default": 0,
    "browser.download.folderList": 2,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
}
READY = b"WebDriver BiDi listening on "


@contextlib.contextmanager
def firefox(folder, environment):
    """Run one, with a profile and downloads in ``folder``, during a block."""
    profile, downloads = folder / "profile", folder / "downloads"
    profile.mkdir()
    downloads.mkdir()
    preferences = {**PREFERENCES, "browser.download.dir": str(downloads)}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
    (profile / "user.js").write_text("".join(lines))
    command = [FIREFOX, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        until(lambda: READY in (folder / "log").read_bytes(), PATIENCE)
        address = (folder / "log").read_bytes().split(READY)[1].split()[0].decode()
        with connect(f"{address}/session", max_size=None) as socket:
            yield Page(socket, downloads)
    finally:
        process.kill()
        process.wait()


class Page:
    """Its one page."""

    def __init__(self, socket, downloads):
        self.complaints = []
        """What it said was wrong."""
        self.downloads = downloads
        self._socket = socket
        self._numbers = itertools.count()
        self._command("session.new", capabilities={})
        self._command("session.subscribe", events=["log.entryAdded"])
        (context,) = self._command("browsingContext.getTree")["contexts"]
        self._context = context["context"]

    def goto(self, url):
        self._command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression):
        """Return the value of an expression, as if somebody had just touched the page."""
        target = {"context": self._context}
        outcome = self._command(
            "script.evaluate", expression=expression, target=target, awaitPromise=True, userActivation=True
        )
        assert outcome["type"] == "success", outcome
        return outcome["result"].get("value")

    def click(self, identifier):
        self.evaluate(f"document.getElementById('{identifier}').click()")

    def text(self, identifier):
        return self.evaluate(f"document.getElementById('{identifier}').textContent")

    def _command(self, method, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv(PATIENCE))).get("id") != number:
            if message["type"] == "event" and message["params"]["level"] == "error":
                self.complaints.append(message["params"]["text"])
        assert message["type"] == "success", message
        return message["result"]
