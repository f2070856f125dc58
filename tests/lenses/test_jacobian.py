"""The Jacobian lens agrees with torch's own Jacobian, a closed form and TransformerLens."""

import signal
from dataclasses import replace

import pytest
import torch
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.autograd.functional import jacobian

from qwen3lab import lenses
from qwen3lab.errors import CheckpointError
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.taps import Chain, Keep
from qwen3lab.lab import Lab
from qwen3lab.loading import load_model
from tests.lenses.small import IDS, linear_lab, small_lab
from tests.peers.words import word_tokenizer
from tests.reference import hf_random


@pytest.fixture(scope="module", params=[True, False], ids=["experts", "dense"])
def lab(request, tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=request.param)


def final_stream(lab, ids, layer, stream):
    """The stream after the last block when that after a layer is replaced."""
    name, last = (f"blocks.{each}.hook_resid_post" for each in (layer, lab.config.n_layers - 1))
    keep = KeepWithGraph(last)
    edit = Edits({name: lambda value, _: stream[None]}, lab.config)
    lab.model(torch.tensor([ids]), tap=Chain(edit, keep))
    return keep.value[0]


class KeepWithGraph:
    def __init__(self, name):
        self.name = name

    def __call__(self, name, value):
        if name == self.name:
            self.value = value
        return value

    def wants(self, name):
        return name == self.name


def by_torch(lab, ids, layer, skip_first):
    """Mean over valid sources of the sum over valid targets of torch's whole Jacobian."""
    keep = Keep([f"blocks.{layer}.hook_resid_post"])
    with torch.no_grad():
        lab.model(torch.tensor([ids]), tap=keep)
    stream = keep.kept[f"blocks.{layer}.hook_resid_post"][0]
    whole = jacobian(lambda value: final_stream(lab, ids, layer, value), stream)
    valid = slice(skip_first, len(ids) - 1)
    return whole[valid][:, :, valid].sum(dim=0).mean(dim=1)


@pytest.mark.parametrize("rows_at_once", [1, 5, 32, 100])
def test_the_matrices_are_those_of_torchs_jacobian(lab, rows_at_once):
    prompts = [[3, 14, 15, 9, 2, 6, 8], [20, 5, 31, 7, 11]]
    maps = lenses.fit_jacobian(
        lab, prompts, skip_first=2, rows_at_once=rows_at_once, progress=False
    )
    assert maps.layers == (0, 1) and maps.n_prompts == 2
    for layer in (0, 1):
        expected = sum(by_torch(lab, ids, layer, 2) for ids in prompts) / 2
        torch.testing.assert_close(maps.jacobians[layer], expected, atol=2e-5, rtol=2e-4)
    assert bool(maps.note) == lab.config.is_moe


def test_on_affine_blocks_the_matrices_are_the_blocks(tiny_tokenizer):
    lab, [(first, _), (second, _)] = linear_lab(tiny_tokenizer, bias=0.0)
    maps = lenses.fit_jacobian(lab, [list(range(3, 30))], progress=False)
    torch.testing.assert_close(maps.jacobians, torch.stack([second @ first, second]))
    rec = lab.record(IDS, capture=lenses.NEEDED, attention=False)
    lens = lenses.jacobian_lens(lab, rec, maps)
    for layer in range(3):
        torch.testing.assert_close(lens.logits(layer), rec.logits, atol=1e-4, rtol=1e-4)


def test_the_identity_is_the_logit_lens(lab):
    rec = lab.record(IDS, capture=lenses.NEEDED)
    lens = lenses.jacobian_lens(lab, rec, lenses.JacobianLens.identity(lab))
    plain = lenses.logit_lens(lab, rec)
    for layer in range(3):
        torch.testing.assert_close(lens.logits(layer), plain.logits(layer), atol=1e-5, rtol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["dense", "experts, tied"])
def test_fit_and_readout_agree_with_transformerlens(name, tmp_path):
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    tool = pytest.importorskip("transformer_lens.tools.analysis").JacobianLens
    hf_random(name).save_pretrained(tmp_path)
    tokenizer = word_tokenizer(97)
    tokenizer.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save_pretrained(tmp_path)
    model = bridge.boot_transformers(str(tmp_path), device="cpu")
    chance = torch.Generator().manual_seed(4)
    drawn = torch.randint(4, 97, (2, 26), generator=chance).tolist()
    prompts = [" ".join(f"t{word}" for word in words) for words in drawn]
    options = {"dim_batch": 16, "max_seq_len": 24, "show_progress": False}
    theirs = tool.fit(model, prompts, corpus="random words", **options)
    ids = [model.to_tokens(prompt)[0].tolist() for prompt in prompts]
    lab = Lab(load_model(tmp_path), tokenizer, "random")
    ours = lenses.fit_jacobian(lab, ids, max_tokens=24, rows_at_once=16, progress=False)
    matrices = torch.stack([theirs.jacobians[layer] for layer in (0, 1)])
    print(f"largest difference: {float((ours.jacobians - matrices).abs().max()):.1e}")
    torch.testing.assert_close(ours.jacobians, matrices, atol=2e-5, rtol=2e-4)

    read = theirs.readout(model, prompts[0], return_full_logits=True)
    rec = lab.record(ids[0], capture=lenses.NEEDED)
    lens = lenses.jacobian_lens(lab, rec, ours)
    for layer in (0, 1):
        expected = read.lens_logits[layer]
        torch.testing.assert_close(lens.logits(layer), expected, atol=2e-4, rtol=2e-4)

    theirs.save(str(tmp_path / "lens.pt"))
    opened = lenses.open_published(tmp_path / "lens.pt", lab)
    assert (opened.layers, opened.n_prompts, opened.fingerprint) == ((0, 1), 2, "")
    assert torch.equal(opened.jacobians, matrices.half())
    assert lenses.jacobian_lens(lab, rec, opened).rank(20).shape == (3, len(ids[0]))


def test_prompts_without_a_valid_position_are_left_out_with_a_warning(lab):
    with pytest.warns(UserWarning, match="1 prompt of 2 were left out: they have fewer than 5"):
        maps = lenses.fit_jacobian(lab, [IDS, IDS[:4]], skip_first=3, progress=False)
    assert maps.n_prompts == 1
    with pytest.raises(ValueError, match="the longest has 6 tokens, and 18 are needed"):
        lenses.fit_jacobian(lab, [IDS])
    with pytest.raises(ValueError, match="expected a list"):
        lenses.fit_jacobian(lab, "3+4=?")


def test_an_interrupt_returns_the_mean_of_the_prompts_that_were_done(lab, monkeypatch):
    token_ids, first = [IDS, IDS[::-1], IDS], lenses.fit_jacobian
    expected = first(lab, token_ids[:2], skip_first=2, progress=False)
    module = "qwen3lab.lenses.jacobian_fit.prompt_jacobians"
    plain, calls = lenses.jacobian_fit.prompt_jacobians, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(*args)

    monkeypatch.setattr(module, interrupted)
    maps = first(lab, token_ids, skip_first=2, progress=False)
    assert maps == expected and maps.n_prompts == 2
    calls[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt):
        first(lab, token_ids, skip_first=2, progress=False)


def test_saved_matrices_are_read_as_they_were_and_belong_to_their_weights(lab, tmp_path):
    maps = lenses.fit_jacobian(lab, [IDS], skip_first=2, progress=False)
    maps.save(tmp_path / "lens.safetensors")
    assert lenses.JacobianLens.load(tmp_path / "lens.safetensors", lab) == maps
    with torch.no_grad():
        lab.model.ln_final.weight.add_(0.01)
    with pytest.raises(CheckpointError, match="trained for other weights"):
        lenses.JacobianLens.load(tmp_path / "lens.safetensors", lab)
    with pytest.raises(CheckpointError, match="it holds a Jacobian lens"):
        lenses.TunedLens.load(tmp_path / "lens.safetensors", lab)
    rec = lab.record(IDS, capture=lenses.NEEDED)
    with pytest.raises(ValueError, match="was made for other weights"):
        lenses.jacobian_lens(lab, rec, maps)
    with pytest.raises(ValueError, match="has maps of width 8"):
        lenses.jacobian_lens(lab, rec, replace(maps, jacobians=torch.zeros(2, 8, 8)))


GOOD = {
    "J": {0: torch.eye(32).half(), 1: torch.eye(32).half()},
    "n_prompts": 7,
    "source_layers": [0, 1],
    "d_model": 32,
}


class Code:
    """Pickled as a call of a function."""

    def __reduce__(self):
        return print, ("this would run",)


def test_a_published_file_is_opened(lab, tmp_path):
    torch.save(GOOD, tmp_path / "lens.pt")
    maps = lenses.open_published(tmp_path / "lens.pt", lab)
    assert torch.equal(maps.jacobians, torch.eye(32).half().repeat(2, 1, 1))
    assert maps.n_prompts == 7 and "does not name the weights" in maps.note


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (GOOD | {"extra": Code()}, "holds more than tensors and plain values"),
        ([1, 2], "it has no J"),
        (GOOD | {"J": {}}, "it has no layer: expected some of 0 to 1"),
        (GOOD | {"J": {2: torch.eye(32)}}, "it has layer 2: expected some of 0 to 1"),
        (GOOD | {"J": {"0": torch.eye(32)}}, "it has layer '0'"),
        (GOOD | {"J": {0: torch.eye(31)}, "source_layers": [0]}, r"has shape \(31, 31\)"),
        (GOOD | {"J": {0: torch.eye(32).long()}, "source_layers": [0]}, "no tensor of floating"),
        (GOOD | {"J": {0: torch.eye(32) * torch.nan}, "source_layers": [0]}, "not finite"),
        (GOOD | {"source_layers": [0]}, "source_layers are not the layers of J"),
        (GOOD | {"d_model": 64}, "its d_model is 64, and the model has 32"),
        (GOOD | {"n_prompts": "many"}, "its n_prompts is 'many'"),
        (GOOD | {"metadata": {"target_layer": 1}}, "fitted to the stream after layer 1"),
    ],
)
def test_a_published_file_that_does_not_fit_is_refused(lab, tmp_path, capsys, payload, message):
    torch.save(payload, tmp_path / "lens.pt")
    with pytest.raises(CheckpointError, match=message):
        lenses.open_published(tmp_path / "lens.pt", lab)
    assert "would run" not in capsys.readouterr().out


def test_what_is_no_published_file_is_refused(lab, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        lenses.open_published(tmp_path / "none.pt", lab)
    (tmp_path / "text.pt").write_text("no pickle")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        lenses.open_published(tmp_path / "text.pt", lab)
