"""The models that ship with the package: they open everywhere, and do what their cards say."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.checkpoint import EMBEDDED, embedded_models
from qwen3lab.tiny import arithmetic

GREEDY = Sampling.greedy()


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


def problems(n, steps):
    rng = random.Random(99)
    return [arithmetic.draw(rng, rng.choice(steps), "held-out") for _ in range(n)]


def share(lab, asked, **options):
    replies = lab.chat_batch([p.question for p in asked], sampling=GREEDY, **options)
    right = [p.grade(reply.answer) for p, reply in zip(asked, replies, strict=True)]
    return sum(right) / len(right)


def test_all_of_them_fit_in_the_package():
    files = [path for path in EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20 * 2**20


@pytest.mark.parametrize("name", embedded_models())
def test_a_model_opens_in_transformers_as_it_does_here(name):
    lab = qwen3lab.load(name, device="cpu")
    folder = EMBEDDED / name
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    talk = [{"role": "user", "content": "Start at 7, add 5, times 3. Last digit?"}]
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    assert ids == lab.token_ids(talk)
    with torch.no_grad():
        expected = hf(torch.tensor([ids])).logits[0]
        out = hf.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False)
    torch.testing.assert_close(lab.record(talk).logits, expected, atol=1e-4, rtol=1e-5)
    written = lab.chat(talk, sampling=GREEDY, max_new_tokens=60).token_ids
    assert written == out[0, len(ids) :].tolist()


def test_the_mixture_is_shaped_as_the_real_thing(lab):
    config = lab.config
    assert config.n_layers >= 4
    assert (config.n_experts, config.n_experts_per_token) == (16, 4)
    assert config.n_kv_heads < config.n_heads
    assert config.moe_layers == tuple(range(config.n_layers))


def test_thinking_solves_what_answering_at_once_does_not(lab):
    asked = problems(60, range(4, 13))
    with_thinking = share(lab, asked, thinking=True, max_new_tokens=160)
    at_once = share(lab, asked, thinking=False, max_new_tokens=8)
    assert with_thinking > 0.95
    # Ten digits are possible: guessing is right one time in ten.
    assert at_once < 0.4


def test_a_thinking_cut_short_helps_in_proportion(lab):
    asked = problems(100, range(1, 13))
    shares = [
        share(lab, asked, thinking=True, budget=budget, max_new_tokens=160)
        for budget in (0, 36, 100)
    ]
    assert shares[0] + 0.15 < shares[1] < shares[2] - 0.15
    assert shares[2] > 0.95


def test_the_thinking_is_the_running_values(lab):
    for problem in problems(5, [6]):
        assert lab.chat(problem.question, sampling=GREEDY).thinking == problem.thinking


def test_a_card_goes_with_the_weights(lab):
    folder = EMBEDDED / "tiny-moe"
    card = json.loads((folder / "card.json").read_text())
    text = (folder / "README.md").read_text(encoding="utf-8")
    twelve = card["thinking"]["12"]
    assert f"| 12 | {twelve['hits'] / twelve['total']:.3f} (" in text
    assert f"{lab.config.n_params:,} parameters" in text
    assert card["training"]["step"] == 6500
