"""A hub for tests: answers as the real one does, for data and for models that are there, gated, missing or useless."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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
ROWS_BYTES = 60_000_000


@cache
def data_files(dataset: str) -> dict[str, bytes] | None:
    """The files of a data set: of "good/rows" one that is so large that it shows whether all of it is fetched."""
    if dataset != "good/rows":
        return None
    row = {"prompt": "1 + 1 =", "completion": "2", "source": "x" * 3000}
    line = json.dumps(row).encode() + b"\n"
    return {"train.jsonl": line * (ROWS_BYTES // len(line))}


COMMIT = "0" * 40


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/datasets/"):
            self._describe(path.removeprefix("/api/datasets/"))
        elif path.startswith("/datasets/"):
            repository, _, rest = path.removeprefix("/datasets/").partition("/resolve/")
            self._send_part((data_files(repository) or {}).get(rest.partition("/")[2]), with_body)
        else:
            self._answer_for_model(with_body)

    def _answer_for_model(self, with_body: bool) -> None:
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

    def _describe(self, path: str) -> None:
        """A data set, or the files in it, as JSON."""
        owner, name, *rest = path.split("/")
        files = data_files(f"{owner}/{name}")
        if files is None or (rest[:1] == ["tree"] and len(rest) > 2):  # no folders in it
            self._refuse(404, "RepoNotFound" if files is None else "EntryNotFound")
            return
        listed = [{"type": "file", "path": path, "size": len(files[path]), "oid": "1" * 40} for path in files]
        about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        content = json.dumps(listed if rest[:1] == ["tree"] else about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_part(self, content: bytes | None, with_body: bool) -> None:
        """A file, or the range of it that is asked for."""
        if content is None:
            self._refuse(404, "EntryNotFound")
            return
        first, _, last = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1] if last else content
        self.send_response(206 if last else 200)
        if last:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("ETag", '"rows"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if with_body:
            self.wfile.write(part)
            self.server.bytes_sent += len(part)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Hub(ThreadingHTTPServer):
    """`bytes_sent` counts what was fetched of data sets."""

    bytes_sent = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that runs as long as the context."""
    server = Hub(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()  # or it would still take connections, and answer none
