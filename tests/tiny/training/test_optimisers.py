from dataclasses import replace

import pytest

from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny.training.optimisers import learning_rate, optimizers
from qwen3lab.tiny.training.recipes import MICRO_MOE, RECIPES, Later
from qwen3lab.tiny.world.documents import DIETS


def test_muon_updates_the_matrices_of_the_layers_and_adamw_all_other_parameters():
    model = Qwen3(MICRO_MOE.config)
    names = {parameter: name for name, parameter in model.named_parameters()}
    adamw, muon = (
        {names[p] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in optimizers(model, replace(MICRO_MOE, muon=True))
    )
    assert {"embed.weight", "ln_final.weight", "blocks.1.mlp.router.weight"} <= adamw
    assert {"blocks.0.attn.q.weight", "blocks.1.mlp.gate_up", "blocks.1.mlp.down"} <= muon
    assert adamw | muon == set(names.values()) and not adamw & muon
    assert len(optimizers(model, replace(MICRO_MOE, muon=False))) == 1


def test_the_learning_rate_rises_and_decays_once_in_each_course():
    later = Later(begin=1_000, diets=DIETS, learning_rate=1e-3, warmup=10)
    recipe = replace(
        RECIPES["tiny-moe"], steps=2_000, warmup=10, learning_rate=2e-3, later=(later,)
    )
    rates = [learning_rate(recipe, step) for step in range(2_000)]
    assert rates[0] == pytest.approx(2e-4, rel=1e-3) and max(rates[:1_000]) < 2e-3
    assert rates[500] == pytest.approx(1.02e-3) and rates[999] == pytest.approx(4e-5, rel=1e-2)
    assert rates[1_000] == pytest.approx(1e-4, rel=1e-3)
    assert rates[1_500] == pytest.approx(0.51e-3) and rates[1_999] == pytest.approx(2e-5, rel=1e-2)
    # With a time limit: after half of the time the decay is half done, at any step.
    assert learning_rate(recipe, 20, 0.5) == pytest.approx(1.02e-3)
