"""The workbench's state: what is refused, and what two of them share."""

import pytest
from traitlets import TraitError

from qwen3lab.widgets.workbench.state import WorkbenchState, link_picks
from tests.fake_lab import DENSE, MOE, record


def state(n_tokens: int = 5, config=MOE) -> WorkbenchState:
    found = WorkbenchState(config, routing_layer=config.moe_layers[0] if config.is_moe else 0)
    found.recording = record(config, ["a"] * n_tokens, {})
    return found


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("layer", 4, "layer 4 does not exist: the model has layers 0 to 3"),
        ("layer", -1, "layer -1 does not exist: the model has layers 0 to 3"),
        ("head", 4, "head 4 does not exist: each layer has heads 0 to 3"),
        ("routing_layer", 2, "layer 2 has no experts: the layers with experts are 1, 3"),
        ("expert", 6, "expert 6 does not exist: each layer has experts 0 to 5"),
        ("token", 5, "token 5 does not exist: the text has tokens 0 to 4"),
    ],
)
def test_a_pick_that_does_not_exist_is_refused_with_what_there_is(name, value, says) -> None:
    found = state()
    before = getattr(found, name)
    with pytest.raises(TraitError, match=says):
        setattr(found, name, value)
    assert getattr(found, name) == before and found.pick_error == says
    setattr(found, name, 1 if name != "routing_layer" else 3)
    assert found.pick_error == ""


def test_a_dense_model_has_no_expert_and_no_run_has_no_token() -> None:
    with pytest.raises(TraitError, match="expert 0 does not exist: the model is dense"):
        state(config=DENSE).expert = 0
    with pytest.raises(TraitError, match="token 0 does not exist: nothing has been run yet"):
        WorkbenchState(MOE, routing_layer=1).token = 0
    with pytest.raises(TraitError):
        state().tab = "elsewhere"


def test_picks_of_linked_states_are_equal_as_far_as_they_exist_in_both() -> None:
    one, other = state(5), state(9)
    other.layer, other.head = 2, 3
    unlink = link_picks(one, other)
    assert (one.layer, one.head) == (2, 3)
    one.token, one.expert = 4, 5
    assert (other.token, other.expert) == (4, 5)
    other.token = 8  # The shorter text does not have it.
    assert other.token == 8 and one.token == 4
    assert one.pick_error == "token 8 does not exist: the text has tokens 0 to 4"
    assert other.pick_error == ""
    unlink()
    other.layer = 0
    assert one.layer == 2


def test_a_colour_scale_that_does_not_exist_is_refused_and_any_quantile_can_be_stated() -> None:
    found = state()
    found.colours = "square root, clipped at 97.5%"
    with pytest.raises(TraitError, match="is no colour scale: expected automatic, or linear"):
        found.colours = "cubic"
    assert found.colours == "square root, clipped at 97.5%"
