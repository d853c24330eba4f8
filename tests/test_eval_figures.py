"""Metrics, intervals, tests between modes, and figures over rows: checked against values worked out by hand."""

import pytest
from eval_rig import suite

from anyloom.core.errors import InputError
from anyloom.evaluation import metrics
from anyloom.evaluation.difference import difference
from anyloom.evaluation.intervals import Paired, holm, mean, paired
from anyloom.evaluation.reach import missing
from anyloom.evaluation.steps import losses
from anyloom.evaluation.summary import summarise
from anyloom.tools.builtin import TOOLS


def row(item, mode, status="done", conversion="text-to-image", seed=0, seconds=1.0, **scores):
    return {
        "item": item, "mode": mode, "seed": seed, "status": status, "conversion": conversion, "reading": "a red heart",
        "reason": "" if status == "done" else f"it {status}", "scores": scores, "steps": [], "artifacts": [],
        "output": "", "costs": {"seconds": seconds},
    }  # fmt: skip


def test_what_lacks_for_a_conversion_is_named():
    def lacks(source, target, *names, words=False):
        return missing([t for t in TOOLS if t.name in names], source, target, words)

    assert lacks("image", "text", "image-to-text") == ""
    assert lacks("image", "text", "optical-character-recognition") == "Nobody performs 'image-to-text' here."
    assert lacks("image", "text", "optical-character-recognition", words=True) == ""
    assert "optical-character-recognition" in lacks("image", "speech", "image-to-text", "text-to-speech", words=True)
    assert lacks("speech", "image") == "Nobody performs 'automatic-speech-recognition and text-to-image' here."
    assert lacks("image", "image", "image-to-image") != "", "a tool that edits does not draw the same thing anew"
    assert lacks("text", "text") == ""


def test_names_are_found_as_whole_words():
    assert metrics.holds("Three blue hearts.", ["heart"])
    assert metrics.holds("I see 3 boxes", ["three box"]) is True
    assert not metrics.holds("sweetheart", ["heart"])
    assert not metrics.holds("a star", [])


def test_rouge_is_the_longest_common_subsequence():
    assert metrics.rouge_l("a red heart", ["a red heart"]) == 1.0
    assert metrics.rouge_l("the red big heart", ["red heart", "x"]) == pytest.approx(2 * 2 / 6)
    assert metrics.rouge_l("", ["red"]) == 0.0


def test_wer_counts_words_and_not_their_spelling_of_numbers():
    assert metrics.wer("bring 2 apples", "Bring two apples!") == 0.0
    assert metrics.wer("bring two", "bring two red apples") == 0.5


def test_cider_prefers_what_is_rare_in_the_set():
    pairs = [("a red heart", ["a red heart"]), ("a blue star", ["a blue star"]), ("a green tree", ["a green tree"])]
    same = metrics.cider(pairs)
    assert all(s == pytest.approx(7.5) for s in same), "three words have no four in a row"
    worse = metrics.cider([("a red star", ["a red heart"]), *pairs[1:]])
    assert 0 < worse[0] < same[0]


def test_frechet_is_the_distance_of_the_means_where_the_spreads_are_alike():
    one = [[float(n), float(-n)] for n in range(12)]
    moved = [[a + 3, b + 4] for a, b in one]
    assert metrics.frechet(one, one) == pytest.approx(0.0, abs=1e-3)
    assert metrics.frechet(one, moved) == pytest.approx(25.0, abs=1e-2)
    assert metrics.frechet(one[:5], moved) is None, "too few files"


def test_an_interval_holds_its_mean_and_is_the_same_each_time():
    found = mean([0.0, 1.0, 1.0, 1.0])
    assert found == mean([0.0, 1.0, 1.0, 1.0])
    assert found.low < found.mean == 0.75 < found.high
    assert mean([]) is None
    assert (mean([0.4]).low, mean([0.4]).high) == (0.4, 0.4)


def test_modes_are_tested_on_the_items_that_both_have():
    first = {str(n): 1.0 for n in range(10)}
    test = paired({**first, "other": 1.0}, {str(n): float(n < 2) for n in range(10)})
    assert (test.n, test.difference, test.test) == (10, 0.8, "McNemar, exact")
    assert test.p == pytest.approx(2 * 0.5**8)
    graded = paired({k: 0.9 for k in first}, {k: 0.1 + int(k) / 100 for k in first})
    assert graded.test == "Wilcoxon signed ranks"
    assert graded.p < 0.01
    assert paired(first, first).p == 1.0
    assert paired({"a": 1.0}, {"a": 0.0}).p is None
    assert paired({"a": 1.0}, {"b": 0.0}) is None


def test_p_values_are_corrected_for_how_many_there_are():
    tests = [Paired(0.1, 0, 1, 9, p, "") for p in (0.04, 0.01, None, 0.03)]
    assert [t.corrected for t in holm(tests)] == [pytest.approx(0.06), pytest.approx(0.03), None, pytest.approx(0.06)]


def test_failures_count_as_nothing_and_what_cannot_be_served_does_not_count(tmp_path):
    rows = [
        row("heart", "cascade", kept=1.0), row("star", "cascade", "failed", kept=0.0),
        row("heart", "end2end", "cannot"), row("star", "end2end", "missed", kept=0.0),
    ]  # fmt: skip
    figures = summarise(rows, suite(tmp_path))
    cells = {(c["conversion"], c["mode"]): c for c in figures["cells"]}
    cascade, end2end = cells["text-to-image", "cascade"], cells["text-to-image", "end2end"]
    assert (cascade["scores"]["kept"]["mean"], cascade["scores"]["kept"]["n"], cascade["failed"]) == (0.5, 2, 1)
    assert (end2end["scores"]["kept"]["n"], end2end["cannot"], end2end["missed"]) == (1, 1, 1)
    assert end2end["reasons"] == {"it cannot": 1, "it missed": 1}
    assert cascade["costs"]["seconds"]["n"] == 1, "a failed answer has no price"
    (kept,) = [p for p in figures["paired"] if (p["conversion"], p["metric"]) == ("text-to-image", "kept")]
    assert (kept["n"], kept["difference"]) == (1, 0.0), "the star alone: the heart could not be served by both"


def test_an_answer_that_nobody_judged_is_counted_and_has_no_score(tmp_path):
    (cell, _) = [c for c in summarise([row("heart", "cascade")], suite(tmp_path))["cells"] if c["rows"]]
    assert (cell["unjudged"], cell["scores"]) == (1, {})


def test_seeds_are_averaged_before_items_are(tmp_path):
    rows = [row("heart", "cascade", seed=s, kept=k) for s, k in ((0, 1.0), (1, 0.0))]
    figures = summarise([*rows, row("star", "cascade", kept=1.0)], suite(tmp_path))
    kept = figures["cells"][0]["scores"]["kept"]
    assert (kept["mean"], kept["n"]) == (0.75, 2)


def test_losses_name_the_dearest_task_first_and_count_what_could_not_be_read():
    def step(task, moved, status="ok"):
        return {"task": task, "moved": moved, "status": status}

    rows = [
        {"item": "a", "mode": "cascade", "steps": [step("text-to-image", 0.1), step("image-to-text", 0.6)]},
        {"item": "b", "mode": "cascade", "steps": [step("text-to-image", None), step("image-to-text", None, "failed")]},
    ]
    first, second = losses(rows)
    assert (first["task"], first["moved"]["mean"], first["broken"]) == ("image-to-text", 0.6, 1)
    assert (second["task"], second["moved"]["n"], second["steps"], second["unread"]) == ("text-to-image", 1, 2, 1)


def result(*rows, **run):
    head = {"modes": ["cascade"], "suite_sha256": "a", "seeds": [0], "machine": {"processor": "x"}, **run}
    return {"kind": "suite", "rows": list(rows), "run": head}


def test_two_results_are_compared_item_by_item():
    before = result(*(row(f"i{n}", "cascade", kept=0.0, seconds=2.0) for n in range(6)))
    after = result(*(row(f"i{n}", "cascade", kept=1.0, seconds=2.0) for n in range(7)), seeds=[1])
    found = difference(before, after)
    kept = next(r for r in found["rows"] if (r["conversion"], r["metric"]) == ("text-to-image", "kept"))
    assert (kept["first"], kept["second"], kept["difference"], kept["n"]) == (0.0, 1.0, 1.0, 6)
    assert kept["p"] == pytest.approx(2 * 0.5**6)
    assert kept["corrected"] >= kept["p"]
    assert found["notes"] == ["seeds: [0] and [1]"]


def test_results_that_cannot_be_compared_say_so():
    with pytest.raises(InputError, match="no mode in common"):
        difference(result(), result(modes=["end2end"]))
    with pytest.raises(InputError, match="of another kind"):
        difference(result(), {**result(), "kind": "pair"})


def test_two_results_of_chains_are_compared_step_by_step():
    def chains(kept):
        rows = [
            {"item": f"i{n}", "mode": "cascade", "steps": [{"scores": {"kept": 1.0}}, {"scores": {"kept": kept}}]}
            for n in range(5)
        ]
        return {**result(*rows, way=["text-to-image", "image-to-text"]), "kind": "chains"}

    found = {r["conversion"]: r for r in difference(chains(0.0), chains(1.0))["rows"]}
    assert found["after 1"]["difference"] == 0.0
    assert (found["after 2"]["first"], found["after 2"]["second"], found["after 2"]["n"]) == (0.0, 1.0, 5)
    with pytest.raises(InputError, match="of another kind"):
        difference(chains(0.0), result())
