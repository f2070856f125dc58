"""Probes find what is planted, are at chance where nothing is, and do not see labels of a group."""

import random

import pytest
import torch

from qwen3lab import probes, steering
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recording import Recording
from tests.reference import small_config

N_TEXTS, N_TOKENS, PLANTED = 24, 15, 1
LABELS = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer, "small")


def recording(lab, streams):
    ids = torch.arange(3, 3 + len(streams[0]))
    names = (f"blocks.{layer}.hook_resid_post" for layer in range(3))
    activations = dict(zip(names, streams, strict=True))
    return Recording(ids, ["x"] * len(ids), lab.config, "small", activations)


def planted(lab, labels, *, seed=0, size=4.0, at=PLANTED):
    """Noise in every layer; at one, each label also adds a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    names = sorted({mark for marks in labels for mark in marks if mark is not None})
    directions = torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q[: len(names)]
    found = []
    for marks in labels:
        streams = [torch.randn(len(marks), 32, generator=generator) for _ in range(3)]
        for token, mark in enumerate(marks):
            if mark is not None:
                streams[at][token] += size * 2 * directions[names.index(mark)]
        found.append(recording(lab, streams))
    return found, dict(zip(names, directions, strict=True))


def random_labels(names=LABELS, *, seed=0):
    rng = random.Random(seed)
    return [[rng.choice(names) for _ in range(N_TOKENS)] for _ in range(N_TEXTS)]


def fit(lab, recordings, labels, **options):
    pytest.importorskip("sklearn")
    return probes.fit(lab, recordings, labels, progress=False, **options)


@pytest.mark.parametrize("names", [LABELS, LABELS[:2], (0, 1, 2, 3)])
def test_a_planted_label_is_found_where_it_is_and_nowhere_else(lab, names):
    labels = random_labels(names)
    recordings, _ = planted(lab, labels)
    found = fit(lab, recordings, labels)
    assert found.labels == names and found.layers == (0, 1, 2)
    assert found.accuracy[PLANTED].value > 0.99
    for layer in (0, 2):
        assert abs(found.accuracy[layer].value - 1 / len(names)) < 0.12
    for control in found.control:
        assert abs(control.value - 1 / len(names)) < 0.12
    assert found.accuracy[0].total == N_TEXTS * N_TOKENS and found.n_groups == N_TEXTS


def test_a_label_that_belongs_to_the_document_is_at_chance(lab):
    """Each document has noise of its own, which gives away its label, but no other's."""
    generator, rng = torch.Generator().manual_seed(1), random.Random(1)
    labels, recordings = [], []
    for number in range(N_TEXTS):
        own = 6 * torch.randn(32, generator=generator)
        streams = [own + torch.randn(N_TOKENS, 32, generator=generator) for _ in range(3)]
        recordings.append(recording(lab, streams))
        labels.append([LABELS[number % 2]] * N_TOKENS)
    found = fit(lab, recordings, labels)
    assert all(0.2 < each.value < 0.8 for each in found.accuracy)
    # The same tokens divided without regard to documents: the leak that held-out groups prevent.
    split = [row for rec in recordings for row in rec["blocks.0.hook_resid_post"]]
    order = rng.sample(range(len(split)), len(split))
    alone = [recording(lab, [split[i][None]] * 3) for i in order]
    marks = [[label] for row in labels for label in row]
    leaky = fit(lab, alone, [marks[i] for i in order], hook="blocks.0.hook_resid_post")
    assert leaky.accuracy[0].value > 0.95


def test_recordings_of_one_group_are_held_out_together(lab):
    """Two halves of each document, which share its noise."""
    generator = torch.Generator().manual_seed(2)
    labels, recordings, groups = [], [], []
    for number in range(N_TEXTS):
        own = 6 * torch.randn(32, generator=generator)
        for _ in range(2):
            recordings.append(recording(lab, [own + torch.randn(9, 32, generator=generator)] * 3))
            labels.append([LABELS[number % 2]] * 9)
            groups.append(f"document {number}")
    hook = "blocks.0.hook_resid_post"
    assert fit(lab, recordings, labels, hook=hook).accuracy[0].value > 0.95
    held_out = fit(lab, recordings, labels, hook=hook, groups=groups)
    assert 0.2 < held_out.accuracy[0].value < 0.8 and held_out.n_groups == N_TEXTS


def test_sparse_probes_use_the_planted_features(lab):
    generator, rng = torch.Generator().manual_seed(3), random.Random(3)
    labels = [[rng.choice(LABELS[:2]) for _ in range(N_TOKENS)] for _ in range(N_TEXTS)]
    recordings = []
    for marks in labels:
        stream = torch.randn(N_TOKENS, 32, generator=generator)
        stream[:, 7] += torch.tensor([6.0 if mark == "dog" else -6.0 for mark in marks])
        recordings.append(recording(lab, [stream] * 3))
    options = {"hook": "blocks.0.hook_resid_post", "strength": 0.05}
    sparse = fit(lab, recordings, labels, sparse=True, **options)
    dense = fit(lab, recordings, labels, **options)
    assert sparse.accuracy[0].value > 0.99
    assert sparse.n_used[0] < 6 and dense.n_used[0] == 32
    assert int(sparse.weights[0, 1].abs().argmax()) == 7 and float(sparse.weights[0, 1, 7]) > 0


def test_weights_give_the_predictions_of_scikit_learn(lab):
    linear_model = pytest.importorskip("sklearn.linear_model")
    labels = random_labels()
    recordings, _ = planted(lab, labels, size=0.7)
    found = fit(lab, recordings, labels, hook="blocks.1.hook_resid_post")
    x = torch.cat([rec["blocks.1.hook_resid_post"] for rec in recordings]).double().numpy()
    centred = (x - x.mean(axis=0)) / x.std(axis=0)
    y = [LABELS.index(label) for marks in labels for label in marks]
    model = linear_model.LogisticRegression(max_iter=3000).fit(centred, y)
    expected = torch.from_numpy(model.decision_function(centred)).float()
    logits = torch.cat([found.logits(rec) for rec in recordings])
    # Softmax ignores what is added to all labels.
    torch.testing.assert_close(
        logits - logits.mean(dim=1, keepdim=True),
        expected - expected.mean(dim=1, keepdim=True),
        atol=1e-3,
        rtol=1e-3,
    )
    predicted = [label for rec in recordings for label in found.predict(rec)]
    assert predicted == [LABELS[i] for i in model.predict(centred)]


def test_a_direction_is_the_mean_difference_along_the_weights(lab):
    labels = random_labels(LABELS[:2])
    recordings, directions = planted(lab, labels, size=1.0)
    found = fit(lab, recordings, labels, strength=0.01)
    hook = found.hooks[PLANTED]
    dog, cat = found.direction("dog", hook=hook), found.direction("cat", hook=hook)
    x = torch.cat([rec[hook] for rec in recordings])
    is_dog = torch.tensor([label == "dog" for marks in labels for label in marks])
    difference = x[is_dog].mean(dim=0) - x[~is_dog].mean(dim=0)
    along = found.weights[PLANTED, 1] / found.weights[PLANTED, 1].norm()
    torch.testing.assert_close(dog, along * (along @ difference), atol=1e-4, rtol=1e-3)
    difference = directions["dog"] - directions["cat"]
    assert float(torch.nn.functional.cosine_similarity(dog, difference, dim=0)) > 0.95
    torch.testing.assert_close(cat, -dog)
    vector = steering.from_direction(lab, dog, layer=PLANTED, made_by="probe of dog")
    assert torch.equal(vector[PLANTED], dog)
    moved = lab.record([5, 6, 7], capture=hook)
    assert lab.record([5, 6, 7], edits=vector, capture=hook)[hook].equal(moved[hook] + dog)


def test_tokens_without_a_label_are_left_out(lab):
    labels = random_labels(LABELS[:2])
    recordings, _ = planted(lab, labels)
    some = [[mark if place % 2 else None for place, mark in enumerate(row)] for row in labels]
    for rec in recordings:  # What is left out cannot matter.
        rec.raw("blocks.0.hook_resid_post")[0] = 1e4
    found = fit(lab, recordings, some)
    assert found.accuracy[0].total == N_TEXTS * (N_TOKENS // 2)
    assert found.accuracy[PLANTED].value > 0.99


def test_the_same_call_gives_the_same_probes(lab):
    labels = random_labels()
    recordings, _ = planted(lab, labels, size=0.5)
    hook = "blocks.1.hook_resid_post"
    one, again = (fit(lab, recordings, labels, hook=hook) for _ in range(2))
    assert one == again
    assert one.chance.value == max(
        sum(row.count(name) for row in labels) / N_TEXTS / N_TOKENS for name in LABELS
    )
    assert len(one.to_pandas()) == 1 and "accuracy" in repr(one)


def test_an_interrupt_returns_the_hooks_that_were_done(lab, monkeypatch):
    labels = random_labels(LABELS[:2])
    recordings, _ = planted(lab, labels)
    done = []

    def interrupted(*args):
        done.append(1)
        if len(done) == 3:  # Accuracy and control of the first hook, then the second.
            raise KeyboardInterrupt
        return 5

    monkeypatch.setattr("qwen3lab.probes.fitting.held_out_hits", interrupted)
    found = fit(lab, recordings, labels)
    assert found.hooks == ("blocks.0.hook_resid_post",) and found.accuracy[0].hits == 5


def refused(lab, labels=None, **options):
    given, _ = planted(lab, random_labels(LABELS[:2]))
    return probes.fit(
        lab, given, random_labels(LABELS[:2]) if labels is None else labels, **options
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": []}, "24 recordings, 0 lists of labels and 24 groups"),
        ({"groups": [1]}, "24 lists of labels and 1 groups"),
        ({"labels": [["cat"]] * N_TEXTS}, "recording 0 has 15 tokens and 1 labels"),
        ({"labels": [["cat"] * N_TOKENS] * N_TEXTS}, "the tokens have 1 label: expected two"),
        ({"labels": [[None] * N_TOKENS] * N_TEXTS}, "the tokens have 0 labels"),
        (
            {"labels": [["dog"] * N_TOKENS, *[["cat"] * N_TOKENS] * (N_TEXTS - 1)]},
            "label 'dog' occurs in one group only",
        ),
        ({"groups": ["one"] * N_TEXTS}, "occurs in one group only"),
        ({"labels": [[["a"]] * N_TOKENS] * N_TEXTS}, "is of type list: expected text"),
        ({"n_folds": 1}, "n_folds is 1: expected 2 or more"),
        ({"strength": 0.0}, "strength is 0.0: expected"),
    ],
)
def test_labels_that_cannot_be_probed_are_refused(lab, change, message):
    with pytest.raises(ValueError, match=message):
        refused(lab, **change)


def test_hooks_that_cannot_be_probed_are_refused(lab):
    with pytest.raises(HookError, match="no hook of this model matches"):
        refused(lab, hook="blocks.0.nothing")
    with pytest.raises(RecordingError, match=r"record with capture='blocks\.0\.hook_mlp_out'"):
        refused(lab, hook="blocks.0.hook_mlp_out")
    labels = [["cat", "dog", "cat"]] * 4
    recordings = [lab.record([5, 6, 7], capture="*") for _ in range(4)]
    with pytest.raises(HookError, match="expected one vector for each token"):
        probes.fit(lab, recordings, labels, hook="blocks.0.attn.hook_z")
    with pytest.raises(HookError, match="the hooks have 32 and 48 features"):
        probes.fit(
            lab, recordings, labels, hook=["blocks.0.hook_mlp_out", "blocks.0.mlp.hook_post"]
        )


def test_a_label_or_hook_that_has_no_probe_is_refused(lab):
    labels = random_labels(LABELS[:2])
    recordings, _ = planted(lab, labels)
    found = fit(
        lab, recordings, labels, hook=["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    )
    with pytest.raises(ValueError, match="there is no label 'bee': choose from 'cat', 'dog'"):
        found.direction("bee", hook=found.hooks[0])
    with pytest.raises(HookError, match=r"choose hook= from blocks\.0\.hook_resid_post, "):
        found.predict(recordings[0])
