"""A stand-in for the Hugging Face hub: a real HTTP server with its endpoints, serving folders of this disk.

    with HubServer({"owner/name": folder}) as hub:
        environment = hub.environment(home)      # for a process that shall use it
        hub.gated.add("owner/name")              # asks for a token, as gated repositories do
        hub.cut["model.safetensors"] = 1000      # the first answer breaks off after so many bytes
        hub.held.add("model.safetensors")        # half of it is sent, and then nothing until `hub.go_on` is set
    hub.spoiled.add("model.safetensors")     # its bytes are not those of its sum
        hub.asked                                # what was asked for, in order: (method, path, Range)

Endpoints: `/api/models/NAME[/revision/REV]`, `/api/models/NAME/tree/REV`, `/NAME/resolve/REV/FILE` by HEAD
and GET with ranges, and the same below `/api/datasets` and `/datasets`. Files are named by their SHA-256,
as the hub does with big files.
"""

import hashlib
import http.server
import json
import os
import re
import threading
import urllib.parse

COMMIT = hashlib.sha1(b"stand-in").hexdigest()


def commit_of(revision):
    """What a revision is here: a whole hash is itself, as at the hub; a branch or a short one is COMMIT."""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else COMMIT


class HubServer:
    """The server, running in a thread between `with` and its end."""

    def __init__(self, repositories, token="hf_standin"):
        self.repositories = dict(repositories)
        self.token = token
        self.gated, self.spoiled, self.cut, self.asked = set(), set(), {}, []
        self.held, self.go_on = set(), threading.Event()

    def __enter__(self):
        hub = self

        class Bound(Handler):
            owner = hub

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *error):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home, **more):
        """The variables of a process that shall see this hub and nothing of the user's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ANYLOOM_"))}
        mine = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        return {**kept, **mine, "OMP_NUM_THREADS": "1", **more}

    def files(self, name):
        """The files of a repository by their names in it."""
        folder = self.repositories[name]
        return {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.is_file()}


class Handler(http.server.BaseHTTPRequestHandler):
    """One request. What a repository lacks, what is gated, and what is unknown is told in the hub's headers."""

    protocol_version = "HTTP/1.1"
    owner: HubServer

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = urllib.parse.unquote(self.path.partition("?")[0]).strip("/")
        self.owner.asked.append((self.command, path, self.headers.get("Range")))
        if path.startswith("api/"):
            return self.about(path.removeprefix("api/").partition("/")[2], body)
        name, _, rest = path.removeprefix("datasets/").partition("/resolve/")
        revision, _, wanted = rest.partition("/")
        return self.file(name, wanted, body, commit_of(revision))

    def about(self, path, body):
        parts = path.split("/")
        name = "/".join(parts[:2])
        if name not in self.owner.repositories:
            return self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        files = self.owner.files(name)
        listed = [
            {"type": "file", "path": n, "rfilename": n, "size": f.stat().st_size, "oid": "1" * 40}
            for n, f in files.items()
        ]
        tree = len(parts) > 2 and parts[2] == "tree"
        commit = commit_of(parts[3] if parts[2:3] == ["revision"] and len(parts) > 3 else "")
        whole = {"id": name, "sha": commit, "siblings": listed, "private": False, "tags": [], "downloads": 0}
        whole["gated"] = "auto" if name in self.owner.gated else False
        return self.send(
            200, json.dumps(listed if tree else whole).encode(), body, {"Content-Type": "application/json"}
        )

    def file(self, name, wanted, body, commit):
        if name not in self.owner.repositories:
            return self.send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
        if name in self.owner.gated and self.headers.get("Authorization") != f"Bearer {self.owner.token}":
            why = "Access to model is restricted. You must have access to it and be authenticated."
            return self.send(403, b"", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": why})
        files = self.owner.files(name)
        if wanted not in files:
            return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        data = files[wanted].read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        last = wanted.rpartition("/")[2]
        if last in self.owner.spoiled:
            data = data[:-1] + bytes([data[-1] ^ 1])
        return self.part(data, headers, last, body)

    def part(self, data, headers, last, body):
        asked = self.headers.get("Range")
        if body and last in self.owner.held:
            self.send(200, data, body, headers, len(data) // 2)
            self.owner.go_on.wait(60)
            return None
        if not asked:
            most = self.owner.cut.pop(last, None) if body else None
            return self.send(200, data, body, headers, most)
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.send(206, data[start:], body, headers)

    def send(self, code, data, body, headers, most=None):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[:most])
        if most is not None:
            self.close_connection = True

    def log_message(self, *args):
        pass
