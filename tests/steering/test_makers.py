"""Makers of steering vectors, compared with means by hand, scikit-learn, and planted directions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qwen3lab import lenses, steering
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

POSITIVE = [[5, 6, 7], [9, 8], [3, 4, 5, 6]]
NEGATIVE = [[5, 6, 8], [9, 7], [3, 4, 5, 9]]
STREAM = "blocks.*.hook_resid_post"


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    config = small_config(d_vocab=len(tiny_tokenizer))
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    with torch.no_grad():
        model.ln_final.weight.add_(torch.linspace(0, 1, config.d_model))
    return Lab(model, tiny_tokenizer, "small")


def streams(lab, prompts, layer):
    hook = f"blocks.{layer}.hook_resid_post"
    return [lab.record(prompt, capture=hook)[hook] for prompt in prompts]


def test_a_mean_difference_is_that_of_the_last_tokens(lab):
    vector = steering.mean_difference(lab, POSITIVE, NEGATIVE[:2], layer=[0, -1])
    assert vector.layers == (0, 2)
    for layer in (0, 2):
        above = torch.stack([each[-1] for each in streams(lab, POSITIVE, layer)]).mean(dim=0)
        below = torch.stack([each[-1] for each in streams(lab, NEGATIVE[:2], layer)]).mean(dim=0)
        torch.testing.assert_close(vector[layer], above - below, atol=1e-5, rtol=1e-4)


def test_a_mean_difference_over_all_tokens_counts_each_prompt_once(lab):
    vector = steering.mean_difference(lab, POSITIVE, NEGATIVE, layer=1, tokens="all")
    above, below = (
        torch.stack([each.mean(dim=0) for each in streams(lab, side, 1)]).mean(dim=0)
        for side in (POSITIVE, NEGATIVE)
    )
    torch.testing.assert_close(vector[1], above - below, atol=1e-5, rtol=1e-4)


def by_repeng(positive, negative, method):
    """The definition in repeng's `read_representations`, with scikit-learn's PCA."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    centre = (positive + negative) / 2
    centred = torch.stack([positive - centre, negative - centre], dim=1).flatten(0, 1)
    rows = positive - negative if method == "pca_diff" else centred
    fitted = decomposition.PCA(n_components=1, whiten=False).fit(rows.numpy())
    direction = torch.from_numpy(fitted.components_[0].copy()).float()
    larger = (positive @ direction > negative @ direction).float().mean()
    smaller = (positive @ direction < negative @ direction).float().mean()
    return -direction if smaller > larger else direction


@pytest.mark.parametrize("method", ["pca_diff", "pca_center"])
@pytest.mark.parametrize("seed", range(4))
def test_a_principal_direction_is_that_of_repeng(method, seed):
    generator = torch.Generator().manual_seed(seed)
    positive, negative = torch.randn(2, 11, 16, generator=generator)
    positive = positive + torch.randn(16, generator=generator) * (seed - 1)
    found = steering.principal_direction(positive, negative, method=method)
    torch.testing.assert_close(found, by_repeng(positive, negative, method), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("method", ["pca_diff", "pca_center"])
def test_repeng_itself_gave_the_same_directions(method):
    """Made by repeng at the commit that the file names; its script is with the references."""
    kept = load_file(Path(__file__).parent / "data" / "repeng_directions.safetensors")
    for states, expected in zip(kept["states"], kept[method], strict=True):
        found = steering.principal_direction(states[:, 0], states[:, 1], method=method)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_principal_direction_finds_a_planted_one_with_its_sign():
    generator = torch.Generator().manual_seed(0)
    planted = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)
    negative = 0.01 * torch.randn(20, 16, generator=generator)
    positive = negative + (0.5 + torch.rand(20, 1, generator=generator)) * planted
    for method in ("pca_diff", "pca_center"):
        found = steering.principal_direction(positive, negative, method=method)
        assert float(found @ planted) > 0.999
        opposite = steering.principal_direction(negative, positive, method=method)
        assert float(opposite @ planted) < -0.999


@pytest.mark.parametrize("method", ["pca_diff", "pca_center"])
def test_a_pca_vector_is_made_from_the_last_tokens_of_each_layer(lab, method):
    vector = steering.pca_difference(lab, POSITIVE, NEGATIVE, layer=None, method=method)
    assert vector.layers == (0, 1, 2)
    for layer in vector.layers:
        above, below = (
            torch.stack([each[-1] for each in streams(lab, side, layer)])
            for side in (POSITIVE, NEGATIVE)
        )
        expected = by_repeng(above, below, method)
        torch.testing.assert_close(vector[layer], expected, atol=1e-3, rtol=1e-3)


def test_labels_give_the_mean_over_their_tokens_minus_that_over_all(lab):
    recordings = [lab.record(prompt, capture=STREAM) for prompt in POSITIVE]
    labels = [["a", "b", "a"], [None, "a"], ["b", "b", None, "b"]]
    vector = steering.from_labels(lab, recordings, labels, "a", layer=1)
    stream = torch.cat([rec["blocks.1.hook_resid_post"] for rec in recordings])
    expected = stream[[0, 2, 4]].mean(dim=0) - stream[[0, 1, 2, 4, 5, 6, 8]].mean(dim=0)
    torch.testing.assert_close(vector[1], expected, atol=1e-5, rtol=1e-4)
    assert "3 tokens" in vector.made_by and "7" in vector.made_by


def test_a_thinking_direction_is_between_the_prompts_of_the_chat_template(lab):
    question = "3+4=?"
    vector = steering.thinking_direction(lab, [question], layer=2)
    ends = []
    for mode in (True, False):
        talk = [{"role": "user", "content": question}]
        text = lab.tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True, enable_thinking=mode
        )
        ids = lab.tokenizer.encode(text, add_special_tokens=False)
        ends.append(streams(lab, [ids], 2)[0][-1])
    torch.testing.assert_close(vector[2], ends[0] - ends[1], atol=1e-5, rtol=1e-4)


def test_a_tokens_direction_raises_its_logit_by_the_squared_norm_over_the_scale(lab):
    last = lab.config.n_layers - 1
    vector = steering.from_token(lab, 20, layer=last)
    rec = lab.record([5, 6, 7], edits=0.5 * vector, capture="ln_final.hook_scale")
    plain = lab.record([5, 6, 7], capture="ln_final.hook_scale")
    scales = [float(each["ln_final.hook_scale"][-1]) for each in (rec, plain)]
    raised = float(rec.logits[-1, 20]) * scales[0] - float(plain.logits[-1, 20]) * scales[1]
    assert raised == pytest.approx(0.5 * float(vector[last].norm()) ** 2, rel=1e-3)
    difference = steering.from_token(lab, 20, other=21, layer=last)
    other = steering.from_token(lab, 21, layer=last)
    torch.testing.assert_close(difference[last], vector[last] - other[last])


def test_through_a_lens_a_tokens_direction_is_the_gradient_of_what_the_lens_reads(lab):
    maps = replace(
        lenses.TunedLens.identity(lab),
        matrices=torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0)),
    )
    stream = torch.zeros(1, 32, requires_grad=True)
    column = lab.model.unembedding.detach()[20] * lab.model.ln_final.weight.detach()
    (maps.moved(1, stream)[0] @ column).backward()
    vector = steering.from_token(lab, 20, layer=[1, 2], lens=maps)
    torch.testing.assert_close(vector[1], stream.grad[0])
    torch.testing.assert_close(vector[2], steering.from_token(lab, 20, layer=2)[2])
    assert "through a tuned lens" in vector.made_by
    with pytest.raises(ValueError, match="made for other weights"):
        steering.from_token(lab, 20, layer=1, lens=replace(maps, fingerprint="other"))


def test_a_vector_names_its_model_and_weights(lab):
    vector = steering.from_direction(lab, torch.ones(32), layer=1, made_by="hand")
    assert vector.model_name == "small" and vector.made_by == "hand"
    with torch.no_grad():
        lab.model.blocks[0].ln1.weight.add_(1)
        changed = steering.from_direction(lab, torch.ones(32), layer=1)
        lab.model.blocks[0].ln1.weight.sub_(1)
    assert changed.weights != vector.weights


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s, lab: s.mean_difference(lab, [], NEGATIVE, layer=1), "there is no prompt"),
        (lambda s, lab: s.mean_difference(lab, "ab", "cd", layer=1), "expected a list"),
        (lambda s, lab: s.mean_difference(lab, POSITIVE, POSITIVE, layer=1), "1 is zero"),
        (lambda s, lab: s.mean_difference(lab, POSITIVE, NEGATIVE, layer=3), "layers 0 to 2"),
        (lambda s, lab: s.mean_difference(lab, POSITIVE, NEGATIVE, layer=[]), "list of layers is"),
        (
            lambda s, lab: s.mean_difference(lab, POSITIVE, NEGATIVE, layer=1, tokens="first"),
            'expected "last" or "all"',
        ),
        (
            lambda s, lab: s.mean_difference(lab, POSITIVE, NEGATIVE, layer=1, hook="hook_q"),
            "is no hook of a layer with an axis d_model",
        ),
        (lambda s, lab: s.pca_difference(lab, POSITIVE, NEGATIVE[:2], layer=1), "expected pairs"),
        (
            lambda s, lab: s.pca_difference(lab, POSITIVE[:1], NEGATIVE[:1], layer=1),
            "pca_diff of 1 pair: expected 2 or more",
        ),
        (
            lambda s, lab: s.pca_difference(lab, POSITIVE, POSITIVE, layer=1),
            "no differences that vary",
        ),
        (
            lambda s, lab: s.pca_difference(lab, POSITIVE, NEGATIVE, layer=1, method="ica"),
            'expected "pca_diff" or "pca_center"',
        ),
        (lambda s, lab: s.from_token(lab, 20, other=20, layer=1), "is zero"),
        (lambda s, lab: s.from_token(lab, -1, layer=1), "token -1 does not exist"),
        (lambda s, lab: s.from_direction(lab, torch.ones(31), layer=1), "d_model of small is 32"),
        (lambda s, lab: s.from_direction(lab, torch.full((32,), torch.inf), layer=1), "infinite"),
    ],
)
def test_what_gives_no_vector_is_refused(lab, make, message):
    with pytest.raises((ValueError, HookError), match=message):
        make(steering, lab)


def test_labels_that_do_not_fit_the_recordings_are_refused(lab):
    recordings = [lab.record(prompt, capture=STREAM) for prompt in POSITIVE[:1]]

    def make(labels, label="a", recs=recordings):
        return steering.from_labels(lab, recs, labels, label, layer=1)

    with pytest.raises(ValueError, match="1 recordings and 2 lists of labels"):
        make([["a", "b", "a"], ["a"]])
    with pytest.raises(ValueError, match="recording 0 has 3 tokens and 2 labels"):
        make([["a", "b"]])
    with pytest.raises(ValueError, match="0 of 3 labelled tokens have 'c'"):
        make([["a", "b", "a"]], "c")
    with pytest.raises(RecordingError, match=r"record with capture='blocks\.1\.hook_resid_post'"):
        make([["a", "b", "a"]], recs=[lab.record(POSITIVE[0])])
