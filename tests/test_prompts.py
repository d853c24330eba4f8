"""Prompt files: found by name, filled strictly, and as their first line says."""

import re

import pytest

from anyloom.core.errors import SystemFault, UnknownName
from anyloom.prompts import Prompt, load, names


def test_slots_are_filled_with_the_value_as_it_is():
    prompt = Prompt("p", "a test", "Say {{ what }} to {{who}}, {{who}}.")
    assert prompt.render(what="{{who}} \\1", who="Ada") == "Say {{who}} \\1 to Ada, Ada."


def test_missing_and_unknown_slots_are_named():
    prompt = Prompt("p", "a test", "{{a}}")
    with pytest.raises(SystemFault, match=r"'a' is not filled, it has no slot 'b'"):
        prompt.render(b="x")


def test_unknown_prompt_hints_at_a_near_one():
    with pytest.raises(UnknownName, match=r"no prompt 'chose', did you mean 'choose'\?"):
        load("chose")


@pytest.mark.parametrize("name", names())
def test_every_file_says_what_it_is_for_and_names_its_slots(name):
    prompt = load(name)
    assert prompt.text
    assert "<!--" not in prompt.text
    listed = re.search(r"Slots?: ([a-z_, ]+)\.", prompt.purpose)
    assert set(listed.group(1).split(", ") if listed else []) == prompt.slots
