from dataclasses import replace

import torch
from safetensors.torch import load_file

import qwen3lab
from qwen3lab.tiny.pipeline import export_early
from qwen3lab.tiny.training.recipes import MICRO_MOE
from qwen3lab.tiny.training.trainer import SHIPPED_DTYPE, Trainer
from qwen3lab.tiny.world.tokenizer import EARLY_STOP


def test_only_the_early_steps_that_the_training_reached_are_exported(tiny_tokenizer, tmp_path):
    recipe = replace(MICRO_MOE, steps=3, early=(2, 5))
    trainer = Trainer(recipe, tiny_tokenizer, EARLY_STOP, tmp_path)
    trainer.run(progress=False)
    export_early(trainer, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["step2"]
    kept = load_file(trainer.weights_at(2))
    opened = qwen3lab.load(tmp_path / "model" / "step2", device="cpu").model.state_dict()
    for name, value in kept.items():
        assert torch.equal(opened[name], value.to(SHIPPED_DTYPE).float()), name
    assert not torch.equal(kept["embed.weight"], trainer.model.embed.weight)
