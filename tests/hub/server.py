"""A stand-in for the Hugging Face Hub on loopback: repositories, commits, large files, revisions, trees. It keeps every request it saw."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

LARGE = (".parquet", ".tif")


@dataclass
class Hub:
    """Commits of dataset repositories: repo -> commit -> path -> bytes, newest last."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    token: str = "hf_testtoken"
    url: str = ""

    def files(self, repo: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        history = self.commits.get(repo)
        if not history:
            return None
        commit = list(history)[-1] if revision == "main" else revision
        return (commit, history[commit]) if commit in history else None

    def commit(self, repo: str, changes: dict[str, bytes]) -> str:
        history = self.commits.setdefault(repo, {})
        tree = {**(list(history.values())[-1] if history else {}), **changes}
        text = "".join(f"{path}{hashlib.sha1(content).hexdigest()}" for path, content in sorted(tree.items()))
        commit = hashlib.sha1(f"{len(history)}{text}".encode()).hexdigest()
        history[commit] = tree
        return commit


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("X_Size", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def _missing(self, code: str) -> None:
        self._answer(404, b'{"error":"not found"}', X_Error_Code=code, Content_Type="application/json")

    def _start(self) -> tuple[str, bytes]:
        path = unquote(urlparse(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.hub.seen.append((self.command, path, self.headers.get("Authorization")))
        return path, body

    def _allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        self._json({"error": f"Invalid token {self.headers.get('Authorization')}"}, 401)
        return False

    def do_POST(self) -> None:
        path, body = self._start()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.endswith("/paths-info/main") or "/paths-info/" in path:
            return self._paths_info(path, body)
        if not self._allowed():
            return None
        said = {} if path.endswith("/commit/main") else json.loads(body or b"{}")
        if path == "/api/repos/create":
            repo = f"{said['organization']}/{said['name']}" if said.get("organization") else said["name"]
            if repo not in self.hub.commits:
                self.hub.commit(repo, {".gitattributes": b"*.parquet filter=lfs\n"})
            return self._json({"url": f"{self.hub.url}/datasets/{repo}", "name": repo})
        if path.endswith("/preupload/main"):
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular", "shouldIgnore": False}
                for f in said["files"]
            ]
            return self._json({"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            put = [
                {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{self.hub.url}/large/{o['oid']}"}}}
                for o in said["objects"]
            ]
            return self._json({"transfer": "basic", "objects": put})
        if path.endswith("/commit/main"):
            repo, changes = path.removeprefix("/api/datasets/").removesuffix("/commit/main"), {}
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    changes[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                if entry["key"] == "lfsFile":
                    changes[entry["value"]["path"]] = self.hub.large[entry["value"]["oid"]]
            commit = self.hub.commit(repo, changes)
            return self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{commit}"})
        return self._missing("EntryNotFound")

    def do_PUT(self) -> None:
        path, body = self._start()
        if hashlib.sha256(body).hexdigest() != path.removeprefix("/large/"):
            return self._json({"error": "content does not hash to its name"}, 422)
        self.hub.large[path.removeprefix("/large/")] = body
        return self._answer(200)

    def do_GET(self) -> None:
        path, _ = self._start()
        if path.startswith("/datasets/") and "/resolve/" in path:
            return self._resolve(path)
        if path.startswith("/api/datasets/"):
            return self._describe(path.removeprefix("/api/datasets/"))
        return self._missing("EntryNotFound")

    do_HEAD = do_GET

    def _resolve(self, path: str) -> None:
        repo, rest = path.removeprefix("/datasets/").split("/resolve/")
        revision, name = rest.split("/", 1)
        found = self.hub.files(repo, revision)
        if found is None:
            return self._missing("RevisionNotFound" if repo in self.hub.commits else "RepoNotFound")
        commit, files = found
        if name not in files:
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        content = files[name]
        first, last, status = 0, len(content), 200
        if asked := self.headers.get("Range"):
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            first, last, status = int(start), min(int(stop or len(content) - 1) + 1, len(content)), 206
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        span = {"Content_Range": f"bytes {first}-{last - 1}/{len(content)}"} if status == 206 else {}
        return self._answer(status, content[first:last], ETag=etag, X_Repo_Commit=commit, Accept_Ranges="bytes", **span)

    def _describe(self, path: str) -> None:
        repo, _, rest = path.partition("/revision/")
        repo, _, tree = repo.partition("/tree/")
        revision = (tree or rest or "main").split("/")[0]
        found = self.hub.files(repo, revision)
        if found is None:
            return self._missing("RevisionNotFound" if repo in self.hub.commits else "RepoNotFound")
        commit, files = found
        if tree:
            return self._json([_entry(name, content) for name, content in sorted(files.items())])
        return self._json(
            {"id": repo, "sha": commit, "private": False, "tags": [], "siblings": [{"rfilename": name} for name in sorted(files)]}
        )

    def _paths_info(self, path: str, body: bytes) -> None:
        repo, _, revision = path.removeprefix("/api/datasets/").partition("/paths-info/")
        found = self.hub.files(repo, revision)
        if found is None:
            return self._missing("RepoNotFound")
        try:
            wanted = json.loads(body)["paths"]
        except ValueError:
            from urllib.parse import parse_qs

            wanted = parse_qs(body.decode())["paths"]
        answer = []
        for name in wanted:
            if name in found[1]:
                answer.append(_entry(name, found[1][name]))
            elif any(file.startswith(f"{name}/") for file in found[1]):
                answer.append({"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0})
        return self._json(answer)


def _entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def serve() -> tuple[Hub, ThreadingHTTPServer]:
    """A hub on a free port of loopback; shut the server down when done."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return hub, server
