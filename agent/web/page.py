"""The page: conversation, plan, input, settings. Built with Gradio; handlers are in `session.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .diagram import CSS as DIAGRAM_CSS
from .diagram import Board
from .session import Door

CSS = (
    DIAGRAM_CSS
    + """
.gradio-container {max-width: 1180px !important; margin: auto}
#al-head h1 {font-size: 20px; margin: 0}
#al-head p {margin: 0; color: var(--body-text-color); opacity: .75}
#al-chat {min-height: 320px}
#al-chat .minimal-audio-player {height: 56px !important}
#al-use {padding: 4px 10px}
:is(button, a, summary, input, textarea, select, [role=button], [tabindex]):focus-visible,
label:has(input:focus-visible) {outline: 2px solid #2563eb !important; outline-offset: 2px}
.dark :is(button, a, summary, input, textarea, select, [role=button], [tabindex]):focus-visible,
.dark label:has(input:focus-visible) {outline-color: #93c5fd !important}
#al-box:focus-within {outline: 2px solid #2563eb; outline-offset: -2px}
.dark #al-box:focus-within {outline-color: #93c5fd}
#al-box textarea:focus-visible {outline: none !important}
#al-mode label.selected {border-color: var(--color-accent); font-weight: 600}
#al-choices {align-items: center}
#al-chat [aria-label=Share] {display: none}  /* it would send the picture to a hub elsewhere */
.sidebar:not(.open) .sidebar-content {visibility: hidden}  /* closed, the keyboard passes it by */
#al-box .thumbnail-item[data-unseen] img {visibility: hidden}
#al-box .thumbnail-item[data-unseen]::before {
  content: attr(data-unseen); position: absolute; inset: 4px; overflow: hidden;
  font-size: 11px; line-height: 1.2; overflow-wrap: anywhere; color: var(--body-text-color)
}
footer {display: none !important}
@media (max-width: 640px) {.gradio-container {padding: 6px !important} #al-chat {min-height: 240px}}
"""
)
# Gradio names neither the box nor the group of modes, and shows a file that is no picture as a broken one. Its own
# autofocus would take the focus back at every change of the box, and trap the keyboard in it.
LOADED = """() => {
  const name = (where, words) => document.querySelector(where)?.setAttribute('aria-label', words);
  name('#al-box textarea', 'Request');
  name('#al-mode', 'Mode');
  name('.sidebar .toggle-button', 'Conversations');
  for (const kind of ['error', 'load']) document.addEventListener(kind, event => {
    const item = event.target.closest?.('#al-box .thumbnail-item');
    if (!item) return;
    const file = event.target.src.split('/').pop();
    try { event.target.alt = decodeURIComponent(file); } catch { event.target.alt = file; }
    if (kind == 'error') item.dataset.unseen = event.target.alt;
    else delete item.dataset.unseen;
  }, true);
  document.querySelector('#al-box textarea')?.focus();
}"""
EXAMPLES = (
    "Say 'The kettle is on, come in.' aloud",
    "How similar are 'a dog runs in the park' and 'a puppy plays outside'?",
    "Write a short poem about the sea and read it to me",
)
NOTE = Path(__file__).parents[2] / "examples" / "note.png"


def build(door: Door) -> Any:
    """The Blocks. `door` answers; nothing is loaded until the first request."""
    import gradio as gr

    with gr.Blocks(title="anyloom", analytics_enabled=False, fill_height=True, delete_cache=(3600, 7 * 86400)) as page:
        owner = gr.BrowserState("", storage_key="anyloom-owner", secret=door.secret)
        thread = gr.State("")
        names = gr.State([])
        with gr.Sidebar(label="Conversations", open=False, width=260):
            gr.Markdown("### Conversations")
            new = gr.Button("New conversation", variant="secondary")
            known = gr.Radio([], label="Yours, newest first", elem_id="al-threads")
            forget = gr.Button("Take this one off the list", size="sm")
        gr.HTML(
            "<h1>anyloom</h1><p>Text, pictures, sound and video in; any of them out.</p>", elem_id="al-head"
        )
        chat = gr.Chatbot(
            label="Conversation", elem_id="al-chat", height="44vh", render_markdown=False, feedback_options=None,
            buttons=["copy_all"], placeholder="Ask for something, or drop a file below.",
        )  # fmt: skip
        box = gr.MultimodalTextbox(
            label="Request", show_label=False, placeholder="What shall I do? Files can be dropped, pasted or recorded.",
            file_count="multiple", sources=["upload", "microphone"], elem_id="al-box",
        )  # fmt: skip
        with gr.Row(elem_id="al-choices"):
            mode = gr.Radio(
                door.modes(), value=door.modes()[0][1], label="Mode", show_label=False, container=False, scale=3,
                elem_id="al-mode",
            )  # fmt: skip
            use = gr.Dropdown([], label="Use in the next request", elem_id="al-use", min_width=160)
        with gr.Row():
            stop = gr.Button("Stop", elem_id="al-stop", size="sm", min_width=90)
            retry = gr.Button("Again, another seed", elem_id="al-retry", size="sm", min_width=90)
            resume = gr.Button("Finish what was stopped", elem_id="al-resume", size="sm", min_width=90)
        with gr.Group(visible=False) as approval:
            gr.Markdown("**The plan waits for you.** Take tasks out, or edit it as JSON.")
            keep = gr.CheckboxGroup([], label="Tasks to run", elem_id="al-keep")
            edited = gr.Code("", language="json", label="Plan as JSON", visible=True, max_lines=14)
            with gr.Row():
                run = gr.Button("Run it", variant="primary", elem_id="al-run")
                drop = gr.Button("Do not run it", elem_id="al-drop")
        with gr.Accordion("Plan", open=True):
            plan = gr.HTML(Board().html(), elem_id="al-plan")
        with gr.Accordion("Settings", open=False):
            with gr.Row():
                policy = gr.Dropdown(
                    ["fastest", "best", "pinned", "llm"], value=door.policy, label="How an expert is chosen"
                )
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                limit = gr.Number(0, label="Seconds at most (0: no limit)", precision=0, minimum=0)
            approve = gr.Checkbox(False, label="Ask me before a plan runs", elem_id="al-approve")
            camera = gr.Image(sources=["webcam"], type="filepath", label="Camera: goes along with the next request")
            gr.Markdown(door.about())
        gr.Examples(
            [{"text": "Read this note aloud, then write down what you hear", "files": [str(NOTE)]}] * NOTE.exists()
            + [{"text": t, "files": []} for t in EXAMPLES],
            inputs=box, label="Try", elem_id="al-examples",
        )  # fmt: skip

        options = [mode, policy, seed, limit, approve]
        shown = [chat, plan, thread, names, use, approval, keep, edited]
        idle: Any = {"show_progress": "hidden"}
        asked = box.submit(door.put, [box, chat, camera], [box, chat, names, camera], **idle).then(
            door.answer, [owner, thread, names, chat, *options], shown, **idle, concurrency_limit=None
        )
        asked.then(door.give_back, [box, names], [box, names], **idle)
        again = retry.click(
            door.again, [owner, thread, chat, seed, *options], [*shown, seed], **idle, concurrency_limit=None
        )
        going = resume.click(door.resume, [owner, thread, chat], shown, **idle, concurrency_limit=None)
        runs = run.click(
            door.decide, [owner, thread, chat, keep, edited], shown, **idle, concurrency_limit=None
        )
        drop.click(door.reject, [owner, thread, chat], shown, **idle)
        halted = stop.click(None, cancels=[asked, again, going, runs], **idle)
        halted.then(door.stopped, [owner, thread], [chat, plan], **idle)  # after, so that no late event writes over it
        for event in (asked, again, going, runs):
            event.then(door.listed, [owner, thread], [known], **idle)
        use.select(door.use, [box, use], [box, use], **idle)
        new.click(door.new, [], [*shown, known], **idle)
        known.input(door.open, [owner, known], shown, **idle)
        forget.click(door.forget, [owner, known], [*shown, known], **idle)
        page.load(None, js=LOADED)
        page.load(door.arrive, [owner, thread], [owner, known], **idle)
    return page
