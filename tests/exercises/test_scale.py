"""Exercises at scale accept the right answer only, and say what is wrong with others."""

import pytest
import torch

from qwen3lab import corpus, exercises, tiny
from qwen3lab.analysis.topic_and_type import TopicAndType
from qwen3lab.experiments.effects import Text
from qwen3lab.experiments.pruning import PruningCurve, PruningPoint

FOUND = TopicAndType(
    (0, 1, 3),
    ("family", "role"),
    torch.tensor([0.5, 0.1, 0.3]),
    torch.ones(3),
    torch.tensor([0.1, 0.2, 0.05]),
    torch.ones(3),
)
LOSSES = {16: 0.0, 12: 0.25, 8: 0.5}
CURVE = PruningCurve(
    tuple(PruningPoint("REAP", 0, n, n / 16, {"a": x, "b": x}, {}) for n, x in LOSSES.items())
)


@pytest.fixture(scope="module")
def run(tiny_lab, tmp_path_factory):
    rows = tiny.corpus_rows(tiny_lab.tokenizer, n=3)
    out = tmp_path_factory.mktemp("exercises") / "run"
    options = {"label": "family", "token_label": "role", "progress": False}
    return corpus.record(rows, model=tiny_lab, out=out, **options)


def right(check) -> list[int]:
    """The answers that a check accepts."""
    return [answer for answer in range(-1, 17) if check(answer).solved]


def test_the_expert_of_a_label_has_the_largest_npmi_of_the_table(run):
    table = run.counts.query("column == 'role' and label == 'operator' and layer == 0")
    best = int(table.set_index("expert").npmi.idxmax())
    found = right(lambda answer: exercises.expert_of_label(run, 0, "role", "operator", answer))
    assert found == [best]
    busiest = int(run.load()[0].argmax())
    said = exercises.expert_of_label(run, 0, "role", "operator", busiest).reason
    assert "highest load" in said
    said = exercises.expert_of_label(run, 0, "role", "operator", 99).reason
    assert said == "Expert 99 does not exist: there are experts 0 to 15."
    assert exercises.expert_of_label(run, 0, "role", "operator", None).solved is None


def test_the_nearest_expert_is_the_one_above_its_usual_share(run):
    together = run.co_activation(0).double()
    shares = together[12] / together[12, 12]
    above = shares - together.diagonal() / run.total("routed")
    above[12] = shares[12] = -1
    found = right(lambda answer: exercises.nearest_expert(run, 0, 12, answer))
    assert found == [int(above.argmax())]
    if int(shares.argmax()) != int(above.argmax()):
        said = exercises.nearest_expert(run, 0, 12, int(shares.argmax())).reason
        assert "many tokens of every expert" in said
    assert "the expert itself" in exercises.nearest_expert(run, 0, 12, 12).reason
    hinted = exercises.nearest_expert(run, 0, 12, None, hint=3).reason
    assert str(int(above.argmax())) in hinted


def test_the_layer_of_topic_leads_while_the_type_is_known():
    assert right(lambda answer: exercises.layer_of_topic(FOUND, answer)) == [1]
    said = exercises.layer_of_topic(FOUND, 0).reason
    assert "as long as the role is not taken into account" in said
    said = exercises.layer_of_topic(FOUND, 2).reason
    assert said == "Layer 2 has no experts: those with experts are 0, 1, 3."


def test_the_fewest_experts_below_the_limit_are_needed():
    def check(answer):
        return exercises.experts_needed(CURVE, "REAP", answer, most=0.3)

    assert right(check) == [12]
    assert "fewer are enough" in check(16).reason
    assert "above 0.3: more experts must stay" in check(8).reason
    assert check(5).reason == "5 is not a number of this curve: choose from 8, 12, 16."
    assert check("many").solved is False


def test_the_best_half_has_a_lower_loss_than_the_usual_one(tiny_lab):
    layers, n = len(tiny_lab.config.moe_layers), tiny_lab.config.n_experts
    held_out = tiny.texts(tiny_lab.tokenizer, n=1, families=["arithmetic"], seed=2)
    texts = [Text(text.family, text.token_ids, text.known) for text in held_out]
    rec = tiny_lab.record(texts[0].token_ids)
    needed = torch.stack([torch.bincount(e.flatten(), minlength=n) for e in rec.routing.experts])
    worst = -needed.float()

    def check(answer):
        return exercises.best_half_for(tiny_lab, texts, "arithmetic", worst, answer)

    assert check(needed).solved
    assert check(worst).solved is False
    assert "these are the usual scores" in check(worst).reason
    for wrong in ("all", torch.ones(layers, 2), torch.full((layers, n), torch.nan)):
        said = check(wrong).reason
        assert said == f"These are no scores: give a tensor of {layers} layers and {n} experts."
