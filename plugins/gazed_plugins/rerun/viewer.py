"""Rerun's web viewer on this machine's loopback, which can speak with nothing but its recording.

As it comes, the viewer tells Rerun's makers what it is used for, and has its letters from Google. The rules that its
page is served with (a content security policy) let it do neither.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import re
import shutil
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

from gazed_bus.errors import PortInUse
from gazed_plugins.rerun.viewer_files import FILES, viewer_files

__all__ = ["WebViewer"]

_TYPES = {".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".ico": "image/x-icon"}
_RECORDING = "/recording.rrd"
_LOOPBACK = ("127.0.0.1", "localhost")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class WebViewer:
    """Serves the viewer, for a recording in a file or for live data. Use as a context manager.

    ``url`` is what to open in a browser.

    Args:
        port: of the page; 0 takes a free one.
        recording: the file to show.
        live: where else the viewer gets its data: a URL ``rerun+http://127.0.0.1:…``.

    Raises:
        PortInUse: another program has the port.
        MissingExtra, PluginError, OSError: as ``viewer_files``.
    """

    def __init__(self, port: int = 0, *, recording: Path | None = None, live: str = "") -> None:
        files = {f"/{name}": viewer_files() / name for name in FILES}
        files["/"] = files["/index.html"]
        if recording is not None:
            files[_RECORDING] = recording
        page = files["/"].read_text()
        try:
            self._server = _Server(port, files, _policy(page, live))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(f"port {port} is taken by another program", hint="--web-port 0 takes a free one") from error
        self.port: int = self._server.server_address[1]
        base = f"http://127.0.0.1:{self.port}/"
        source = live or f"{base.rstrip('/')}{_RECORDING}"
        self.url = f"{base}?url={quote(source, safe='')}&hide_welcome_screen=1"
        self._thread = threading.Thread(target=self._server.serve_forever, name="web viewer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, files: dict[str, Path], policy: str) -> None:
        self.files = files
        self.policy = policy
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that have gone away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout: ClassVar[float] = 30.0
    server_version = "gazed"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        # A page from elsewhere whose name was made to lead here (DNS rebinding) gets nothing.
        host = self.headers.get("Host", "").rpartition(":")[0]
        path = self.server.files.get(self.path.partition("?")[0])
        if host not in _LOOPBACK or path is None:
            self.send_error(HTTPStatus.FORBIDDEN if host not in _LOOPBACK else HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            self.send_response(HTTPStatus.OK)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Security-Policy", self.server.policy)
            self.send_header("Content-Type", _TYPES.get(path.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def _policy(page: str, live: str) -> str:
    """Return what the page may do: run its own scripts, and load from here and from where the live data are."""
    inline = (hashlib.sha256(body.encode()).digest() for body in re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in inline)
    data = " " + live.removeprefix("rerun+").rpartition("/")[0] if live else ""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'wasm-unsafe-eval' {hashes}",
            "style-src 'unsafe-inline'",
            "img-src 'self' blob: data:",
            "worker-src 'self' blob:",
            f"connect-src 'self' blob: data:{data}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
