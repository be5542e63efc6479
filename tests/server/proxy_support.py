"""nginx and Caddy, run with the configurations that docs/how-to/behind-a-proxy.md prints."""

import contextlib
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import attrs

from duplex.server.certificate import self_signed_certificate

NGINX, CADDY = shutil.which("nginx"), shutil.which("caddy")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "behind-a-proxy.md"
NAME = "talk.example.org"


@attrs.frozen
class Proxy:
    port: int
    secure: bool

    @property
    def host(self):
        """What a browser calls it."""
        return f"{NAME}:{self.port}"

    @property
    def origin(self):
        """Where its pages come from."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


def printed(language):
    """Return the page's blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


@contextlib.contextmanager
def nginx(folder, upstream, configuration, *, replace=(), port=None):
    """Run nginx with a ``server`` block on a free port, with a certificate of its own."""
    port = port or free_port()
    certificate, key = self_signed_certificate(folder, NAME)
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/talk.pem", str(certificate)),
        ("/etc/ssl/talk.key", str(key)),
        ("127.0.0.1:8998", f"127.0.0.1:{upstream}"),
        *replace,
    ):
        assert old in configuration, "it is not what the page prints"
        configuration = configuration.replace(old, new)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{configuration}}}\n"
    )
    with _running([NGINX, "-e", "stderr", "-p", str(folder), "-c", str(file)], port):
        yield Proxy(port, secure=True)


@contextlib.contextmanager
def caddy(folder, upstream, configuration):
    """Run Caddy with a site on a free port, without certificates: it would ask for them elsewhere."""
    port = free_port()
    configuration = configuration.replace(f"{NAME} {{", f"http://{NAME}:{port} {{")
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n}\n" + configuration.replace("127.0.0.1:8998", f"127.0.0.1:{upstream}"))
    command = [CADDY, "run", "--config", str(file), "--adapter", "caddyfile"]
    with _running(command, port, env={"HOME": str(folder), "XDG_DATA_HOME": str(folder)}):
        yield Proxy(port, secure=False)


@contextlib.contextmanager
def _running(command, port, **options):
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.communicate()
