"""Exercises on routing: what they teach is true of the shipped mixture of experts."""

import pytest
import torch

from qwen3lab import exercises, tiny
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.experiments.effects import Text
from qwen3lab.interventions import rerouting


@pytest.fixture(scope="module")
def rec(moe):
    options = {"sampling": moe.suggested.sampling, "seed": 0}
    return moe.chat(moe.suggested.questions[0], record=True, **options).recording


@pytest.fixture(scope="module")
def held_out(moe):
    return tiny.texts(moe.tokenizer, n=moe.suggested.texts)


@pytest.fixture(scope="module")
def recordings(moe, held_out):
    return [moe.record(text.token_ids) for text in held_out]


def chosen(rec, layer):
    return torch.as_tensor(rec.routing.layer(layer).experts).flatten().tolist()


def test_the_busiest_expert_of_the_next_layer_is_another_than_that_of_the_map(rec):
    most = {layer: max(range(16), key=chosen(rec, layer).count) for layer in (3, 4)}
    assert most[3] != most[4]
    assert exercises.busiest_expert(rec, 4, most[4], shown=3).solved is True
    shown = exercises.busiest_expert(rec, 4, most[3], shown=3)
    assert shown.solved is False and "busiest one of layer 3" in shown.reason
    weights = [0.0] * 16
    for expert, weight in zip(
        chosen(rec, 4), rec.routing.layer(4).weights.flatten().tolist(), strict=True
    ):
        weights[expert] += weight
    heaviest = weights.index(max(weights))
    assert heaviest != most[4]
    said = exercises.busiest_expert(rec, 4, heaviest, shown=3).reason
    assert "count the tokens instead" in said


def test_the_surest_router_has_the_lowest_entropy(rec):
    entropy = []
    for layer in range(6):
        shares = torch.softmax(torch.as_tensor(rec.routing.layer(layer).logits), dim=-1)
        entropy.append(float(-(shares * shares.log()).sum(dim=-1).mean()))
    best, worst = entropy.index(min(entropy)), entropy.index(max(entropy))
    assert exercises.surest_router(rec, best).solved is True
    assert "uncertain" in exercises.surest_router(rec, worst).reason
    assert "choose from" in exercises.surest_router(rec, 6).reason
    assert f"Layer {best}." in exercises.surest_router(rec, None, hint=3).reason


def test_the_specialist_for_programs_is_not_the_expert_with_the_largest_share(
    moe, held_out, recordings
):
    families = RoutingCorpus(moe.config)
    for text, recording in zip(held_out, recordings, strict=True):
        families.add(recording, text.family)
    table = families.to_pandas()
    rows = table[(table.layer == 3) & (table.group == "code")].set_index("expert")
    best, largest = int(rows.npmi.idxmax()), int(rows.share.idxmax())
    assert best != largest
    assert exercises.specialist(families, "code", 3, best).solved is True
    assert "largest share of code" in exercises.specialist(families, "code", 3, largest).reason


def test_partners_are_read_along_the_row(recordings):
    first = torch.cat([torch.as_tensor(each.routing.layer(0).experts) for each in recordings])
    together = [
        sum(1 for row in first.tolist() if 3 in row and other in row and other != 3)
        for other in range(16)
    ]
    best = together.index(max(together))
    assert exercises.partner(first, 16, 3, best).solved is True
    assert "the expert itself" in exercises.partner(first, 16, 3, 3).reason
    assert "0 to 15" in exercises.partner(first, 16, 3, 16).reason


def test_the_column_of_a_partner_is_told_from_its_row():
    # Expert 0 is chosen with 1 most, but all tokens of expert 2 go to expert 0.
    experts = torch.tensor([[0, 1], [0, 1], [0, 1], [1, 3], [0, 2]])
    assert exercises.partner(experts, 4, 0, 1).solved is True
    assert "you read the column" in exercises.partner(experts, 4, 0, 2).reason


def test_an_expert_of_the_first_layer_hurts_programs_most(moe, held_out):
    texts = [Text(text.family, text.token_ids, text.known) for text in held_out[::2]]
    assert exercises.hurts_most(moe, texts, "code", rerouting.off(1, layers=0)).solved is True
    other = exercises.hurts_most(moe, texts, "code", rerouting.top_k(1))
    assert other.solved is False and other.reason.startswith("The loss of code rises by")
