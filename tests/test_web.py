"""The page, as a browser sees it (Debian's chromium, driven by Playwright), and its parts without one."""

import shutil
import time
import urllib.error
import urllib.request

import pytest
from rig import engine, settings, task

from anyloom.agent import Agent
from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import SettingsError
from anyloom.core.events import PlanMade, TaskDone, TaskFailed, TaskStarted
from anyloom.tools.fakes import Fakes, tiny_png

gradio = pytest.importorskip("gradio")

from anyloom.agent.web.diagram import Board  # noqa: E402 they need gradio
from anyloom.agent.web.owners import Owners  # noqa: E402
from anyloom.agent.web.server import free_port, is_loopback, open_page, read_auth  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser_needed = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt-get install chromium)")
CHAIN = [
    task("text-to-image", 0, text="a cat"),
    task("image-to-text", 1, image="<resource>-0"),
    task("text-to-speech", 2, text="<resource>-1"),
]


def agent_over(folder, plan=CHAIN, fakes=None, plans=None):
    agent = Agent(settings(folder))
    agent._engine = engine(folder, ScriptedController(plan, plans=plans), fakes or Fakes())
    return agent


def test_tasks_are_drawn_with_their_status_in_words():
    board = Board()
    tasks = tuple({**t, "dep": [t["id"] - 1]} for t in CHAIN)
    board.event(PlanMade(tasks, ("It is <b>bridged</b>.",), "scripted", 0.1))
    board.event(TaskStarted(0, "text-to-image", "painter"))
    board.event(TaskDone(0, "text-to-image", "painter", 1.5, False, ({"name": "<script>.png"},)))
    board.event(TaskFailed(1, "image-to-text", "It <i>broke</i>.", False))
    page = board.html()
    assert "0 text-to-image done; 1 image-to-text failed; 2 text-to-speech waiting" in page
    assert page.count("al-edge") == 2
    for hostile in ("<script>", "<b>bridged", "<i>broke"):
        assert hostile not in page


def test_a_conversation_has_one_owner(tmp_path):
    owners = Owners(tmp_path / "owners.sqlite")
    assert owners.claim("t", "ada", "hello")
    assert not owners.claim("t", "bob", "mine now")
    assert owners.owns("t", "ada")
    assert not owners.owns("t", "bob")
    owners.forget("t", "bob")
    assert owners.threads("ada") == [("hello", "t")]
    assert b"ada" not in (tmp_path / "owners.sqlite").read_bytes()


def test_beyond_this_machine_only_with_a_login(tmp_path):
    with pytest.raises(SettingsError, match="--auth NAME:PASSWORD"):
        open_page(agent_over(tmp_path), host="0.0.0.0")
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "example.org")))
    assert read_auth(["ada:pass:word"]) == [("ada", "pass:word")]
    with pytest.raises(SettingsError, match="NAME:PASSWORD"):
        read_auth(["ada"])


def test_a_port_that_is_taken_is_said():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(SettingsError, match="choose another with --port"):
            free_port("127.0.0.1", s.getsockname()[1])


class Visitor:
    """Someone with a browser of their own."""

    def __init__(self, chromium, url, **kind):
        self.context = chromium.new_context(**{"viewport": {"width": 1100, "height": 900}, **kind})
        self.page = self.context.new_page()
        self.outside, self.errors = [], []
        self.page.on("request", lambda r: self.outside.append(r.url) if "//127.0.0.1" not in r.url else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("dialog", lambda d: (self.errors.append(d.message), d.dismiss()))
        self.page.goto(url, timeout=120_000)  # a busy machine takes its time
        self.page.wait_for_selector("#al-box textarea", timeout=120_000)

    def ask(self, text, file=None):
        if file:
            self.page.set_input_files("#al-box input[type=file]", file)
            self.page.wait_for_selector("#al-box .thumbnail-item", timeout=60_000)
        self.page.fill("#al-box textarea", text)
        self.page.press("#al-box textarea", "Enter")

    def sees(self, text, where="#al-chat", seconds=90):
        self.page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.innerText.includes(text)",
            arg=[where, text], timeout=seconds * 1000,
        )  # fmt: skip
        return self.page.inner_text(where)


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path):
    """Starts pages; all are closed at the end."""
    pages = []

    def serve(plan=CHAIN, fakes=None, port=None, plans=None):
        if port:
            pages.pop().close()
        page, url = open_page(agent_over(tmp_path, plan, fakes, plans), port=port)
        pages.append(page)
        return url

    yield serve
    for page in pages:
        page.close()


@browser_needed
def test_a_request_with_a_file_is_answered_with_its_plan_and_files(chromium, serve, tmp_path):
    picture = tmp_path / "<img src=x onerror=alert(1)>.png"
    picture.write_bytes(tiny_png(b"abc"))
    hostile = "<script>alert(2)</script> ![x](https://example.org/x.png) [y](javascript:alert(3))"
    plan = [task("text-generation", 0, text=hostile), *[{**t, "id": t["id"] + 1} for t in CHAIN[:1]]]
    ada = Visitor(chromium, serve(plan))
    ada.ask("draw a cat " + hostile, picture)
    said = ada.sees("made by text-to-image")
    assert "<script>alert(2)</script>" in said.replace("\u2060", "")  # shown as what it is
    assert "text-to-image" in ada.sees("done", "#al-plan")
    assert ada.page.locator("#al-chat img").count() >= 2  # theirs and ours
    assert ada.page.locator("#al-chat a[href^=javascript]").count() == 0
    assert ada.errors == []
    assert ada.outside == []


@browser_needed
def test_stop_and_finish(chromium, serve):
    fakes = Fakes(delay={"image-to-text": 20})
    ada = Visitor(chromium, serve(fakes=fakes, plans={"quick": CHAIN[:1]}))
    ada.ask("draw a cat")
    ada.sees("running", "#al-plan")
    deadline = time.monotonic() + 20
    while not fakes.calls and time.monotonic() < deadline:
        time.sleep(0.1)
    ada.page.click("#al-stop")
    said = ada.sees("Stopped.")
    assert "planning" not in said
    assert "working" not in said
    assert "running" not in ada.sees("stopped", "#al-plan")
    fakes.delay["image-to-text"] = 0
    ada.page.click("#al-resume")
    ada.sees("made by text-to-speech")
    assert [c.tool for c in fakes.calls].count("text-to-image") == 1
    fakes.delay["image-to-text"] = 20
    ada.page.click("#al-retry")
    ada.sees("running", "#al-plan")
    ada.page.click("#al-stop")
    ada.sees("stopped", "#al-plan")
    ada.ask("something quick")
    ada.page.wait_for_selector("#al-plan:not(:has-text('image-to-text'))", timeout=60_000)
    ada.sees("from the cache", "#al-plan")  # after a stop the next request is answered as ever


@browser_needed
def test_a_refused_request_stays_in_the_box_and_shows_no_broken_picture(chromium, serve, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(tiny_png(b"abc")[:20])
    ada = Visitor(chromium, serve())
    ada.ask("make it grey", broken)
    ada.sees("broken.png")
    ada.page.wait_for_function("document.querySelector('#al-box textarea').value == 'make it grey'", timeout=30_000)
    ada.page.wait_for_selector("#al-box .thumbnail-item[data-unseen='broken.png']", timeout=30_000)
    assert ada.page.locator("#al-box .thumbnail-item").count() == 1
    assert ada.page.locator("#al-box .thumbnail-item img:visible").count() == 0, "its name stands in for it"
    assert ada.page.locator("#al-chat img").count() == 0
    ada.page.locator("#al-box .thumbnail-item button").click()
    ada.ask("draw a cat")
    ada.sees("made by text-to-speech")
    assert ada.page.input_value("#al-box textarea") == ""
    assert ada.errors == []


FOCUS = """() => {
  const e = document.activeElement, marked = n => n && getComputedStyle(n).outlineStyle == 'solid';
  const name = e.getAttribute('aria-label') || e.placeholder || e.innerText || e.value;
  return [name.trim(), [e, e.closest('label'), e.closest('#al-box')].some(marked)];
}"""


@browser_needed
def test_the_keyboard_reaches_every_control_and_the_focus_is_seen(chromium, serve):
    ada = Visitor(chromium, serve(CHAIN[:1]))
    ada.page.wait_for_function("document.activeElement.ariaLabel == 'Request'", timeout=60_000)  # one can type at once
    assert ada.page.get_by_role("group", name="Mode").count() == 1
    assert not ada.page.get_by_role("button", name="New conversation").is_visible(), "the sidebar is closed"
    ada.page.click(".sidebar .toggle-button")
    ada.page.get_by_role("button", name="New conversation").wait_for(timeout=30_000)
    ada.page.click(".sidebar .toggle-button")
    ada.page.focus("#al-box textarea")
    ada.page.keyboard.type("draw a cat")
    ada.page.keyboard.press("Shift+Enter")
    ada.page.keyboard.type("a red one")
    ada.page.keyboard.press("Enter")
    assert "draw a cat\na red one" in ada.sees("made by text-to-image")
    ada.page.focus("#al-box textarea")
    seen = {}
    for _ in range(16):
        ada.page.keyboard.press("Tab")
        name, marked = ada.page.evaluate(FOCUS)
        seen[name] = marked
    for name in ("cascade", "Stop", "Again, another seed", "Finish what was stopped", "Use in the next request"):
        assert seen.get(name), (name, seen)
    ada.page.focus("#al-retry")
    ada.page.keyboard.press("Enter")
    ada.sees("Again, with seed 1")
    assert ada.page.locator("#al-chat [aria-label=Share]:visible").count() == 0, "nothing is sent elsewhere"


@browser_needed
def test_a_phone_shows_all_within_its_width(chromium, serve):
    ada = Visitor(chromium, serve(), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    ada.ask("draw a cat")
    ada.sees("made by text-to-speech")
    assert ada.page.evaluate("document.documentElement.scrollWidth") <= 390


@browser_needed
def test_a_plan_waits_and_a_task_is_taken_out(chromium, serve):
    fakes = Fakes()
    ada = Visitor(chromium, serve(fakes=fakes))
    ada.page.get_by_text("Settings", exact=True).click()
    ada.page.locator("#al-approve input").check()
    ada.ask("draw a cat")
    ada.sees("The plan waits for you")
    ada.page.locator("#al-keep input").nth(2).uncheck()
    ada.page.click("#al-run")
    ada.sees("made by text-to-image")
    assert sorted(c.tool for c in fakes.calls) == ["image-to-text", "text-to-image"]


@browser_needed
def test_visitors_do_not_see_or_wait_for_each_other_and_a_restart_keeps_all(chromium, serve, tmp_path):
    fakes = Fakes(delay={"image-to-text": 600})
    url = serve(fakes=fakes, plans={"dog": CHAIN[:1]})
    ada, bob = Visitor(chromium, url), Visitor(chromium, url)
    ada.ask("draw a zebrafish")
    ada.sees("running", "#al-plan")
    bob.ask("draw a dog")
    bob.sees("made by text-to-image")
    assert "running" in ada.page.inner_text("#al-plan"), "the second did not wait for the first"
    fakes.delay["image-to-text"] = 0
    ada.page.click("#al-stop")
    ada.sees("Stopped.")
    ada.page.click("#al-resume")
    ada.sees("made by text-to-speech")
    assert "zebrafish" not in bob.page.content()
    bob.page.wait_for_selector("#al-threads input", state="attached", timeout=30_000)
    assert bob.page.locator("#al-threads input").count() == 1
    stored = next((tmp_path / "data" / "artifacts" / "objects").rglob("*.png"))
    for path in (stored, tmp_path / "data" / "web" / "owners.sqlite", "/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}/gradio_api/file={path}", timeout=20)
        assert refused.value.code in (403, 404)
    serve(port=int(url.rsplit(":", 1)[1]))  # a restart over the same data
    ada.page.reload()
    ada.page.wait_for_selector("#al-threads input", state="attached", timeout=60_000)
    ada.page.click(".sidebar .toggle-button")
    ada.page.locator("#al-threads label", has_text="draw a zebrafish").click()
    assert "draw a zebrafish" in ada.sees("made by text-to-speech")
