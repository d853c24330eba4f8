"""What a run looks like in a terminal that shows no moving parts."""

import io

from anyloom.agent.terminal import TerminalView, open_console
from anyloom.core.events import AnswerDone, AnswerText, TaskDone, TaskProgress, TaskStarted


def test_a_task_that_begins_behind_a_sentence_begins_a_line():
    out = io.StringIO()
    with TerminalView(open_console(file=out, force_terminal=False, width=80)) as view:
        view(AnswerText("Here is "))
        view(TaskProgress(0, 1, 2, "steps"))
        view(AnswerText("a heart."))
        view(TaskStarted(0, "make-image", "mmllm-pocket"))
        view(TaskDone(0, "make-image", "mmllm-pocket", 0.5, False, ()))
        view(AnswerText("And it is blue."))
        view(AnswerDone({}))
    lines = [line for line in out.getvalue().splitlines() if line]
    assert lines == [
        "Answer",
        "Here is a heart.",
        "• 0  make-image  mmllm-pocket",
        "✓ 0  make-image  mmllm-pocket, 0.5 s",
        "And it is blue.",
    ]


def test_at_a_terminal_a_task_behind_a_sentence_is_told_in_lines():
    out = io.StringIO()
    with TerminalView(open_console(file=out, force_terminal=True, width=80)) as view:
        view(AnswerText("Here is a heart."))
        view(TaskStarted(0, "make-image", "mmllm-pocket"))
        view(AnswerDone({}))
    assert "Here is a heart.\n" in out.getvalue()
    assert "make-image  mmllm-pocket\n" in out.getvalue()
