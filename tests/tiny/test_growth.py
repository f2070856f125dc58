import functools
import threading

import pytest
import torch

from qwen3lab import tiny
from qwen3lab.analysis.specialisation import choice_overlap
from qwen3lab.tiny.growth import Growth, early_life, saturation

early_life = functools.cache(early_life)  # It takes seconds: tests share the result.


@pytest.fixture(scope="module")
def grown():
    """A model that was looked at before its first step, and after its second and fourth."""
    growth = Growth(minutes=5, every=2)
    cancel = threading.Event()
    growth.run(lambda look: cancel.set() if look.step == 4 else None, cancel)
    return growth


def test_a_model_is_looked_at_before_and_while_it_is_trained(grown):
    assert [look.step for look in grown.history] == [0, 2, 4, 5]
    assert grown.history[0].tokens == 0 < grown.history[1].tokens
    families = set(grown.trainer.recipe.families)
    n_layers = grown.trainer.recipe.config.n_layers
    for look in grown.history:
        assert set(look.surplus) == families
        assert len(look.information) == n_layers
        assert look.heads["induction"].shape == (n_layers, 4)


def test_a_model_that_was_never_trained_knows_nothing(grown):
    # Its cross-entropy is that of 1,536 tokens alike: 7.3 nats, give or take.
    assert all(6.5 < nats < 8.5 for nats in grown.history[0].surplus.values())


def test_a_run_that_was_stopped_goes_on(grown):
    cancel = threading.Event()
    before = grown.trainer.step
    grown.run(lambda look: cancel.set(), cancel)
    assert grown.trainer.step > before
    steps = [look.step for look in grown.history]
    assert steps == sorted(set(steps))


def test_what_has_grown_is_a_copy_that_can_be_asked(grown):
    lab = grown.lab
    with torch.no_grad():
        lab.model.embed.weight.zero_()
    assert grown.trainer.model.embed.weight.abs().sum() > 0
    assert grown.lab.chat("1+1=?", max_new_tokens=2).tokens


def test_the_last_look_shares_all_its_choices_with_itself(grown):
    stood = saturation(grown.history)
    assert stood.shape == (len(grown.history), grown.trainer.recipe.config.n_layers)
    assert (stood[-1] == 1).all()


def test_overlap_counts_experts_in_any_order():
    one = torch.tensor([[[0, 1], [2, 3], [4, 5]]])
    other = torch.tensor([[[1, 0], [3, 4], [6, 7]]])
    # By hand: two of two, one of two, none of two.
    assert choice_overlap(one, other).tolist() == [0.5]
    with pytest.raises(ValueError, match="cannot be compared"):
        choice_overlap(one, other[:, :2])


def test_overlap_of_independent_choices_is_k_over_experts():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(1, 20_000, 8, generator=generator).topk(2).indices for _ in range(2))
    # Four standard errors of the mean of 20,000 hypergeometric shares are about 0.008.
    assert float(choice_overlap(one, other)) == pytest.approx(0.25, abs=0.008)


def test_early_life_shows_the_birth_of_heads_in_the_weights_that_ship():
    history = early_life("tiny-dense")
    *early, last = [look.step for look in history]
    assert [f"step{step}" for step in early] == tiny.revisions("tiny-dense") and last > early[-1]
    assert [look.tokens for look in history] == sorted(look.tokens for look in history)
    born = {
        kind: next(n for n, look in enumerate(history) if float(look.heads[kind].max()) >= 0.7)
        for kind in ("previous token", "duplicate token", "induction", "look-up")
    }
    # An induction head reads what a previous-token head wrote: it cannot come first.
    assert 0 < born["previous token"] < born["induction"]
    assert all(at < len(early) for at in born.values())
    child, adult = history[0].surplus, history[-1].surplus
    assert all(adult[family] < 0.2 * child[family] for family in child)
    assert all(not look.information and look.experts is None for look in history)


def test_a_model_without_experts_has_no_choices_that_stood():
    with pytest.raises(ValueError, match="chooses none"):
        saturation(early_life("tiny-dense")[-1:])


def test_a_model_without_early_weights_has_no_early_life():
    with pytest.raises(ValueError, match="no early weights of tiny-moe ship"):
        early_life("tiny-moe")


@pytest.mark.parametrize("arguments", [{"minutes": 0}, {"every": 0}])
def test_no_training_is_refused(arguments):
    with pytest.raises(ValueError, match="is no training"):
        Growth(**arguments)
