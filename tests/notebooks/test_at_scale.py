"""What notebook 06 says about `tiny-moe` is true of the corpus that it records."""

import pytest
import torch

import qwen3lab
from qwen3lab import corpus, exercises, tiny
from qwen3lab.experiments.effects import Text
from qwen3lab.experiments.merging import merging_curve
from qwen3lab.experiments.pruning import pruning_curve

pytestmark = pytest.mark.slow
LABELS = {"label": ("family", "shuffled family"), "token_label": "role", "cross": True}


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


@pytest.fixture(scope="module")
def run(lab, tmp_path_factory):
    rows = tiny.corpus_rows(lab.tokenizer, n=200)
    assert 90_000 < sum(len(row["text"]) for row in rows) < 110_000
    kept = {"keep": ("counts", "saliency"), "out": tmp_path_factory.mktemp("scale") / "run"}
    return corpus.record(rows, model=lab, progress=False, **LABELS, **kept)


@pytest.fixture(scope="module")
def found(run):
    return corpus.topic_and_type(run, topic="family", kind="role")


def test_first_layers_have_experts_of_running_values_operators_names_and_verbs(run):
    atlas = corpus.atlas(run, columns=("role",))
    best = [entry.best("role").label for place, entry in atlas.experts.items() if place[0] <= 1]
    assert best.count("running value") >= 3
    assert {"operator", "name", "verb"} <= set(best)


def test_the_best_role_of_every_expert_is_less_than_40_percent_of_its_tokens(run):
    names, slots, _ = corpus.slots_of(run, "role")
    for entry in corpus.atlas(run, columns=("role",)).experts.values():
        own = slots[run.config.moe_layers.index(entry.layer), :, entry.expert]
        assert own[names.index(entry.best("role").label)] / own.sum() < 0.4


def test_three_experts_of_the_first_layer_share_their_tokens_which_are_digits(run):
    together = run.co_activation(0).float()
    shares = together / together.diagonal()[:, None]
    group = (0, 7, 14)
    assert min(float(shares[a, b]) for a in group for b in group) > 0.7
    others = [float(shares[7, e]) for e in range(16) if e not in group]
    assert max(others) < 0.5
    for expert in group:
        assert sum(text.isdigit() for text in run.tokens(0, expert).text.head(5)) >= 4


def test_the_type_tells_several_times_more_than_the_topic_in_every_layer(found):
    assert bool((found.type_within_topic > 2.8 * found.topic_within_type).all())
    assert bool((found.topic > found.topic_within_type).all())
    lost = found.topic - found.topic_within_type
    assert bool((lost[:3] > found.topic_within_type[:3]).all())


def test_topic_is_far_above_shuffled_families(run, found):
    chance = corpus.topic_and_type(run, topic="shuffled family", kind="role")
    assert bool((found.topic_within_type > 5 * chance.topic_within_type).all())


def test_reap_is_better_than_usage_and_than_every_random_choice(lab, run):
    held_out = tiny.texts(lab.tokenizer, n=4, seed=2)
    texts = [Text(text.family, text.token_ids, text.known) for text in held_out]
    scores = corpus.expert_scores(run)
    chosen_by = {"REAP": scores.reap, "usage": scores.slots.float()}
    curve = pruning_curve(lab, chosen_by, texts, shares=(1, 0.75, 0.5, 0.25), progress=False)
    loss = curve.to_pandas().groupby(["n_experts", "score", "seed"]).value.mean()
    merged = merging_curve(
        lab, {"REAP": scores.reap}, texts, similar_on=texts, shares=(0.5,), progress=False
    )
    assert merged.to_pandas().value.mean() > loss[8, "REAP", 0]
    for n in (12, 8, 4):
        assert loss[n, "REAP", 0] < loss[n, "usage", 0]
        assert loss[n, "REAP", 0] < loss[n, "random"].min()
    assert loss[12, "usage", 0] > 0.8 * loss[12, "random"].mean()
    fine = pruning_curve(
        lab, {"REAP": scores.reap}, texts, shares=(0.875, 0.75, 0.625, 0.5), n_random=0
    )
    solved = [
        n for n in (14, 12, 10, 8) if exercises.experts_needed(fine, "REAP", n, most=0.3).solved
    ]
    assert len(solved) == 1
    names, slots, _ = corpus.slots_of(run, "family")
    answer = slots[:, names.index("arithmetic")]
    assert exercises.best_half_for(lab, texts, "arithmetic", scores.reap, answer).solved
    assert not exercises.best_half_for(lab, texts, "arithmetic", scores.reap, scores.weight).solved


def test_the_exercises_have_answers_that_are_not_the_first_guess(run, found):
    assert exercises.expert_of_label(run, 0, "role", "operator", 1).solved
    assert exercises.nearest_expert(run, 0, 12, 2).solved
    assert not exercises.nearest_expert(run, 0, 12, 11).solved  # The largest share.
    assert exercises.layer_of_topic(found, 5).solved
    assert not exercises.layer_of_topic(found, int(torch.argmax(found.topic))).solved


def test_outputs_of_the_last_layer_are_longer_than_those_of_the_others(run):
    norms = corpus.expert_scores(run).norm.mean(dim=1)
    assert int(norms.argmax()) == len(norms) - 1
