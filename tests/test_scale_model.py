"""The discrete-event model of benchmarks/scale.py against what can be calculated by hand."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "scale.py"


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("scale_model", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale_model"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["scale_model"]


def test_while_machines_are_few_they_are_the_limit(scale):
    costs = scale.Costs(front=0.001, driver=0.001, redis=0.0005, line=0.001)
    for machines in (1, 4):
        found = scale.simulate(costs, machines, 0.5, 1, 2000, 1, steady=True)
        assert found["a_second"] == pytest.approx(machines / 0.5, rel=0.02)
        assert found["busiest"] == "host"
        assert found["p50"] == pytest.approx(2 * 0.5, rel=0.05)  # one runs and one waits


def test_with_many_the_slowest_station_is(scale):
    costs = scale.Costs(front=0.002, driver=0.004, redis=0.001, line=0.0)
    found = scale.simulate(costs, 1000, 1.0, 1, 10_000, 1)
    assert found["busiest"] == "driver"
    assert found["a_second"] == pytest.approx(1 / 0.004, rel=0.05)
    assert found["use"]["redis"] == pytest.approx(0.001 / 0.004, rel=0.1)
    four = scale.simulate(costs, 1000, 1.0, 4, 10_000, 1)
    assert four["a_second"] == pytest.approx(1000, rel=0.1)  # the machines again, or Redis: both are at 1000 a second


def test_without_measurements_it_says_what_to_do(scale, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["scale.py", "simulate", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit):
        scale.main()
    assert "scale.py measure --out FILE" in capsys.readouterr().err


def test_the_page_says_what_was_measured_and_whether_it_is_enough(scale, tmp_path):
    costs = scale.Costs(0.002, 0.003, 0.001, 0.0, 0.1, 9.8, 19.0, overhead=0.0042, here=0.0104, there=0.0146)
    told = scale.report(costs, "500 requests, all answered.\n")
    assert "| the cluster's overhead | 4.2 ms | under 5 ms: met |" in told
    assert "| two machines against one | 1.94 × | 1.8 × and more: met |" in told
    assert "missed" not in told
    assert told.count("missed") + 2 == scale.report(replace(costs, overhead=0.006, two=15.0), "").count("missed")
    assert "| 1,000 | " in told
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\nold\n".join(scale.MARKS) + "\nafter\n")
    scale.into(page, told)
    scale.into(page, told)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert text.count("500 requests, all answered.") == 1
    assert "old" not in text
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no place for figures"):
        scale.into(page, told)


def test_the_page_of_this_house_has_a_place_for_figures(scale):
    text = (FILE.parents[1] / "docs" / "scale.md").read_text()
    assert text.find(scale.MARKS[0]) < text.find(scale.MARKS[1])
