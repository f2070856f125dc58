"""Compiled decoding steps write the same tokens and record the same activations.

The compiling tests run in a fresh process: torch cannot trace through the shape checks that are
active in this one.
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
    """Tokens and recordings of the plain and the compiled model; number of compiled steps."""
    model = small_model()
    compiled = CompiledDecoder(model)
    step, n_compiled = compiled._step, []
    compiled._step = lambda *args: (n_compiled.append(1), step(*args))[1]
    results = []
    for runs in (model, compiled):
        tap = Recorder(resolve_hooks([*ATTENTION, *ROUTING, "hook_unembed"], model.config))
        results.append((written(runs, tap=tap), tap.cut(SPANS)))
    return *results, len(n_compiled)


@pytest.mark.slow
@needs_compiler
def test_compiled_steps_write_and_record_the_same_as_the_plain_model():
    plain, compiled, n_compiled = in_a_fresh_process(written_and_recorded)
    assert n_compiled == 9, "all passes except the prefill"
    assert compiled[0] == plain[0]
    for mine, theirs in zip(compiled[1], plain[1], strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


@needs_compiler
def test_an_edit_is_applied_on_a_compiled_decoder():
    model = small_model()

    def zero(value, name):
        return value * 0

    edits = {"blocks.1.hook_mlp_out": zero}
    runs = (model, CompiledDecoder(model))
    edited = [written(one, tap=Edits(edits, model.config)) for one in runs]
    assert edited[0] == edited[1] != written(model)


def test_a_machine_without_a_compiler_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CompileError, match="needs a C\\+\\+ compiler, and none was found"):
        CompiledDecoder(small_model())


@needs_compiler
def test_a_lab_uses_the_compiled_decoder_after_compile(tiny_lab):
    lab = Lab(tiny_lab.model, tiny_lab.tokenizer)
    assert lab.decoder is lab.model
    lab.compile()
    assert isinstance(lab.decoder, CompiledDecoder) and lab.decoder.model is lab.model


def test_a_streamed_model_is_not_compiled(saved, tiny_tokenizer):
    lab = Lab(load_model(saved["experts"], memory="300MB"), tiny_tokenizer, "part")
    with pytest.raises(ValueError, match="part is streamed or quantised, and only whole weights"):
        lab.compile()
