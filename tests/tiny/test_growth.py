import functools
import threading

import pytest
import torch

from qwen3lab.analysis.specialisation import choice_overlap
from qwen3lab.checkpoints.embedded import early_revisions
from qwen3lab.tiny.growth import Growth, early_life, saturation

early_life = functools.cache(early_life)  # It takes seconds: tests share the result.


@pytest.fixture(scope="module")
def growth():
    """A growth with snapshots at steps 0, 2, 4, and at step 5, where it was cancelled."""
    growth = Growth(minutes=5, every=2)
    cancel = threading.Event()
    growth.run(lambda look: cancel.set() if look.step == 4 else None, cancel)
    return growth


def test_snapshots_are_taken_before_and_during_the_training(growth):
    assert [look.step for look in growth.history] == [0, 2, 4, 5]
    assert growth.history[0].tokens == 0 < growth.history[1].tokens
    families = set(growth.trainer.recipe.families)
    n_layers = growth.trainer.recipe.config.n_layers
    for look in growth.history:
        assert set(look.surplus) == families
        assert len(look.information) == n_layers
        assert look.heads["induction"].shape == (n_layers, 4)


def test_an_untrained_model_has_the_loss_of_a_uniform_guess(growth):
    # The cross-entropy of a uniform distribution over 1,536 tokens is log(1536) = 7.3 nats.
    assert all(6.5 < nats < 8.5 for nats in growth.history[0].surplus.values())


def test_a_stopped_run_is_resumed(growth):
    cancel = threading.Event()
    before = growth.trainer.step
    growth.run(lambda look: cancel.set(), cancel)
    assert growth.trainer.step > before
    steps = [look.step for look in growth.history]
    assert steps == sorted(set(steps))


def test_the_lab_has_a_copy_of_the_model(growth):
    lab = growth.lab
    with torch.no_grad():
        lab.model.embed.weight.zero_()
    assert growth.trainer.model.embed.weight.abs().sum() > 0
    assert growth.lab.chat("1+1=?", max_new_tokens=2).tokens


def test_the_saturation_of_the_last_snapshot_is_one(growth):
    overlap = saturation(growth.history)
    assert overlap.shape == (len(growth.history), growth.trainer.recipe.config.n_layers)
    assert (overlap[-1] == 1).all()


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


def test_the_early_revisions_show_when_each_kind_of_head_forms():
    history = early_life("tiny-dense")
    *early, last = [look.step for look in history]
    assert [f"step{step}" for step in early] == early_revisions("tiny-dense")
    assert last > early[-1]
    assert [look.tokens for look in history] == sorted(look.tokens for look in history)
    formed_at = {
        kind: next(n for n, look in enumerate(history) if float(look.heads[kind].max()) >= 0.6)
        for kind in ("previous token", "duplicate token", "induction")
    }
    assert all(look.heads["sink"].shape == look.heads["induction"].shape for look in history)
    # An induction head reads the output of a previous-token head, so it cannot form first.
    assert 0 < formed_at["previous token"] <= formed_at["induction"]
    before = history[formed_at["induction"] - 1].heads
    assert float(before["previous token"].max()) > 0.4 > 0.2 > float(before["induction"].max())
    assert all(at < len(early) for at in formed_at.values())
    first, final = history[0].surplus, history[-1].surplus
    assert all(final[family] < 0.2 * first[family] for family in first)
    assert all(not look.information and look.experts is None for look in history)


def test_a_model_without_experts_has_no_router_saturation():
    with pytest.raises(ValueError, match="the model has no experts"):
        saturation(early_life("tiny-dense")[-1:])


def test_a_training_of_some_steps_ends_after_them_whatever_the_time():
    growth = Growth(steps=3, every=2)
    assert growth.minutes is None and growth.share_done == 0
    assert [look.step for look in growth.run()] == [0, 2, 3]
    assert growth.share_done == 1
    assert [look.step for look in growth.run()] == [0, 2, 3]


@pytest.mark.parametrize("arguments", [{"minutes": 0}, {"every": 0}, {"steps": 0}])
def test_a_training_of_no_time_or_without_snapshots_is_an_error(arguments):
    with pytest.raises(ValueError, match="cannot train for"):
        Growth(**arguments)


def test_an_interrupt_inside_a_step_is_measured_without_that_step(monkeypatch):
    growth = Growth(minutes=60, every=1000)
    before = {name: value.clone() for name, value in growth.trainer.model.state_dict().items()}
    update = growth.trainer.optimizers[0].step

    def interrupted():
        update()
        raise KeyboardInterrupt

    monkeypatch.setattr(growth.trainer.optimizers[0], "step", interrupted)
    history = growth.run()
    assert [look.step for look in history] == [0]
    for name, value in growth.lab.model.state_dict().items():
        assert torch.equal(value, before[name]), name
