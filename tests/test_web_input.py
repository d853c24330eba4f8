"""The page's handlers without a browser (its loop and Playwright's do not share a file): bad files."""

import pytest
from hostile import HOSTILE_LIMITS, hostile_files
from rig import engine, settings

from anyloom.agent import Agent
from anyloom.controller.fakes import ScriptedController

pytest.importorskip("gradio")


async def test_bad_files_get_one_sentence_in_the_conversation(tmp_path):
    from anyloom.agent.web.session import Door

    agent = Agent(settings(tmp_path, limits=HOSTILE_LIMITS))
    agent._engine = engine(tmp_path, ScriptedController(), limits=HOSTILE_LIMITS)
    door = Door(agent)
    for bad in hostile_files(tmp_path / "bad"):
        asked = ["what is this", str(bad.path)]
        said = [s async for s in door.answer("ada", "", asked, [], "cascade", "best", 0, 0, False, None)][-1][0][-1]
        if bad.said is not None:
            assert bad.said in said["content"].replace("\u2060", ""), bad.name
            assert "\n" not in said["content"]
