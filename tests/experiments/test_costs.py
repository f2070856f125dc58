import pytest

from qwen3lab.errors import HookError
from qwen3lab.experiments.costs import knock_out_cost
from qwen3lab.experiments.effects import Text
from qwen3lab.generation.pace import Pace
from qwen3lab.thinking import cost


def test_knocking_out_reads_all_texts_for_each_expert_and_twice_without(tiny_lab, monkeypatch):
    monkeypatch.setattr(cost, "measure_pace", lambda _, rows: Pace(0.01, 1.0))
    texts = [Text("a", [1, 2, 3]), Text("b", [4, 5])]
    found = knock_out_cost(tiny_lab, texts, layers=[0, 2])
    assert (found.parts, found.read_tokens) == (32, 34 * 5)  # tiny-moe has 16 experts a layer.
    assert found.seconds == pytest.approx(1.7)
    assert str(found) == "32 experts: processes 170 tokens, at most about 2 seconds on this machine"


def test_a_layer_without_experts_is_refused(tiny_lab):
    with pytest.raises(HookError):
        knock_out_cost(tiny_lab, [Text("a", [1, 2])], layers=[99])


def test_the_cost_of_the_busiest_experts_counts_those_alone(tiny_lab):
    found = knock_out_cost(tiny_lab, [Text("a", [1, 2, 3])], layers=[0], busiest=5)
    assert found.parts == 5 and found.read_tokens == (5 + 2) * 3
