"""Files in the layout of vLLM's extract_hidden_states are read back to what was recorded."""

import pytest
import torch
from safetensors.torch import save_file

from qwen3lab import corpus, lenses
from qwen3lab.errors import CorpusError

PROMPT = "3+4*2=?"
LAYERS = (0, 2, 5, 6)


@pytest.fixture(scope="module")
def rec(tiny_lab):
    hooks = ["blocks.0.hook_resid_pre", *lenses.NEEDED]
    return tiny_lab.record(PROMPT, capture=hooks)


def streams(rec, tiny_lab):
    """What each block reads, and the last stream, as transformers' hidden_states."""
    n = tiny_lab.config.n_layers
    after = [rec[f"blocks.{layer}.hook_resid_post"] for layer in range(n)]
    return [rec["blocks.0.hook_resid_pre"], *after]


def written(path, rec, tiny_lab, layers=LAYERS, **changes):
    """A file as the connector of vLLM writes it."""
    states = torch.stack([streams(rec, tiny_lab)[n] for n in layers], dim=1).contiguous()
    save_file({"hidden_states": states, "token_ids": rec.token_ids.clone()} | changes, path)
    return path


def test_a_file_is_read_back_to_the_activations_that_were_recorded(rec, tiny_lab, tmp_path):
    path = written(tmp_path / "0.safetensors", rec, tiny_lab)
    found = corpus.from_hidden_states(path, lab=tiny_lab, layers=[6, 0, 5, 2])
    assert found.tokens == rec.tokens
    assert torch.equal(found.token_ids, rec.token_ids)
    assert list(found.activations) == [
        "blocks.0.hook_resid_pre",
        "blocks.1.hook_resid_post",
        "blocks.4.hook_resid_post",
        "blocks.5.hook_resid_post",
    ]
    for hook in found.activations:
        assert torch.equal(found[hook], rec[hook])


def test_a_lens_reads_a_file_of_all_layers_as_it_reads_a_recording(rec, tiny_lab, tmp_path):
    every = range(1, tiny_lab.config.n_layers + 1)
    path = written(tmp_path / "1.safetensors", rec, tiny_lab, every)
    found = corpus.from_hidden_states(path, lab=tiny_lab, layers=every)
    expected = lenses.logit_lens(tiny_lab, rec).rank("1")
    assert torch.equal(lenses.logit_lens(tiny_lab, found).rank("1"), expected)


def test_the_streams_are_the_hidden_states_of_transformers(rec, tiny_lab):
    """vLLM adds up hidden states and residual before it runs a layer, as transformers' list."""
    from transformers import AutoModelForCausalLM

    from qwen3lab.checkpoints.folders import find_folder

    hf = AutoModelForCausalLM.from_pretrained(
        find_folder("tiny-moe"), dtype=torch.float32, experts_implementation="eager"
    )
    with torch.no_grad():
        states = hf(rec.token_ids[None], output_hidden_states=True).hidden_states
    for own, theirs in zip(streams(rec, tiny_lab)[:-1], states[:-1], strict=True):
        torch.testing.assert_close(own, theirs[0], rtol=1e-3, atol=1e-3)


def test_what_does_not_fit_is_refused_with_the_reason(rec, tiny_lab, tmp_path):
    path = tmp_path / "2.safetensors"
    broken = torch.full((len(rec), 4, tiny_lab.config.d_model), torch.nan)
    for changes, layers, reason in [
        ({}, (0, 1), r"make it \(\d+, 2, 128\)"),
        ({}, (0, 2, 5, 9), "expected each once, from 0 to 6"),
        ({}, (0, 2, 5, 5), "expected each once, from 0 to 6"),
        ({"token_ids": torch.full((len(rec),), 99_999)}, LAYERS, "token 99999 does not exist"),
        ({"token_ids": torch.ones(0, dtype=torch.int64)}, LAYERS, r"have the shape \(0,\)"),
        ({"hidden_states": broken}, LAYERS, "are not finite"),
    ]:
        written(path, rec, tiny_lab, **changes)
        with pytest.raises(CorpusError, match=reason):
            corpus.from_hidden_states(path, lab=tiny_lab, layers=layers)
    save_file({"token_ids": rec.token_ids.clone()}, path)
    with pytest.raises(CorpusError, match="it has no hidden_states"):
        corpus.from_hidden_states(path, lab=tiny_lab, layers=LAYERS)
    path.write_bytes(b"no tensors")
    with pytest.raises(CorpusError, match="holds no hidden states of tiny-moe"):
        corpus.from_hidden_states(path, lab=tiny_lab, layers=LAYERS)
    with pytest.raises(CorpusError, match="holds no hidden states"):
        corpus.from_hidden_states(tmp_path / "none", lab=tiny_lab, layers=LAYERS)
