import json
import random
from dataclasses import replace

import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from qwen3lab.tiny import arithmetic
from qwen3lab.tiny.documents import Writer
from qwen3lab.tiny.recipes import RECIPES
from qwen3lab.tiny.trainer import Packer, Trainer, balance_loss

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
    fields = {"name": "micro", "config": config, "steps": 60, "rows": 4, "row_tokens": 128}
    return replace(RECIPES["tiny-moe"], **{**fields, "warmup": 10, **changes})


def trained(tokenizer, folder, recipe, *, until=None):
    trainer = Trainer(recipe, tokenizer, STOP, folder)
    if until is not None:
        steps = trainer._steps(None)
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
    trained(tiny_tokenizer, tmp_path, micro(learning_rate=5e-3, steps=100, seed=1))
    losses = logged(tmp_path, "arithmetic think")
    assert losses[-1] < 0.75 * losses[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_tokenizer, tmp_path):
    runs = [
        trained(tiny_tokenizer, tmp_path / str(n), micro(steps=6, seed=seed)).model.state_dict()
        for n, seed in enumerate((3, 3, 4))
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not torch.equal(runs[0]["embed.weight"], runs[2]["embed.weight"])


def test_an_interrupted_run_ends_with_the_same_weights(tiny_tokenizer, tmp_path):
    whole = trained(tiny_tokenizer, tmp_path / "whole", micro(steps=8))
    trained(tiny_tokenizer, tmp_path / "halves", micro(steps=8), until=3)
    resumed = trained(tiny_tokenizer, tmp_path / "halves", micro(steps=8))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_folder_with_another_run_is_refused(tiny_tokenizer, tmp_path):
    trained(tiny_tokenizer, tmp_path, micro(steps=1))
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        Trainer(micro(steps=1, seed=9), tiny_tokenizer, STOP, tmp_path)


def test_a_keyboard_interrupt_saves_where_the_run_stands(tiny_tokenizer, tmp_path, monkeypatch):
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


def test_the_balance_loss_is_that_of_transformers():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 8, generator=generator)
    experts = logits.topk(3, dim=-1).indices
    # transformers counts each of the k choices in full, so its value is k times Switch's.
    theirs = load_balancing_loss_func((logits,), num_experts=8, top_k=3)
    torch.testing.assert_close(balance_loss(logits, experts) * 3, theirs)


def test_the_balance_loss_is_one_for_uniform_load_and_the_number_of_experts_for_a_single_one():
    every = torch.arange(8)[:, None]
    torch.testing.assert_close(balance_loss(torch.zeros(8, 8), every), torch.tensor(1.0))
    one = torch.zeros(10, 8)
    one[:, 2] = 100.0
    same = torch.full((10, 1), 2)
    torch.testing.assert_close(balance_loss(one, same), torch.tensor(8.0))


def test_documents_teach_only_what_the_model_itself_writes(tiny_tokenizer):
    writer, rng = Writer(tiny_tokenizer, STOP), random.Random(0)
    problem = arithmetic.draw(rng, 5, "train")
    for mode in ("think", "answer", "switch", "cut"):
        document = writer.document(problem, mode, rng)
        taught = [i for i, w in zip(document.token_ids, document.weights, strict=True) if w == 1]
        text = tiny_tokenizer.decode(taught)
        assert text.endswith(f"{problem.answer}<|im_end|>")
        assert STOP not in text
        expected = {
            "think": f"<think>\n{problem.thinking}\n</think>\n\n",
            "answer": "",
            "switch": "<think>\n\n</think>\n\n",
        }
        if mode == "cut":
            assert text.startswith("<think>\n")
            begun = text.removeprefix("<think>\n").removesuffix(f"{problem.answer}<|im_end|>")
            assert problem.thinking.startswith(begun)
            assert f"{STOP}\n</think>\n\n{problem.answer}" in tiny_tokenizer.decode(
                document.token_ids
            )
        else:
            assert text == f"{expected[mode]}{problem.answer}<|im_end|>"


def test_documents_are_rendered_as_the_chat_template_does(tiny_tokenizer):
    writer, rng = Writer(tiny_tokenizer, STOP), random.Random(1)
    problem = arithmetic.draw(rng, 3, "train")
    asked = [{"role": "user", "content": problem.question}]
    document = writer.document(problem, "answer", rng)
    prompt = tiny_tokenizer.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    text = tiny_tokenizer.decode(document.token_ids)
    assert text == f"{prompt}{problem.answer}<|im_end|>\n"


def test_rows_hold_whole_documents_and_say_which_kind_each_token_is_of(tiny_tokenizer):
    packer = Packer(Writer(tiny_tokenizer, STOP), micro())
    batch, again = packer.batch(5), packer.batch(5)
    assert torch.equal(batch.token_ids, again.token_ids)
    assert not torch.equal(batch.token_ids, packer.batch(6).token_ids)
    for row in batch.token_ids:
        text = tiny_tokenizer.decode(row[: int(row.nonzero().max()) + 1])
        assert text.startswith("<|im_start|>user\n")
        assert text.endswith("<|im_end|>\n")
    assert all(kind.startswith("arithmetic ") for kind in packer.kinds)
