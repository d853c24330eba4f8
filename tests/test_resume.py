"""A run that is killed at any moment is finished by `resume`, and no expert does its work twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def all_reports(tmp_path_factory):
    """First a run without a cache, killed when its last task began; then one for each event."""
    driver = Path(__file__).with_name("kill_driver.py")
    folder = tmp_path_factory.mktemp("killed")
    out = subprocess.run([sys.executable, driver, folder], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert not out.stderr, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


@pytest.fixture
def reports(all_reports):
    """One report for each event at which the run was killed; the last one was not killed at all."""
    return all_reports[1:]


def test_it_was_killed_at_every_event(reports):
    assert [r["killed"] for r in reports] == [True] * (len(reports) - 1) + [False]
    assert len(reports) >= 12  # started, plan, 3 × (started, loading, done), answer, done


def test_every_task_is_done_after_the_resume(reports):
    for r in reports:
        assert r["resumed"] == 0, r
        assert [x[0] for x in r["results"]] == [0, 1, 2], r
        assert [x[1] for x in r["results"]] == ["text-to-image", "text-generation", "visual-question-answering"], r
        assert {x[2] for x in r["results"]} == {"ok"}, r
        assert r["whole"], r


def test_no_expert_ran_twice(reports):
    """The checkpoint may miss the very last result; then the cache has it."""
    for r in reports:
        assert r["ran"] == ["text-generation", "text-to-image", "visual-question-answering"], r


def test_finished_tasks_come_from_the_checkpoint_without_any_cache(all_reports):
    bare = all_reports[0]
    assert bare["killed"]
    assert {x[2] for x in bare["results"]} == {"ok"}
    assert bare["ran"].count("text-to-image") == 1  # long done; text-generation may be the write that was lost
    assert bare["ran"].count("text-generation") <= 2


def test_the_answer_and_the_bundle_are_the_same_as_without_a_kill(reports):
    for r in reports:
        assert r["text"] == reports[-1]["text"], r
        assert r["states"] == ["done"], r
