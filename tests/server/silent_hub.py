"""A model hub that stops answering."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 40
MODEL = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
TREE = [{"type": "file", "path": "config.json", "size": 100, "oid": COMMIT}]


class SilentHub:
    """On a port of its own. after_list: it says which files there are, and is silent when asked for one."""

    def __init__(self, after_list: bool) -> None:
        answers = (("/tree/", TREE), ("/api/models/owner/name", MODEL)) if after_list else ()
        silent = "/resolve/" if after_list else "/api/models/"
        self.silent_at: list[str] = []
        self._asked, self._closed = threading.Event(), threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = next((answer for part, answer in answers if part in self.path), None)
                if found is None and silent in self.path:
                    hub._be_silent(self.path)
                    return
                if found is None:
                    self.send_error(404)
                    return
                content = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to ask this hub, and to wait for its answer."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_ETAG_TIMEOUT": "600",
            "HF_HUB_DOWNLOAD_TIMEOUT": "600",
            "NO_PROXY": "127.0.0.1",
        }

    def wait_until_silent(self) -> str:
        """The path that somebody waits for."""
        assert self._asked.wait(60), "nobody asks"
        return self.silent_at[0]

    def __enter__(self) -> SilentHub:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _be_silent(self, path: str) -> None:
        self.silent_at.append(path)
        self._asked.set()
        self._closed.wait()
