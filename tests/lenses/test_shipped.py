"""The lenses that ship with the embedded models: whose they are, and what they are worth."""

import pytest
import torch

import qwen3lab
from qwen3lab import lenses, tiny
from qwen3lab.errors import CheckpointError
from qwen3lab.lenses.lens_file import save_lens
from qwen3lab.lenses.shipped import ships
from tests.lenses.small import small_lab

MODELS = ("tiny-dense", "tiny-moe")
N_TEXTS = 4


@pytest.fixture(scope="module", params=MODELS)
def lab(request):
    return qwen3lab.load(request.param, device="cpu", dtype="float32")


def held_out(lab):
    return [text.token_ids for text in tiny.texts(lab.tokenizer, n=N_TEXTS)]


def mean_kl(lab, read):
    """KL(output || lens) of each layer on held-out texts, nats per token."""
    recordings = lab.record_batch(held_out(lab), capture=lenses.NEEDED, attention=False)
    return torch.stack([read(rec).kl().plain().mean(dim=1) for rec in recordings]).mean(dim=0)


def test_the_tuned_lens_is_nearer_to_the_output_than_the_logit_lens_on_held_out_texts(lab):
    plain = mean_kl(lab, lambda rec: lenses.logit_lens(lab, rec))[:-1]
    tuned = mean_kl(lab, lambda rec: lenses.tuned_lens(lab, rec))[:-1]
    print(f"{lab.name}: logit lens {plain.tolist()}, tuned lens {tuned.tolist()}")
    assert bool((tuned < 0.6 * plain).all())


def test_the_shipped_jacobian_is_near_the_one_fitted_to_other_texts(lab):
    # The mean over held-out texts; a lens of other weights has nothing in common with it.
    shipped = lenses.JacobianLens.shipped(lab).jacobians.float()
    texts = [ids[:24] for ids in held_out(lab) if len(ids) > 12]
    fitted = lenses.fit_jacobian(lab, texts, skip_first=4, rows_at_once=32, progress=False)
    similar = torch.cosine_similarity(shipped.flatten(1), fitted.jacobians.flatten(1))
    print(f"{lab.name}: cosine of the matrices {similar.tolist()}")
    assert float(similar.min()) > 0.5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_lab_in_another_dtype_reads_with_the_shipped_lens(dtype):
    lab = qwen3lab.load("tiny-dense", device="cpu", dtype=dtype)
    rec = lab.record("3+4=?", capture=lenses.NEEDED)
    exact = qwen3lab.load("tiny-dense", device="cpu", dtype="float32")
    same = exact.record("3+4=?", capture=lenses.NEEDED)
    for read in (lenses.tuned_lens, lenses.jacobian_lens):
        rounded, plain = read(lab, rec).logits(3)[-1], read(exact, same).logits(3)[-1]
        assert float((rounded - plain).abs().max()) < 0.05 * float(plain.abs().max())


def test_weights_that_no_lens_ships_for_are_told_what_to_do(lab):
    changed = qwen3lab.load(lab.name, device="cpu", dtype="float32")
    with torch.no_grad():
        changed.model.blocks[0].ln1.weight.add_(0.1)
    rec = changed.record("3+4=?", capture=lenses.NEEDED)
    for read, made_by in (
        (lenses.tuned_lens, "lenses.train"),
        (lenses.jacobian_lens, "lenses.fit_jacobian"),
    ):
        names = "tiny-dense, tiny-dense@v1, tiny-moe, tiny-moe@v1"
        with pytest.raises(CheckpointError, match=f"ships for {names}, as last.*{made_by}"):
            read(changed, rec)


def test_the_weights_of_a_model_of_another_size_are_not_read(tiny_tokenizer, monkeypatch):
    def read(model):
        raise AssertionError("a large model would be read as a whole")

    monkeypatch.setattr("qwen3lab.lenses.lens_file.fingerprint", read)
    assert not ships(small_lab(tiny_tokenizer), "tuned lens")


def test_a_lens_of_another_model_is_not_taken_for_this_one(lab):
    assert lenses.TunedLens.shipped(lab).model_name == lab.name
    other = qwen3lab.load(next(name for name in MODELS if name != lab.name), device="cpu")
    rec = lab.record("3+4=?", capture=lenses.NEEDED)
    with pytest.raises(ValueError, match=f"of {other.name}"):
        lenses.tuned_lens(lab, rec, lenses.TunedLens.shipped(other))


def test_a_file_with_a_fingerprint_that_is_no_text_is_refused(lab, tmp_path):
    maps = lenses.JacobianLens.identity(lab)
    about = {"model_name": lab.name, "fingerprint": maps.fingerprint, "layers": [0, 1, 2, 3, 4]}
    tensors = {"jacobians": maps.jacobians}
    save_lens(tmp_path / "lens.safetensors", maps.kind, tensors, {**about, "rounded": [5]})
    with pytest.raises(CheckpointError, match="a fingerprint is not text"):
        lenses.JacobianLens.load(tmp_path / "lens.safetensors", lab)
