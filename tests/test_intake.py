"""The intake of content from outside: paths, bytes, data: URIs, and addresses behind the fetch guard."""

import contextlib
import http.server
import socket
import threading
import time

import pytest

from anyloom.agent.fetch import Fetch, is_public
from anyloom.agent.intake import take, take_all
from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import InputError
from anyloom.core.media import Limits
from anyloom.tools.fakes import tiny_png, tiny_wav

PUBLIC = "93.184.216.34"
PICTURE = tiny_png(b"abc")


class Site(http.server.BaseHTTPRequestHandler):
    """What the addresses of these tests lead to."""

    def do_GET(self):
        where = self.path.split("?")[0]
        self.server.asked.append((self.headers["Host"], self.path))
        if where.startswith("/to/"):
            self.answer(302, b"", Location=self.server.targets[where[4:]])
        elif where == "/round":
            self.answer(302, b"", Location="/round")
        elif where == "/cat.png":
            self.answer(200, PICTURE, **{"Content-Type": "text/html"})
        elif where == "/page":
            self.answer(200, b"<html><script>alert(1)</script></html>", **{"Content-Type": "image/png"})
        elif where == "/big":
            self.answer(200, b"x" * 3000, length=False)
        elif where == "/announced":
            self.send_response(200)
            self.send_header("Content-Length", "99999999999")
            self.end_headers()
        elif where == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "1500")
            self.end_headers()
            self.wfile.write(PICTURE)
        elif where == "/slow":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
        else:
            self.answer(404, b"no")

    def answer(self, status, body, length=True, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.asked, server.targets, server.connected = [], {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store", Limits(file_bytes=2000))


def fetch(site, addresses=(PUBLIC,), **options):
    """A Fetch for which every name has these addresses, and every connection ends at the site."""

    def connect(address, port, timeout):
        site.connected.append(address)
        return socket.create_connection(site.server_address, timeout)

    return Fetch(resolve=lambda host, port: list(addresses), connect=connect, **options)


def test_an_address_is_fetched_and_judged_by_its_content(site, store):
    made = take(store, "http://example.org/cat.png?size=2", allow_urls=True, fetch=fetch(site))
    assert (made.modality, made.media_type, made.name) == ("image", "image/png", "cat.png")
    assert site.asked == [("example.org", "/cat.png?size=2")]
    assert site.connected == [PUBLIC]
    page = take(store, "http://example.org/page", allow_urls=True, fetch=fetch(site))
    assert page.media_type == "text/plain", "whatever its header says"


def test_redirects_are_followed_and_checked_again(site, store):
    site.targets = {"good": "/cat.png", "other": "http://other.example/cat.png", "file": "file:///etc/passwd"}
    for name in ("good", "other"):
        made = take(store, f"http://example.org/to/{name}", allow_urls=True, fetch=fetch(site))
        assert made.name == "cat.png"
    with pytest.raises(InputError, match="only http and https"):
        take(store, "http://example.org/to/file", allow_urls=True, fetch=fetch(site))
    with pytest.raises(InputError, match="more than 5 redirects"):
        take(store, "http://example.org/round", allow_urls=True, fetch=fetch(site))


INSIDE = ["http://127.0.0.1/secret", "http://169.254.169.254/latest", "http://[::1]/", "//10.0.0.8/x"]


@pytest.mark.parametrize("target", INSIDE)
def test_a_redirect_into_the_network_is_refused(site, store, target):
    site.targets = {"in": target}

    def resolve(host, port):
        return [PUBLIC] if host == "example.org" else [host]

    guarded = Fetch(resolve=resolve, connect=fetch(site).connect)
    with pytest.raises(InputError, match="no public address"):
        take(store, "http://example.org/to/in", allow_urls=True, fetch=guarded)
    assert len(site.asked) == 1, "the second address was never connected to"


def test_a_name_that_changes_its_mind_gains_nothing(site, store):
    answers = [[PUBLIC], ["127.0.0.1"]]
    guarded = Fetch(resolve=lambda host, port: answers.pop(0), connect=fetch(site).connect)
    take(store, "http://rebind.example/cat.png", allow_urls=True, fetch=guarded)
    assert site.connected == [PUBLIC], "connected to the address that was checked"
    assert len(answers) == 1, "and asked for it once"


def test_one_private_address_among_several_is_enough_to_refuse(site, store):
    with pytest.raises(InputError, match=r"192\.168\.0\.7, which is no public address"):
        take(store, "http://example.org/cat.png", allow_urls=True, fetch=fetch(site, (PUBLIC, "192.168.0.7")))
    assert site.connected == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/big", "more than 0 MB, which is the limit"),
        ("/announced", "more than 0 MB, which is the limit"),
        ("/short", "was cut off"),
        ("/gone", "answered 404"),
    ],
)
def test_what_does_not_come_whole_is_refused(site, store, path, said):
    with pytest.raises(InputError, match=said):
        take(store, f"http://example.org{path}", allow_urls=True, fetch=fetch(site))
    assert not list(store.root.rglob("*.*"))


def test_a_slow_site_is_given_up(site, store):
    began = time.monotonic()
    with pytest.raises(InputError, match=r"took longer than 0\.4 seconds"):
        take(store, "http://example.org/slow", allow_urls=True, fetch=fetch(site, seconds=0.4))
    assert time.monotonic() - began < 3


def test_a_slow_name_server_is_given_up(store):
    slow = Fetch(seconds=0.3, resolve=lambda host, port: time.sleep(3) or [PUBLIC])
    began = time.monotonic()
    with pytest.raises(InputError, match="cannot be found"):
        take(store, "http://example.org/", allow_urls=True, fetch=slow)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "192.88.99.1", "::", "::1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "nonsense", "",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"])
def test_addresses_that_are_public(address):
    assert is_public(address)


def test_data_uris(store):
    import base64

    made = take(store, "data:image/png;base64," + base64.b64encode(PICTURE).decode(), allow_urls=False)
    assert (made.name, made.media_type) == ("file.png", "image/png")
    with pytest.raises(InputError, match=r"'file\.png' holds text"):
        take(store, "data:image/png;base64," + base64.b64encode(b"plain words").decode(), allow_urls=False)
    assert store.text(take(store, "data:,two%20words", allow_urls=False, name="a.txt")) == "two words"
    for uri, said in (
        ("data:image/png;base64,@@@@", "no valid base64"),
        ("data:image/png", "no data: URI"),
        ("data:;base64,", "empty"),
        ("data:;base64," + "A" * 4000, "the limit is"),
        ("data:," + "a" * 9000, "the limit"),
    ):
        with pytest.raises(InputError, match=said) as found:
            take(store, uri, allow_urls=False)
        assert len(str(found.value)) < 300


def test_doors_that_strangers_reach_open_no_path(store, tmp_path):
    (tmp_path / "cat.png").write_bytes(PICTURE)
    assert take(store, tmp_path / "cat.png", allow_urls=False).name == "cat.png"
    for what in (str(tmp_path / "cat.png"), "../../etc/passwd", "cat.png"):
        with pytest.raises(InputError, match="nothing else is opened here"):
            take(store, what, allow_urls=True, allow_paths=False)
    with pytest.raises(InputError, match="none are fetched here"):
        take(store, "http://example.org/cat.png", allow_urls=False)


def test_bytes_are_named_by_what_they_are_and_names_differ(store, tmp_path):
    assert take(store, PICTURE, "../../photo", allow_urls=False).name == "photo.png"
    assert take(store, tiny_wav(b"abc", seconds=0.05), allow_urls=False).name == "file.wav"
    files = take_all(store, [PICTURE, tiny_png(b"xyz"), PICTURE], allow_urls=False)
    assert [a.name for a in files] == ["file.png", "file-2.png", "file-3.png"]
