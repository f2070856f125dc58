"""The tuned lens: exact on a planted affine model, and trained towards it."""

import json
import signal
from dataclasses import replace

import pytest
import torch

from qwen3lab import lenses
from qwen3lab.errors import CheckpointError, NonFiniteError
from qwen3lab.lenses.lens_file import save_lens
from qwen3lab.recording.weights_fingerprint import fingerprint
from tests.lenses.small import IDS, linear_lab, small_lab


@pytest.fixture(scope="module")
def planted(tiny_tokenizer):
    return linear_lab(tiny_tokenizer)


def truth(lab, planted):
    """The maps that give the output: each layer's remaining affine blocks, one after another."""
    (first, offset), (second, last) = planted
    return replace(
        lenses.TunedLens.identity(lab),
        matrices=torch.stack([second @ first, second]),
        biases=torch.stack([second @ offset + last, last]),
    )


def texts(n, *, seed=0, length=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 1000, (n, length), generator=generator).tolist()


def mean_kl(lab, maps, ids):
    recordings = lab.record_batch(ids, capture=lenses.NEEDED, attention=False)
    read = [
        lenses.tuned_lens(lab, rec, maps) if maps else lenses.logit_lens(lab, rec)
        for rec in recordings
    ]
    return torch.stack([lens.kl().plain().mean(dim=1) for lens in read]).mean(dim=0)


def test_the_maps_of_an_affine_model_give_the_output_at_every_layer(planted):
    lab, blocks = planted
    rec = lab.record(IDS, capture=lenses.NEEDED, attention=False)
    lens = lenses.tuned_lens(lab, rec, truth(lab, blocks))
    for layer in range(3):
        torch.testing.assert_close(lens.logits(layer), rec.logits, atol=1e-4, rtol=1e-4)
    assert float(lenses.logit_lens(lab, rec).kl()[0].mean()) > 0.1


def test_identity_maps_are_the_logit_lens(planted):
    lab, _ = planted
    rec = lab.record(IDS, capture=lenses.NEEDED, attention=False)
    lens = lenses.tuned_lens(lab, rec, lenses.TunedLens.identity(lab))
    plain = lenses.logit_lens(lab, rec)
    for layer in range(3):
        torch.testing.assert_close(lens.logits(layer), plain.logits(layer), atol=1e-5, rtol=1e-5)


def test_training_comes_near_the_output_on_texts_it_has_not_seen(planted):
    lab, blocks = planted
    weights = fingerprint(lab.model)
    options = {"steps": 150, "batch_size": 16, "learning_rate": 0.02, "progress": False}
    maps = lenses.train(lab, texts(200), **options)
    unseen = texts(10, seed=1)
    before, after = mean_kl(lab, None, unseen), mean_kl(lab, maps, unseen)
    print(f"KL of layers 0 and 1: logit lens {before[:2].tolist()}, tuned {after[:2].tolist()}")
    assert bool((after[:2] < 0.1 * before[:2]).all())
    assert float(mean_kl(lab, truth(lab, blocks), unseen).max()) < 1e-5
    assert maps.n_tokens == 150 * 16 * 12 and maps.kl.shape == (150, 2)
    assert fingerprint(lab.model) == weights
    assert not maps.matrices.requires_grad


def test_the_first_step_reports_the_divergence_of_the_logit_lens(tiny_tokenizer):
    lab = small_lab(tiny_tokenizer)
    rows = [*texts(2), *texts(1, length=5)]
    maps = lenses.train(lab, rows, steps=1, batch_size=3, progress=False)
    recordings = [lab.record(row, capture=lenses.NEEDED) for row in rows]
    every = torch.cat([lenses.logit_lens(lab, rec).kl().plain() for rec in recordings], dim=1)
    torch.testing.assert_close(maps.kl[0], every[:2].mean(dim=1), atol=1e-4, rtol=1e-4)


def test_blocks_of_logits_give_the_same_gradient(tiny_tokenizer, monkeypatch):
    lab = small_lab(tiny_tokenizer)
    options = {"steps": 2, "batch_size": 2, "progress": False}
    whole = lenses.train(lab, texts(2), **options)
    monkeypatch.setattr("qwen3lab.lenses.training.MAX_LOGITS_AT_ONCE", 5 * 1536)
    parts = lenses.train(lab, texts(2), **options)
    torch.testing.assert_close(whole.kl, parts.kl, atol=1e-5, rtol=1e-4)


def test_an_interrupt_returns_the_steps_that_were_done(tiny_tokenizer, monkeypatch):
    lab = small_lab(tiny_tokenizer)
    record, calls = lab.record_batch, []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return record(*args, **options)

    monkeypatch.setattr(lab, "record_batch", interrupted)
    maps = lenses.train(lab, texts(4), steps=10, batch_size=2, progress=False)
    assert len(maps.kl) == 2 and maps.n_tokens == 2 * 2 * 12
    calls[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt):
        lenses.train(lab, texts(4), steps=10, batch_size=2, progress=False)


def test_saved_maps_are_read_as_they_were(planted, tmp_path):
    lab, blocks = planted
    maps = replace(truth(lab, blocks), n_tokens=17)
    maps.save(tmp_path / "lens.safetensors")
    assert lenses.TunedLens.load(tmp_path / "lens.safetensors", lab) == maps


def test_maps_of_other_weights_are_refused(planted, tiny_tokenizer, tmp_path):
    lab, blocks = planted
    maps = truth(lab, blocks)
    maps.save(tmp_path / "lens.safetensors")
    other = small_lab(tiny_tokenizer)
    with pytest.raises(CheckpointError, match=r"trained for other weights \(of small\)"):
        lenses.TunedLens.load(tmp_path / "lens.safetensors", other)
    rec = other.record(IDS, capture=lenses.NEEDED)
    with pytest.raises(ValueError, match="was made for other weights"):
        lenses.tuned_lens(other, rec, maps)
    narrow = replace(maps, matrices=torch.zeros(2, 8, 8), biases=torch.zeros(2, 8))
    with pytest.raises(ValueError, match="has maps of width 8"):
        lenses.tuned_lens(other, rec, narrow)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrices": torch.zeros(2, 8, 8)}, r"matrices has dtype F32 and shape \(2, 8, 8\)"),
        ({"biases": torch.full((2, 32), torch.nan)}, "biases has values that are not finite"),
        ({"layers": (0, 2)}, "expected some of 0 to 1"),
        ({"layers": (1, 0)}, "not a list of different numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(planted, tmp_path, changes, message):
    lab, blocks = planted
    fields = vars(truth(lab, blocks)) | changes
    tensors = {name: fields.pop(name) for name in ("matrices", "biases")}
    about = {name: fields[name] for name in ("model_name", "fingerprint", "layers")}
    save_lens(tmp_path / "lens.safetensors", "tuned lens", tensors, about)
    with pytest.raises(CheckpointError, match=message):
        lenses.TunedLens.load(tmp_path / "lens.safetensors", lab)


def test_another_file_is_refused(planted, tmp_path):
    lab, _ = planted
    with pytest.raises(CheckpointError, match="does not exist"):
        lenses.TunedLens.load(tmp_path / "none.safetensors", lab)
    lab.record(IDS, attention=False).save(tmp_path / "run.safetensors")
    with pytest.raises(CheckpointError, match="not a file of a lens"):
        lenses.TunedLens.load(tmp_path / "run.safetensors", lab)
    (tmp_path / "text.safetensors").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="is no tuned lens of small"):
        lenses.TunedLens.load(tmp_path / "text.safetensors", lab)


def test_bad_arguments_are_refused_before_the_training(planted):
    lab, _ = planted
    with pytest.raises(ValueError, match="there is no text to train on"):
        lenses.train(lab, [])
    with pytest.raises(ValueError, match="learning_rate is -1"):
        lenses.train(lab, texts(1), learning_rate=-1)
    with pytest.raises(ValueError, match="steps is 0: expected 1 or more"):
        lenses.train(lab, texts(1), steps=0)
    with pytest.raises(ValueError, match=r"learning_rate is 2\.0: expected above 0 and at most 1"):
        lenses.train(lab, texts(1), learning_rate=2)


@pytest.mark.filterwarnings("ignore")  # The recording warns, too.
def test_a_divergence_that_is_not_finite_ends_the_training(tiny_tokenizer):
    lab = small_lab(tiny_tokenizer)
    with torch.no_grad():
        lab.model.ln_final.weight.fill_(3e38)
    with pytest.raises(NonFiniteError, match="of layer 0 is not finite at step 0"):
        lenses.train(lab, texts(2), progress=False)
