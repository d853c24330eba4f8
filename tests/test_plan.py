"""Plans: parsing what models write, the type check, the bridges."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyloom.controller.plan import Plan, Task, check, reference, referenced
from anyloom.core.errors import PlanError
from anyloom.tools.builtin import TOOLS

FILES = {"note.png": "image", "memo.wav": "audio", "clip.mp4": "video", "a.txt": "text"}
BY_NAME = {t.name: t for t in TOOLS}


def plan(*tasks):
    return Plan(tuple(Task(name, n, args) for n, (name, args) in enumerate(tasks)))


@pytest.mark.parametrize(
    "text",
    [
        '[{"task": "text-to-speech", "id": 0, "dep": [-1], "args": {"text": "hi"}}]',
        '```json\n[{"task": "text-to-speech", "id": 0, "args": {"text": "hi"}}]\n```',
        'Here you are: {"plan": [{"task": "text-to-speech", "id": "0", "args": {"text": ["hi"]}}]} Done.',
    ],
)
def test_parse_takes_json_bare_fenced_and_wrapped(text):
    assert Plan.parse(text).to_json() == [{"task": "text-to-speech", "id": 0, "dep": [-1], "args": {"text": "hi"}}]


@pytest.mark.parametrize("ref", ["<resource>-3", "<GENERATED>-3", "<node-3>"])
def test_references_of_the_older_systems_are_understood(ref):
    parsed = Plan.parse([{"task": "x", "id": 4, "args": {"text": ref}}])
    assert parsed.tasks[0].args["text"] == "<resource>-3"
    assert parsed.tasks[0].dep == (3,)


@pytest.mark.parametrize("text", ["", "no plan", "[1]", '{"a": 1}', '[{"id": 0}]', '[{"task": "x", "id": -1}]', "[[]]"])
def test_what_is_no_plan_is_a_plan_error(text):
    with pytest.raises(PlanError):
        Plan.parse(text)


def test_dep_is_computed_and_never_trusted():
    raw = [
        {"task": "image-to-text", "id": 0, "dep": [7], "args": {"image": "note.png"}},
        {"task": "text-to-speech", "id": 1, "dep": [-1], "args": {"text": "<resource>-0"}},
    ]
    assert [t["dep"] for t in Plan.parse(raw).to_json()] == [[-1], [0]]


def test_a_good_plan_passes_unchanged():
    p = plan(("optical-character-recognition", {"image": "note.png"}), ("text-to-speech", {"text": reference(0)}))
    checked = check(p, TOOLS, FILES)
    assert checked.plan == p
    assert checked.bridges == ()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("make the house grey: note.png", "make the house grey"),
        ("Make the house grey ('note.png').", "Make the house grey."),
        ("note.png: make the house grey", "make the house grey"),
        ("make the house grey: note.png and clip.mp4", "make the house grey"),
        ("turn note.png upside down", "turn it upside down"),
        ("notnote.png is no name", "notnote.png is no name"),
        ("see https://example.org/note.png", "see https://example.org/note.png"),
    ],
)
def test_an_instruction_does_not_name_the_file_that_it_comes_with(said, kept):
    p = plan(("image-to-image", {"image": "note.png", "text": said}))
    assert check(p, TOOLS, FILES).plan.tasks[0].args["text"] == kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("the file is called note.png", "the file is called note.png"),
        ("sing it: note.png", "sing it"),
        ("a.txt", "a.txt"),
    ],
)
def test_where_no_file_comes_along_only_a_name_set_off_is_left_out(said, kept):
    p = plan(("text-to-speech", {"text": said}))
    assert check(p, TOOLS, FILES).plan.tasks[0].args["text"] == kept


def test_sound_where_text_is_wanted_is_transcribed_and_shown():
    checked = check(plan(("summarization", {"text": "memo.wav"})), TOOLS, FILES)
    assert [t.task for t in checked.plan.tasks] == ["automatic-speech-recognition", "summarization"]
    assert checked.plan.tasks[1].dep == (checked.plan.tasks[0].id,)
    assert "automatic-speech-recognition" in checked.bridges[0]


def test_a_bridge_over_text_takes_two_steps_and_is_built_once():
    p = plan(
        ("image-to-text", {"image": "memo.wav"}), ("visual-question-answering", {"image": "memo.wav", "text": "x"})
    )
    names = [t.task for t in check(p, TOOLS, FILES).plan.tasks]
    assert names.count("automatic-speech-recognition") == 1
    assert names.count("text-to-image") == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (plan(("text-to-speach", {"text": "x"})), "text-to-speech"),
        (plan(("text-to-speech", {})), "lacks its text"),
        (plan(("text-to-speech", {"text": "x", "voice": "y"})), "no argument 'voice'"),
        (plan(("text-to-speech", {"text": "<resource>-9"})), "task 9"),
        (
            plan(("text-to-speech", {"text": "<resource>-1"}), ("summarization", {"text": "<resource>-0"})),
            "wait for each other",
        ),
        (plan(("image-to-text", {"image": "gone.png"})), "'gone.png' is not attached"),
        (plan(("image-to-text", {"image": "?"})), "needs a picture"),
    ],
)
def test_problems_are_named(bad, said):
    with pytest.raises(PlanError, match=said):
        check(bad, TOOLS, FILES)


def test_without_the_bridging_tool_a_mismatch_is_an_error():
    tools = [BY_NAME["summarization"]]
    with pytest.raises(PlanError, match="wants text"):
        check(plan(("summarization", {"text": "memo.wav"})), tools, FILES)


def test_too_many_tasks_are_refused():
    with pytest.raises(PlanError, match="more than the 3"):
        check(plan(*[("text-to-speech", {"text": "x"})] * 4), TOOLS, FILES, max_tasks=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["task", "id", "args", "dep", "plan", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=300, deadline=None)
def test_parsing_anything_gives_a_plan_or_a_plan_error(value):
    for raw in (value, json.dumps(value)):
        try:
            parsed = Plan.parse(raw)
        except PlanError:
            continue
        assert Plan.parse(parsed.to_json()) == parsed


arguments = st.sampled_from([*FILES, "hello", "?", "<resource>-0", "<resource>-1", "<resource>-2", "<resource>-5", ""])
tasks = st.lists(
    st.tuples(
        st.sampled_from([*BY_NAME, "nonsense"]),
        st.dictionaries(st.sampled_from(["text", "image", "audio", "context", "video"]), arguments, max_size=3),
    ),
    max_size=5,
)


@given(tasks)
@settings(max_examples=400, deadline=None)
def test_a_checked_plan_can_always_run(drawn):
    """Whatever goes in: either a PlanError, or tasks in order whose every argument has the right modality."""
    try:
        checked = check(plan(*drawn), TOOLS, FILES)
    except PlanError:
        return
    outputs = {}
    for task in checked.plan.tasks:
        tool = BY_NAME[task.task]
        assert {p.name for p in tool.params if p.required} <= set(task.args) <= {p.name for p in tool.params}
        for name, value in task.args.items():
            ref = referenced(value)
            have = outputs[ref] if ref is not None else FILES.get(value, "text")
            assert have == tool.param(name).modality
        outputs[task.id] = tool.output
    assert len(outputs) == len(checked.plan.tasks)
