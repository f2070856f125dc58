"""Compiled passes write the same tokens, and give what is recorded of them."""

import pytest
import torch

from qwen3lab import Lab
from qwen3lab.checkpoint import load_model
from qwen3lab.compiled import CompiledModel, CompileError
from qwen3lab.generate import Sampler, Sampling, decode
from qwen3lab.hooks import NOTHING, Edits, resolve_hooks
from qwen3lab.model import Qwen3
from qwen3lab.recording import ATTENTION, ROUTING, Recorder
from tests.reference import small_config
from tests.test_generate import Plain

PROMPTS = [[3, 1, 4, 1, 5], [9, 2]]


@pytest.fixture(scope="module")
def model():
    built = Qwen3(small_config(n_layers=2, moe_layers=(1,)))
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built


@pytest.fixture(scope="module")
def compiled(model):
    return CompiledModel(model)


def written(runs, *, tap=NOTHING, n=10):
    guides = [Plain() for _ in PROMPTS]
    sampler = Sampler.in_a_row(Sampling.greedy(), len(PROMPTS), 0)
    options = {"sampler": sampler, "guides": guides, "max_new_tokens": n, "tap": tap}
    return [step.token_ids.tolist() for step in decode(runs, PROMPTS, **options)]


def test_what_is_written_and_recorded_is_that_of_the_plain_pass(model, compiled, monkeypatch):
    names = resolve_hooks([*ATTENTION, *ROUTING, "hook_unembed"], model.config)
    plain, quick = Recorder(names), Recorder(names)
    expected = written(model, tap=plain)
    prompts_alone = []
    forward = Qwen3.forward

    def counted(self, token_ids, **options):
        prompts_alone.append(token_ids.shape[1])
        return forward(self, token_ids, **options)

    monkeypatch.setattr(compiled.model, "forward", counted.__get__(model))
    step = compiled._step
    monkeypatch.setattr(compiled, "_step", lambda *args: (prompts_alone.append(0), step(*args))[1])
    assert written(compiled, tap=quick) == expected
    assert prompts_alone.count(0) == 9, "all passes but the prompt's are compiled"
    spans = [(0, 14), (3, 14)]
    for mine, theirs in zip(quick.cut(spans), plain.cut(spans), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_an_edit_is_applied_though_passes_are_compiled(model, compiled):
    def silence(value, name):
        return value * 0

    edits = {"blocks.1.hook_mlp_out": silence}
    edited = [written(runs, tap=Edits(edits, model.config)) for runs in (model, compiled)]
    assert edited[0] == edited[1] != written(model)


def test_a_machine_without_a_compiler_is_told(model, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CompileError, match="needs a C\\+\\+ compiler, and there is none"):
        CompiledModel(model)


def test_a_lab_writes_with_compiled_passes_once_it_is_asked_to(tiny_lab):
    lab = Lab(tiny_lab.model, tiny_lab.tokenizer)
    assert lab.decoder is lab.model
    lab.compile()
    assert isinstance(lab.decoder, CompiledModel) and lab.decoder.model is lab.model


def test_a_streamed_model_is_not_compiled(saved, tiny_tokenizer):
    lab = Lab(load_model(saved["experts"], memory="300MB"), tiny_tokenizer, "part")
    with pytest.raises(ValueError, match="part is streamed or quantised, and only whole weights"):
        lab.compile()
