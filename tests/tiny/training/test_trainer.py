import json
import random
import signal
from contextlib import suppress
from dataclasses import replace

import pytest
import torch

from qwen3lab.tiny.training.recipes import RECIPES, Later
from qwen3lab.tiny.training.trainer import Trainer, _summary
from qwen3lab.tiny.world.documents import DIETS

STOP = "Time is up, I answer now."


def micro(**changes):
    config = replace(
        RECIPES["tiny-moe"].config,
        d_model=32,
        n_layers=2,
        d_head=16,
        d_expert=16,
        n_experts=4,
        n_experts_per_token=2,
        moe_layers=(0, 1),
    )
    fields = {"name": "micro", "config": config, "steps": 60, "opening": 0, "later": ()}
    return replace(RECIPES["tiny-moe"], **{**fields, "batch_tokens": 512, "warmup": 10, **changes})


def trained(tokenizer, folder, recipe, *, until=None):
    trainer = Trainer(recipe, tokenizer, STOP, folder)
    if until is not None:
        steps = trainer.steps()
        while trainer.step < until:
            next(steps)
        trainer.save()
        return trainer
    trainer.run(progress=False)
    return trainer


def logged(folder, kind):
    lines = (folder / "training-log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"][kind] for line in lines]


def test_the_loss_falls(tiny_tokenizer, tmp_path):
    # The opening lasts for all steps: its documents are the quickest to learn.
    trained(tiny_tokenizer, tmp_path, micro(learning_rate=5e-3, steps=100, opening=100))
    losses = logged(tmp_path, "arithmetic text")
    assert losses[-1] < 0.75 * losses[0]


def test_the_progress_bar_shows_the_loss_of_every_family(tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("qwen3lab.tiny.training.trainer.LOG_EVERY_STEPS", 1)
    trainer = Trainer(micro(), tiny_tokenizer, STOP, tmp_path)
    sums = {"swaps text": [6.0, 4.0], "swaps think": [2.0, 12.0], "balance": [1.5, 1.0]}
    report = trainer._log(sums)
    assert report["loss"] == {"balance": 1.5, "swaps text": 1.5, "swaps think": 0.1667}
    # By hand: 8 nats over 16 tokens.
    assert report["families"] == {"balance": 1.5, "swaps": 0.5}
    assert _summary(report).startswith("balance 1.500 swaps 0.500, ")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_tokenizer, tmp_path):
    runs = [
        trained(tiny_tokenizer, tmp_path / str(n), micro(steps=6, seed=seed)).model.state_dict()
        for n, seed in enumerate((3, 3, 4))
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["embed.weight"], runs[2]["embed.weight"])


@pytest.mark.parametrize("muon", [False, True])
def test_an_interrupted_run_ends_with_the_same_weights(tiny_tokenizer, tmp_path, muon):
    recipe = micro(steps=8, muon=muon)
    whole = trained(tiny_tokenizer, tmp_path / "whole", recipe)
    trained(tiny_tokenizer, tmp_path / "halves", recipe, until=3)
    resumed = trained(tiny_tokenizer, tmp_path / "halves", recipe)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_resumed_run_with_bfloat16_products_ends_with_the_same_weights(
    tiny_tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("qwen3lab.tiny.training.optimisers.has_fast_bfloat16", lambda: True)
    recipe = micro(steps=3, batch_tokens=2048, bfloat16=True, muon=True)
    whole = trained(tiny_tokenizer, tmp_path / "whole", recipe)
    trained(tiny_tokenizer, tmp_path / "halves", recipe, until=1)
    resumed = trained(tiny_tokenizer, tmp_path / "halves", recipe)
    exact = trained(tiny_tokenizer, tmp_path / "exact", replace(recipe, bfloat16=False))
    assert_same_run(resumed, whole)
    assert not torch.equal(exact.model.embed.weight, whole.model.embed.weight)


def with_second_course(**changes):
    stories_only = {"stories": DIETS["stories"]}
    later = Later(begin=4, diets=stories_only, learning_rate=1e-3, warmup=2)
    return micro(**{"steps": 8, "later": (later,), "muon": False, **changes})


def test_a_second_course_begins_from_the_rounded_weights_with_its_own_diet(
    tiny_tokenizer, tmp_path
):
    recipe = with_second_course()
    trainer = trained(tiny_tokenizer, tmp_path / "run", recipe, until=4)
    rounded = {n: p.half().float() for n, p in trainer.model.named_parameters()}
    (adamw,) = trainer.optimizers
    assert all(adamw.state[p]["step"] == 4 for p in trainer.model.parameters())
    # The learning rate of step 4 is 5e-4 (warm-up of two steps). The first update of AdamW
    # changes each weight by at most the learning rate, apart from weight decay.
    next(trainer.steps())
    for name, parameter in trainer.model.named_parameters():
        moved = (parameter - rounded[name]).abs().max()
        assert moved <= 5e-4 * (1 + recipe.weight_decay * rounded[name].abs().max()) + 1e-6, name
        assert adamw.state[parameter]["step"] == 1
    first, *second = (families(trainer.packer, step) for step in (3, 4, 7))
    assert all(names <= {"stories", "mixed"} for names in second) and len(first) > 2


def families(packer, step):
    batch = packer.batch(step)
    kinds = batch.kinds[batch.segments >= 0].unique().tolist()
    return {packer.kinds[kind].split()[0] for kind in kinds}


@pytest.mark.parametrize("until", [4, 6])
def test_a_second_course_is_resumed(tiny_tokenizer, tmp_path, until):
    whole = trained(tiny_tokenizer, tmp_path / "whole", with_second_course())
    trained(tiny_tokenizer, tmp_path / "halves", with_second_course(), until=until)
    resumed = trained(tiny_tokenizer, tmp_path / "halves", with_second_course())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_the_log_of_a_resumed_run_contains_every_step_once(tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("qwen3lab.tiny.training.trainer.LOG_EVERY_STEPS", 1)
    trained(tiny_tokenizer, tmp_path, micro(steps=8), until=3)
    # A killed run has logged steps after its last save.
    later = Trainer(micro(steps=8), tiny_tokenizer, STOP, tmp_path).steps()
    next(later), next(later)
    trained(tiny_tokenizer, tmp_path, micro(steps=8))
    lines = (tmp_path / "training-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 9))


def test_the_half_way_loss_is_the_loss_of_a_model_with_half_the_layers(tiny_tokenizer, tmp_path):
    recipe = micro(half_way=0.5, half_way_steps=(0, 1), balance=0.0)
    whole = Trainer(recipe, tiny_tokenizer, STOP, tmp_path / "whole")
    half = Trainer(micro(half_way=0.0, balance=0.0), tiny_tokenizer, STOP, tmp_path / "half")
    batch = whole.packer.batch(0)
    at_the_end = half._loss(batch, {})
    # Without its second layer, the last layer of `half` is the middle of `whole`.
    half.model.blocks = half.model.blocks[:1]
    at_half = half._loss(batch, {})
    torch.testing.assert_close(whole._loss(batch, {}), at_the_end + 0.5 * at_half)
    whole.step = 1
    torch.testing.assert_close(whole._loss(batch, {}), at_the_end)


def test_a_folder_with_another_run_is_an_error(tiny_tokenizer, tmp_path):
    trained(tiny_tokenizer, tmp_path, micro(steps=1))
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        Trainer(micro(steps=1, seed=9), tiny_tokenizer, STOP, tmp_path)


def test_a_keyboard_interrupt_saves_the_current_step(tiny_tokenizer, tmp_path, monkeypatch):
    trainer = Trainer(micro(), tiny_tokenizer, STOP, tmp_path)
    original = trainer._one_step

    def interrupted(progress, sums):
        if trainer.step == 2:
            raise KeyboardInterrupt
        original(progress, sums)

    monkeypatch.setattr(trainer, "_one_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(progress=False)
    assert Trainer(micro(), tiny_tokenizer, STOP, tmp_path).step == 2


class InterruptedOptimiser:
    """Interrupts one step of a trainer before or after an optimiser's update."""

    def __init__(self, trainer, optimizer, *, at, before):
        self.trainer, self.update, self.at, self.before = trainer, optimizer.step, at, before

    def __call__(self):
        if self.trainer.step == self.at and self.before:
            raise KeyboardInterrupt
        self.update()
        if self.trainer.step == self.at:
            raise KeyboardInterrupt


def assert_same_run(one, other):
    assert (one.step, one.tokens) == (other.step, other.tokens)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


@pytest.mark.parametrize("at", [0, 4])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("which", [0, -1])
def test_an_interrupt_between_two_updates_leaves_no_half_step(
    tiny_tokenizer, tmp_path, at, before, which
):
    recipe = with_second_course(muon=True)
    whole = trained(tiny_tokenizer, tmp_path / "whole", recipe)
    trainer = Trainer(recipe, tiny_tokenizer, STOP, tmp_path / "halves")
    optimizer = trainer.optimizers[which]
    optimizer.step = InterruptedOptimiser(trainer, optimizer, at=at, before=before)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(progress=False)
    assert trainer.step == at
    assert_same_run(trained(tiny_tokenizer, tmp_path / "halves", recipe), whole)
    # The interrupted trainer itself goes on, too.
    optimizer.step = optimizer.step.update
    trainer.run(progress=False)
    assert_same_run(trainer, whole)


def test_interrupts_at_random_moments_leave_no_half_step(tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("qwen3lab.tiny.training.trainer.LOG_EVERY_STEPS", 1)
    recipe = micro(steps=8, muon=True)
    whole = trained(tiny_tokenizer, tmp_path / "whole", recipe)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    draw = random.Random(0)
    try:
        for _ in range(12):
            trainer = Trainer(recipe, tiny_tokenizer, STOP, tmp_path / "often")
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.001, 0.08))
                for _ in trainer.steps():
                    pass
            signal.setitimer(signal.ITIMER_REAL, 0)
            trainer.save()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert_same_run(trained(tiny_tokenizer, tmp_path / "often", recipe), whole)
    lines = (tmp_path / "often/training-log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 9))


def test_routing_of_padding_does_not_change_the_balance_loss(tiny_tokenizer, tmp_path):
    trainer = Trainer(micro(), tiny_tokenizer, STOP, tmp_path)
    batch = trainer.packer.batch(0)
    assert (batch.segments < 0).any()
    plain, changed = {}, {}
    trainer._loss(batch, plain)
    batch.token_ids[batch.segments < 0] = 7
    trainer._loss(batch, changed)
    assert len(plain) > 1 and "balance" in plain
    for kind, sums in plain.items():
        assert sums == pytest.approx(changed[kind]), kind


@pytest.mark.parametrize("minutes", [-1.0, 0.0, float("nan")])
def test_a_time_limit_that_is_not_above_0_is_an_error_before_the_first_step(
    tiny_tokenizer, tmp_path, minutes
):
    trainer = Trainer(micro(steps=2), tiny_tokenizer, STOP, tmp_path)
    with pytest.raises(ValueError, match="expected more than 0"):
        trainer.run(minutes=minutes, progress=False)
    assert trainer.step == 0 and not (tmp_path / "run.safetensors").exists()
