"""Suggested settings follow from the model, its generation config, its context and its device."""

import json

import pytest
import torch

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.generation.defaults import ReplyDefaults
from qwen3lab.generation.suggested import GENERAL, MICRO, TINY, suggest
from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny.training.recipes import MICRO_MOE
from qwen3lab.tiny.world.tokenizer import write_tokenizer
from tests.generation.test_defaults import BASE, HYBRID, INSTRUCT_2507
from tests.reference import small_config

SMALL, MOE, LARGE = (PUBLISHED[f"Qwen/Qwen3-{n}"] for n in ("0.6B", "30B-A3B", "32B"))


def write_random(folder, **config):
    model = Qwen3(small_config(**config))
    model.init_weights(torch.Generator().manual_seed(0))
    save_checkpoint(model, folder)


def suggestion(config=SMALL, fields=HYBRID, *, name="Qwen/Qwen3-0.6B", device="cuda", **options):
    defaults = ReplyDefaults.from_fields(fields)
    options = {"edition": None, **options}
    return suggest(config, defaults, name=name, device=device, **options)


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        # "We recommend using an output length of 32,768 tokens for most queries": model cards.
        pytest.param(HYBRID, 32_768, id="hybrid"),
        pytest.param(INSTRUCT_2507, 16_384, id="instruct"),
        pytest.param({}, 32_768, id="no fields"),
        pytest.param(BASE | {"max_new_tokens": 2048}, 2048, id="base"),
    ],
)
def test_a_reply_on_a_gpu_may_be_as_long_as_published(fields, published):
    assert suggestion(fields=fields).max_new_tokens == published
    assert suggestion(fields=fields).note == ""


def test_the_context_limits_every_length():
    found = suggestion(small_config(n_ctx=256))
    lengths = (found.max_new_tokens, found.recorded_tokens, found.answer_tokens, *found.budgets)
    assert max(lengths) == 256
    assert found.budget == found.budgets[-1] == 128
    assert list(found.budgets) == sorted({*found.budgets})


@pytest.mark.parametrize(("config", "budget"), [(SMALL, 128), (MOE, 64), (LARGE, 32)])
def test_a_cpu_gets_a_smaller_offer_and_says_so(config, budget):
    gpu, cpu = (suggestion(config, device=device) for device in ("cuda", "cpu"))
    assert cpu.budget == budget < gpu.budget
    assert cpu.max_new_tokens < gpu.max_new_tokens
    assert cpu.samples < gpu.samples and cpu.problems < gpu.problems
    assert max(cpu.budgets) < max(gpu.budgets)
    assert "for a CPU" in cpu.note and "published: 32,768" in cpu.note
    assert cpu.note in repr(cpu) and cpu.note in (cpu._repr_html_() or "")


def test_a_model_on_disk_thinks_least():
    assert (
        suggestion(device="cuda", is_streamed=True).budget == suggestion(LARGE, device="cpu").budget
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_published_models_think_in_sentences_and_are_never_greedy(device):
    found = suggestion(device=device)
    assert found.every in ("sentence", "paragraph")
    assert found.sampling is None
    assert found.temperatures == (0.7, 0.6)
    assert suggestion(fields=INSTRUCT_2507).temperatures == (0.7, 0.7)


def test_examples_fit_the_model():
    assert suggestion().questions == GENERAL
    assert suggestion(edition=2).questions == TINY
    micro = suggestion(edition=2, name=MICRO_MOE.name).questions
    assert micro == MICRO and {*micro} < {*TINY}
    assert not any("swap" in text for text in micro)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_smaller_run_is_smaller_again_and_again(device):
    found = suggestion(device=device)
    for _ in range(6):
        smaller = found.smaller
        assert smaller.budgets == found.budgets[: len(smaller.budgets)]
        for name in ("max_new_tokens", "answer_tokens", "problems", "texts", "samples"):
            assert 1 <= getattr(smaller, name) <= getattr(found, name)
        found = smaller
    assert found.budgets[0] == 0 and len(found.budgets) == 2
    assert found.problems == found.samples == found.texts == 1


def test_the_embedded_models_are_asked_what_they_know_whatever_their_folder_is_called(
    tmp_path, tiny_lab
):
    write_tokenizer(tmp_path)
    write_random(tmp_path, d_vocab=1536)
    lab = qwen3lab.load(tmp_path, device="cpu")
    assert lab.suggested.questions == tiny_lab.suggested.questions == TINY
    assert lab.suggested.sampling == Sampling.greedy()


@pytest.fixture
def published_lab(tmp_path, published_tokenizer):
    """A narrow model in a folder as the hub has it: published tokenizer and generation config."""
    write_random(tmp_path, d_vocab=151_936, n_ctx=40_960, tied_embeddings=True)
    published_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(HYBRID))
    return qwen3lab.load(tmp_path, device="cpu")


def test_a_chat_samples_as_published_and_may_be_as_long_as_suggested(published_lab, monkeypatch):
    suggested = published_lab.suggested
    assert suggested.questions == GENERAL and suggested.sampling is None
    assert suggested.max_new_tokens == 4096  # On a CPU.
    given = {}
    monkeypatch.setattr(
        published_lab,
        "_write",
        lambda replies, sampling, o, held, batch=None: given.update(o, sampling=sampling) or [None],
    )
    published_lab.chat("Hi")
    assert given["max_new_tokens"] == 4096
    assert given["sampling"] == Sampling(temperature=0.6, top_p=0.95, top_k=20)
    published_lab.chat("Hi", thinking=False)
    assert given["sampling"] == Sampling(temperature=0.7, top_p=0.8, top_k=20)
    published_lab.generate("Hi")
    assert given["max_new_tokens"] == 256


def test_a_length_in_the_generation_config_holds_for_all_replies(tmp_path):
    write_random(tmp_path, d_vocab=1536)
    write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": 7}')
    lab = qwen3lab.load(tmp_path, device="cpu")

    def only_one_token(logits, name):  # Random weights may sample the token that ends a reply.
        return torch.full_like(logits, -30.0).index_fill(-1, torch.tensor([20]), 30.0)

    edits = {"hook_unembed": only_one_token}
    for reply in (lab.generate("7+2", edits=edits), lab.chat("7+2", edits=edits)):
        assert (len(reply.token_ids), reply.stop) == (7, "length")


def test_the_first_edition_is_asked_what_it_knows():
    found = suggestion(edition=1)
    assert found.questions[0] == "7+2*3-1*7+3=?" not in TINY
    assert not {"What is the capital of France?"} & {*found.questions}
    assert found.budgets != suggestion(edition=2).budgets
