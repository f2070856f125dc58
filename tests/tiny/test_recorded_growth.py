"""The recorded training that ships is what a training gives, with its last weights."""

import pytest
import torch

from qwen3lab.tiny.growth import WORDS_PER_SEQUENCE, Growth, look_at, saturation
from qwen3lab.tiny.recorded_growth import RECORDING, record, recorded_growth


@pytest.fixture(scope="module")
def recorded():
    return recorded_growth()


def test_a_new_training_begins_as_the_recorded_one(recorded):
    making = recorded.making
    growth = Growth(steps=making.steps, every=making.every, seed=making.seed)
    steps = growth.trainer.steps()
    for _ in range(making.every):
        next(steps)
    now = look_at(
        growth.lab,
        families=growth.trainer.recipe.families,
        step=growth.trainer.step,
        tokens=growth.trainer.tokens,
        period=WORDS_PER_SEQUENCE,
    )
    for new, old in zip((growth.history[0], now), recorded.history[:2], strict=True):
        assert (new.step, new.tokens) == (old.step, old.tokens)
        assert new.surplus == pytest.approx(old.surplus, abs=0.01)
        assert list(new.heads) == list(old.heads) and new.layers == old.layers
        for kind, scores in new.heads.items():
            torch.testing.assert_close(scores, old.heads[kind], atol=0.01, rtol=0)
        for measured, kept in zip(new.information, old.information, strict=True):
            assert measured.value == pytest.approx(kept.value, abs=0.01)
            assert len(measured.shuffled) == len(kept.shuffled)
        assert (new.experts == old.experts).float().mean() > 0.98


def test_the_recorded_weights_give_the_last_snapshot(recorded):
    last = recorded.history[-1]
    now = look_at(recorded.lab, families=list(last.surplus), step=0, period=WORDS_PER_SEQUENCE)
    assert now.surplus == pytest.approx(last.surplus, abs=0.01)
    for kind, scores in now.heads.items():
        torch.testing.assert_close(scores, last.heads[kind], atol=0.01, rtol=0)
    # Weights are stored in float16, so that a router's close choices may differ.
    assert (now.experts == last.experts).float().mean() > 0.98


def test_the_recording_has_a_snapshot_every_few_steps_and_says_how_it_was_made(recorded):
    steps = [look.step for look in recorded.history]
    assert steps == list(range(0, recorded.making.steps + 1, recorded.making.every))
    assert recorded.making.made_on.startswith("2026-") and recorded.making.torch
    assert RECORDING.stat().st_size < 3e6


def test_the_recording_shows_what_the_lesson_says(recorded):
    history = recorded.history
    formed = {
        kind: next((look for look in history if float(look.heads[kind].max()) > 0.25), None)
        for kind in history[0].heads
    }
    previous, duplicate = formed.pop("previous token"), formed.pop("duplicate token")
    assert previous.step < duplicate.step < 600 and not any(formed.values())
    layers = [
        int(look.heads[kind].argmax()) // look.heads[kind].shape[1]
        for look, kind in ((previous, "previous token"), (duplicate, "duplicate token"))
    ]
    assert layers == [0, 1]
    # The scores of duplicate-token heads fall when training includes other lists.
    best = [float(look.heads["duplicate token"].max()) for look in history]
    assert max(best) > best[-1] + 0.05
    for family in ("stories", "arithmetic"):
        losses = [look.surplus[family] for look in history]
        assert losses[-1] < 0.5 * losses[0]
    # Two of eight experts by chance: a quarter.
    assert saturation(history)[len(history) // 2].mean() > 0.5


def test_a_short_recording_is_read_as_it_was_made(tmp_path, capsys):
    found = recorded_growth(record(tmp_path / "short.safetensors", steps=2, every=1))
    assert [look.step for look in found.history] == [0, 1, 2]
    assert found.history[1].tokens < found.history[2].tokens
    assert found.lab.chat("1+1=?", max_new_tokens=2).tokens
    assert "step 2 of 2" in capsys.readouterr().out


def test_a_recording_that_is_missing_or_damaged_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"none\.safetensors"):
        recorded_growth(tmp_path / "none.safetensors")
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(RECORDING.read_bytes()[:-1000])
    with pytest.raises(ValueError):
        recorded_growth(path)
