"""The main job on real weights: a picture of a note is read aloud, and written down again from hearing."""

from pathlib import Path

import pytest

from anyloom.agent import Agent
from anyloom.core.errors import PlanError
from anyloom.core.media import Limits, inspect_file

NOTE = Path(__file__).parents[1] / "examples" / "note.png"


@pytest.mark.weights
def test_a_note_is_read_aloud_and_heard_again_and_then_all_works_offline(tmp_path):
    request = "Read this note aloud, then write down what you hear"
    with Agent(data_dir=tmp_path) as agent:
        answer = agent.ask(request, attachments=[NOTE])
        tasks = [t["task"] for t in answer.plan]
        assert tasks == ["optical-character-recognition", "text-to-speech", "automatic-speech-recognition"]
        assert answer.ok
        read, spoken, heard = answer.results
        sound = agent.engine.store.path(spoken.artifacts[0])
        assert inspect_file(sound, Limits()).facts["seconds"] > 5
        assert "train leaves at nine" in read.text.lower()
        for word in ("train", "morning", "umbrella", "station", "monday"):
            assert word in heard.text.lower()
        assert "station" in answer.text.lower()
    with Agent(data_dir=tmp_path, offline=True) as agent:
        again = agent.ask(request, attachments=[NOTE])
        assert all(r.cached for r in again.results)
        assert [a.sha256 for a in again.artifacts] == [a.sha256 for a in answer.artifacts]


@pytest.mark.weights
def test_a_picture_that_was_not_attached_is_asked_for(tmp_path):
    with Agent(data_dir=tmp_path) as agent, pytest.raises(PlanError, match="attach"):
        agent.ask("read the text in this picture")


@pytest.mark.weights
def test_small_talk_runs_no_tool(tmp_path):
    with Agent(data_dir=tmp_path) as agent:
        answer = agent.ask("hello there")
        assert not answer.plan
        assert answer.text.strip()
