"""Scores of experts, compared with recordings of each text alone."""

import numpy as np
import pytest
import torch

from qwen3lab import corpus
from qwen3lab.analysis.expert_output import NEEDED, extreme_experts
from qwen3lab.errors import CorpusError
from tests.corpus.texts import GOOD, ROWS


def record(lab, out, **options):
    defaults = {"label": "kind", "part_rows": 3, "progress": False}
    return corpus.record(ROWS, model=lab, out=out, **(defaults | options))


@pytest.fixture(scope="module")
def run(tiny_lab, tmp_path_factory):
    out = tmp_path_factory.mktemp("scores") / "run"
    return record(tiny_lab, out, keep=("counts", "saliency"))


@pytest.fixture(scope="module")
def alone(tiny_lab):
    return [tiny_lab.record(row["text"], capture=NEEDED) for row in GOOD]


def slots_of(recordings, layer, expert):
    """Weight and output of each slot of an expert."""
    for rec in recordings:
        routing = rec.routing.layer(layer)
        out = rec[f"blocks.{layer}.mlp.hook_expert_out"].double().numpy()
        for token, rank in np.argwhere(routing.experts.numpy() == expert):
            yield float(routing.weights[token, rank]), out[token, rank]


def test_scores_are_means_over_the_slots_of_each_text_recorded_alone(run, alone):
    scores = corpus.expert_scores(run)
    for row, layer in enumerate(scores.layers):
        for expert in range(run.config.n_experts):
            slots = list(slots_of(alone, layer, expert))
            assert int(scores.slots[row, expert]) == len(slots)
            if not slots:
                assert float(scores.reap[row, expert]) == 0
                continue
            norms = [float(np.sqrt((f * f).sum())) for _, f in slots]
            expected = {
                "weight": np.mean([g for g, _ in slots]),
                "norm": np.mean(norms),
                "reap": np.mean([g * norm for (g, _), norm in zip(slots, norms, strict=True)]),
                "largest": max(np.abs(f).max() for _, f in slots),
            }
            for name, value in expected.items():
                assert float(getattr(scores, name)[row, expert]) == pytest.approx(value, rel=1e-4)


def test_super_experts_are_those_of_the_recordings(run, alone):
    scores = corpus.expert_scores(run)
    extremes = extreme_experts(alone)
    assert scores.super_experts == extremes.outliers
    torch.testing.assert_close(scores.largest, extremes.largest, rtol=1e-4, atol=1e-4)
    assert list(scores.to_pandas().columns[:3]) == ["layer", "expert", "slots"]


def test_counts_do_not_depend_on_whether_saliency_is_kept(run, tiny_lab, tmp_path):
    bare = record(tiny_lab, tmp_path / "run")
    assert bare.counts.slots.equals(run.counts.slots)
    with pytest.raises(CorpusError, match="kept no saliency"):
        corpus.expert_scores(bare)


def rate(recordings, row, expert):
    chosen = torch.cat([rec.routing.experts[row] for rec in recordings])
    return float((chosen == expert).any(dim=1).double().mean())


def test_the_difference_of_routing_is_that_of_the_rates_of_two_labels(run, alone):
    found = corpus.routing_difference(run, labels=("sum", "product"))
    groups = {
        kind: [rec for rec, row in zip(alone, GOOD, strict=True) if row["kind"] == kind]
        for kind in ("sum", "product")
    }
    for row in range(len(found.layers)):
        for expert in range(run.config.n_experts):
            expected = rate(groups["sum"], row, expert) - rate(groups["product"], row, expert)
            assert float(found.difference[row, expert]) == pytest.approx(expected, abs=1e-6)
    table = found.to_pandas()
    assert table.difference.abs().is_monotonic_decreasing
    assert list(table.columns) == ["layer", "expert", "sum", "product", "difference"]


def test_two_corpora_are_compared_by_all_of_their_tokens(run, tiny_lab, alone, tmp_path):
    other = corpus.record(["2*2=?"], model=tiny_lab, out=tmp_path / "run", progress=False)
    found = corpus.routing_difference(run, other)
    second = [tiny_lab.record("2*2=?")]
    for expert in range(run.config.n_experts):
        expected = rate(alone, 0, expert) - rate(second, 0, expert)
        assert float(found.difference[0, expert]) == pytest.approx(expected, abs=1e-6)


def test_what_cannot_be_compared_is_refused(run):
    with pytest.raises(CorpusError, match="one corpus and no labels"):
        corpus.routing_difference(run)
    with pytest.raises(CorpusError, match="no label 'essay': the labels are chat, product, sum"):
        corpus.routing_difference(run, labels=("sum", "essay"))
