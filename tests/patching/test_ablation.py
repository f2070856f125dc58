"""Ablations equal recorded runs in which a part is replaced by hand."""

import pytest
import torch

from qwen3lab import patching
from qwen3lab.interventions import rerouting
from tests.patching.planted import CLEAN, CORRUPT, read_with, small_lab

METRIC = patching.log_probability(20)
CORPUS = [[1, 2, 3], CORRUPT, [40, 41]]
N = len(CLEAN)


@pytest.fixture(scope="module")
def moe(tiny_tokenizer):
    return small_lab(tiny_tokenizer, experts=True)


def ablated(lab, site, how="zero", **options):
    given = {"metric": METRIC, "corpus": None if how == "zero" else CORPUS, "progress": False}
    return patching.ablate(lab, CLEAN, site=site, how=how, **(given | options))


def everywhere(lab, hook):
    """The activation of a hook at all tokens of the corpus."""
    return torch.cat([lab.record(ids, capture="all")[hook] for ids in CORPUS])


def test_a_zeroed_head_writes_nothing(moe):
    found = ablated(moe, "z")
    for layer, head in ((0, 1), (2, 3)):

        def edit(value, name, head=head):
            value[:, :, head] = 0
            return value

        expected = read_with(moe, CLEAN, {f"blocks.{layer}.attn.hook_z": edit}, METRIC)
        assert float(found.raw[layer, head]) == pytest.approx(expected, abs=2e-5)
        assert float(found.values[layer, head]) == pytest.approx(expected - found.start, abs=4e-5)
    assert found.start == pytest.approx(read_with(moe, CLEAN, {}, METRIC), abs=1e-5)


@pytest.mark.parametrize(
    ("site", "hook", "index"),
    [
        ("mlp_out", "hook_mlp_out", (slice(None), 4)),
        ("attn_out", "hook_attn_out", (slice(None), 0)),
    ],
)
def test_the_mean_is_over_all_tokens_of_the_corpus(moe, site, hook, index):
    found = ablated(moe, site, "mean")
    mean = everywhere(moe, f"blocks.1.{hook}").mean(dim=0)

    def edit(value, name):
        value[index] = mean
        return value

    expected = read_with(moe, CLEAN, {f"blocks.1.{hook}": edit}, METRIC)
    assert float(found.raw[1, index[1]]) == pytest.approx(expected, abs=2e-5)


def test_the_mean_of_a_neuron_is_put_at_every_token(moe):
    found = ablated(moe, "neuron", "mean", layers=[0])
    mean = everywhere(moe, "blocks.0.mlp.hook_post")[:, 5].mean()

    def edit(value, name):
        value[:, :, 5] = mean
        return value

    expected = read_with(moe, CLEAN, {"blocks.0.mlp.hook_post": edit}, METRIC)
    assert float(found.raw[0, 5]) == pytest.approx(expected, abs=2e-5)


def test_resampled_values_are_those_of_tokens_of_the_corpus(moe):
    corpus = [[7]]  # One token: it is drawn at every position.
    found = ablated(moe, "v", "resample", corpus=corpus, by="token")
    theirs = moe.record([7], capture="all")["blocks.1.attn.hook_v"][0, 1]

    def edit(value, name):
        value[0, 3, 1] = theirs
        return value

    expected = read_with(moe, CLEAN, {"blocks.1.attn.hook_v": edit}, METRIC)
    assert float(found.raw[1, 1, 3]) == pytest.approx(expected, abs=2e-5)


def test_resampling_depends_on_the_seed_alone(moe):
    one, same, other = (ablated(moe, "z", "resample", seed=seed) for seed in (1, 1, 2))
    assert one == same and one != other


def contributions(lab, layer, ids):
    """What each expert adds at each token: [token, expert, d_model]."""
    rec = lab.record(ids, capture="all")
    name = f"blocks.{layer}.mlp"
    result = torch.zeros(len(ids), 8, lab.config.d_model)
    for token in range(len(ids)):
        for slot, expert in enumerate(rec[f"{name}.hook_expert_indices"][token].tolist()):
            weight = rec[f"{name}.hook_expert_weights"][token, slot]
            result[token, expert] += weight * rec[f"{name}.hook_expert_out"][token, slot]
    return result


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_an_expert_adds_nothing_or_its_mean(moe, how):
    found = ablated(moe, "expert", how)
    mine = contributions(moe, 1, CLEAN)
    mean = torch.cat([contributions(moe, 1, ids) for ids in CORPUS]).mean(dim=0)
    for expert in range(8):
        target = 0 if how == "zero" else mean[expert]

        def edit(value, name, expert=expert, target=target):
            return value + (target - mine[:, expert])

        expected = read_with(moe, CLEAN, {"blocks.1.hook_mlp_out": edit}, METRIC)
        assert float(found.raw[0, expert]) == pytest.approx(expected, abs=3e-5)


def test_the_mean_weight_counts_tokens_without_the_expert_as_zero(moe):
    found = ablated(moe, "expert_weight", "mean", by="expert")
    rec = moe.record(CLEAN)
    chosen = rec.routing.layer(2).experts
    expert = int(chosen[-1, 0])
    total = sum(
        float(weight)
        for ids in CORPUS
        for row in [moe.record(ids).routing.layer(2)]
        for each, weight in zip(row.experts.flatten(), row.weights.flatten(), strict=True)
        if int(each) == expert
    )
    mean = total / sum(map(len, CORPUS))

    def edit(value, name):
        return torch.where(chosen[None] == expert, torch.tensor(mean), value)

    expected = read_with(moe, CLEAN, {"blocks.2.mlp.hook_expert_weights": edit}, METRIC)
    assert float(found.raw[1, expert]) == pytest.approx(expected, abs=2e-5)


def test_an_expert_that_is_never_chosen_is_not_run_and_changes_nothing(moe):
    chosen = moe.record(CLEAN).routing.layer(1).experts
    idle = [expert for expert in range(8) if not (chosen == expert).any()]
    assert idle
    assert (ablated(moe, "expert").values[0, idle] == 0).all()
    off = moe.record(CLEAN, edits=rerouting.off(idle[0], layers=1)).logits
    torch.testing.assert_close(off, moe.record(CLEAN).logits, atol=1e-5, rtol=0)


def test_a_zeroed_pattern_is_a_zeroed_head(moe):
    torch.testing.assert_close(
        ablated(moe, "pattern").raw, ablated(moe, "z").raw, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "median"}, "there is no ablation 'median': choose from zero, mean, resample"),
        ({"site": "expert_choice"}, "site 'expert_choice' is not ablated"),
        ({"site": "pattern", "how": "mean"}, "a pattern has no mean"),
        ({"how": "mean", "corpus": None}, "mean ablation needs a corpus"),
        ({"layers": [7]}, "layer 7 does not exist"),
        ({"metric": patching.logit(5, position=6)}, "position 6 does not exist"),
    ],
)
def test_what_does_not_fit_is_refused(moe, options, message):
    with pytest.raises(ValueError, match=message):
        ablated(moe, **({"site": "z"} | options))


def test_the_summary_names_the_kind_and_the_metric(moe):
    line = repr(ablated(moe, "z", "mean"))
    assert line.startswith("Mean ablation: site z, by layer, head, metric log probability of")
