"""A model hub with one model, of which it gives away the configuration alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40
FILES = ("config.json", "model.safetensors")


class Hub:
    """On a port of its own. asked: paths of files that were asked for, the configuration's left out."""

    def __init__(self, config: Mapping[str, Any], files: Sequence[str] = FILES) -> None:
        content = json.dumps(config).encode()
        model = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        tree = [{"type": "file", "path": name, "size": len(content), "oid": COMMIT} for name in files]
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "/resolve/" not in self.path:
                    self._answer(json.dumps(tree if "/tree/" in self.path else model).encode())
                elif self.path.endswith("/config.json"):
                    self._answer(content)
                else:
                    asked.append(self.path)
                    self.send_error(404)

            do_HEAD = do_GET  # noqa: N815

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{COMMIT}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to ask this hub."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
