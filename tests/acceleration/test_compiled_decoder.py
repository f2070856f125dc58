"""Compiled passes write the same tokens, and give what is recorded of them.

torch compiles in processes of their own: it cannot look through the checks of shapes that are
switched on in tests.
"""

import pytest
import torch

from qwen3lab import Lab
from qwen3lab.acceleration.compiled_decoder import CompiledDecoder
from qwen3lab.errors import CompileError
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.hooks.taps import NO_TAP
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recorder import ATTENTION, ROUTING, Recorder
from tests.fresh_process import in_a_fresh_process, needs_compiler
from tests.generation.test_decoding import Plain
from tests.reference import small_config

PROMPTS = [[3, 1, 4, 1, 5], [9, 2]]
SPANS = [(0, 14), (3, 14)]


def small_model():
    built = Qwen3(small_config(n_layers=2, moe_layers=(1,)))
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built


def written(runs, *, tap=NO_TAP, n=10):
    guides = [Plain() for _ in PROMPTS]
    sampler = Sampler.in_a_row(Sampling.greedy(), len(PROMPTS), 0)
    options = {"sampler": sampler, "guides": guides, "max_new_tokens": n, "tap": tap}
    return [step.token_ids.tolist() for step in decode(runs, PROMPTS, **options)]


def written_and_recorded():
    """Tokens and recordings, plain and compiled; and how many passes were compiled ones."""
    model = small_model()
    compiled = CompiledDecoder(model)
    step, n_compiled = compiled._step, []
    compiled._step = lambda *args: (n_compiled.append(1), step(*args))[1]
    found = []
    for runs in (model, compiled):
        tap = Recorder(resolve_hooks([*ATTENTION, *ROUTING, "hook_unembed"], model.config))
        found.append((written(runs, tap=tap), tap.cut(SPANS)))
    return *found, len(n_compiled)


@pytest.mark.slow
@needs_compiler
def test_what_is_written_and_recorded_is_that_of_the_plain_pass():
    plain, compiled, n_compiled = in_a_fresh_process(written_and_recorded)
    assert n_compiled == 9, "all passes but the prompt's"
    assert compiled[0] == plain[0]
    for mine, theirs in zip(compiled[1], plain[1], strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


@needs_compiler
def test_an_edit_is_applied_though_passes_are_compiled():
    model = small_model()

    def silence(value, name):
        return value * 0

    edits = {"blocks.1.hook_mlp_out": silence}
    runs = (model, CompiledDecoder(model))
    edited = [written(one, tap=Edits(edits, model.config)) for one in runs]
    assert edited[0] == edited[1] != written(model)


def test_a_machine_without_a_compiler_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CompileError, match="needs a C\\+\\+ compiler, and there is none"):
        CompiledDecoder(small_model())


@needs_compiler
def test_a_lab_writes_with_compiled_passes_once_it_is_asked_to(tiny_lab):
    lab = Lab(tiny_lab.model, tiny_lab.tokenizer)
    assert lab.decoder is lab.model
    lab.compile()
    assert isinstance(lab.decoder, CompiledDecoder) and lab.decoder.model is lab.model


def test_a_streamed_model_is_not_compiled(saved, tiny_tokenizer):
    lab = Lab(load_model(saved["experts"], memory="300MB"), tiny_tokenizer, "part")
    with pytest.raises(ValueError, match="part is streamed or quantised, and only whole weights"):
        lab.compile()
