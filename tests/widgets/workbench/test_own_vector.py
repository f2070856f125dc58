"""A steering vector of one's own among the changes: listed, kept, removed, and in the code."""

import pytest
import torch

from qwen3lab import steering
from qwen3lab.errors import HookError
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.changes import as_json, code_of, from_json
from qwen3lab.widgets.workbench.own_vector import AddVector, own_vector
from tests.widgets.workbench.benches import panel


@pytest.fixture
def bench(tiny_lab):
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    bench.run()
    yield bench
    bench.close()


def test_a_vector_is_added_to_the_stream_from_a_token_on(bench, tiny_lab) -> None:
    hook = "blocks.3.hook_resid_post"
    vector = torch.linspace(-1, 1, tiny_lab.config.d_model)
    bench.steer(vector, 3, by=2.0, first=2, name="doubt")
    plain, steered = (
        tiny_lab.record("3+4=?", capture=hook, edits=edits)[hook] for edits in ([], bench.edits)
    )
    assert len(plain) > 2
    added = steered[2:] - plain[2:]
    torch.testing.assert_close(added, (2 * vector).expand(len(added), -1), atol=1e-4, rtol=0)
    assert torch.equal(steered[:2], plain[:2])


def test_a_vector_of_the_package_and_its_numbers_are_the_same_change(bench, tiny_lab) -> None:
    vector = steering.from_token(tiny_lab, "7", layer=3)
    assert own_vector(vector, 3) == own_vector(vector[3], 3) == own_vector(vector[3].tolist(), 3)
    with pytest.raises(HookError, match="the vector has 0 directions at layer 2"):
        bench.steer(vector, 2)


def test_it_is_listed_removed_and_replaced_by_name(bench, tiny_lab) -> None:
    card, n = panel(bench).changes, tiny_lab.config.d_model
    bench.steer([1.0] * n, 3, name="doubt")
    bench.steer([1.0] * n, 3, by=-2.0, name="doubt")
    assert [change.title for change in bench.state.changes] == ["−2 × doubt at layer 3"]
    (line,) = card.listed.children
    assert "−2 × doubt at layer 3" in line.children[0].value
    line.children[1].click()
    assert bench.state.changes == () and bench.edits == []


def test_the_code_names_its_variable_and_says_what_it_has_to_hold(bench, tiny_lab) -> None:
    doubt = torch.linspace(-1, 1, tiny_lab.config.d_model)
    bench.steer(doubt, 3, by=2.0, name="doubt")
    code = code_of(bench.state.changes)
    assert f"# doubt is your own vector: a tensor of {len(doubt)} numbers, of norm" in code
    found = {"lab": tiny_lab, "doubt": doubt}
    exec(code, found)
    one, two = (tiny_lab.record("3+4=?", edits=edits) for edits in (found["edits"], bench.edits))
    assert torch.equal(one.logits[:], two.logits[:])


def test_it_comes_back_from_its_json() -> None:
    change = AddVector(3, (1.0, -2.0), 0.5, 4, "doubt")
    assert from_json(as_json(change)) == change


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"vector": [1.0, 2.0]}, "the vector has 2 numbers: expected d_model of this model, 128"),
        ({"layer": 99}, "layer 99"),
        ({"vector": [float("nan")] * 128}, "finite numbers: found NaN or inf"),
        ({"by": float("inf")}, "finite numbers"),
        ({"vector": torch.zeros(2, 128)}, r"Tensor of shape \(2, 128\) is no vector"),
        ({"vector": "up"}, "str is no vector"),
        ({"name": "my vector"}, "'my vector' cannot name a vector"),
        ({"first": -1}, "token -1 does not exist: positions start at 0"),
    ],
)
def test_what_is_no_vector_of_the_model_is_refused(bench, options, says) -> None:
    with pytest.raises(ValueError, match=says):
        bench.steer(**{"vector": [0.5] * 128, "layer": 3} | options)
    assert bench.state.changes == ()
