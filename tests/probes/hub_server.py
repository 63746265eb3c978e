"""A model hub for tests: answers as the real one does for models that are there, gated, missing or of no use."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIG = json.dumps({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}).encode()
# repository -> file -> content; an error code instead of the files where the hub refuses.
REPOSITORIES: dict[str, dict[str, bytes] | str] = {
    "good/model": {"config.json": CONFIG, "model.safetensors": b"weights"},
    "sharded/model": {"config.json": CONFIG, "model.safetensors.index.json": b"{}"},
    "pickled/model": {"config.json": CONFIG, "pytorch_model.bin": b"weights"},
    "adapter/only": {"adapter_config.json": b"{}"},
    "gated/model": "GatedRepo",
    "missing/model": "RepoNotFound",
}


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        repository, _, rest = self.path.lstrip("/").partition("/resolve/main/")
        known = REPOSITORIES.get(repository, "RepoNotFound")
        if isinstance(known, str):
            self._refuse(403 if known == "GatedRepo" else 401, known)
        elif rest not in known:
            self._refuse(404, "EntryNotFound")
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{abs(hash(known[rest]))}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(known[rest])))
            self.end_headers()
            if with_body:
                self.wfile.write(known[rest])

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def running_hub() -> Iterator[str]:
    """The address of a hub that runs as long as the context."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
