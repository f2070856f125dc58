import json

import pytest

import qwen3lab
from qwen3lab.checkpoint import CheckpointError
from qwen3lab.tiny.card import card_text, write_card
from qwen3lab.tiny.evaluate import BUDGETS, Share, evaluate
from qwen3lab.tiny.training import measure


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


@pytest.fixture(scope="module")
def found(lab):
    return evaluate(lab, n=4, n_mixed=12, seed=3, progress=False)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # scipy.stats.binomtest(hits, total).proportion_ci(0.95, "wilson")
        (8, 10, 0.49016, 0.94331),
        (0, 20, 0.0, 0.16113),
        (20, 20, 0.83887, 1.0),
        (81, 263, 0.25527, 0.36621),
    ],
)
def test_intervals_are_wilsons(hits, total, low, high):
    assert Share(hits, total).interval == pytest.approx((low, high), abs=1e-4)


def test_every_length_and_budget_is_measured(found):
    assert list(found.thinking) == list(found.at_once) == list(range(1, 13))
    assert tuple(found.by_budget) == BUDGETS
    assert all(share.total == 4 for share in found.thinking.values())
    assert all(share.total == 12 for share in found.by_budget.values())
    assert found.stopped.total == 48


def test_what_is_measured_is_what_the_model_does(lab, found):
    # The embedded model solves by thinking, and so the count must be nearly full.
    assert sum(share.hits for share in found.thinking.values()) >= 46
    assert found.by_budget[0].hits < found.by_budget[BUDGETS[-1]].hits


def test_loads_are_shares_of_uniform(lab, found):
    assert len(found.least_load) == len(lab.config.moe_layers)
    assert all(
        0 <= least <= 1 <= most <= lab.config.n_experts
        for least, most in zip(found.least_load, found.most_load, strict=True)
    )


def test_a_card_says_what_was_measured(lab, found, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(lab.config.to_dict()))
    write_card(tmp_path, found)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"| 12 | {found.thinking[12]} | {found.at_once[12]} |" in text
    assert f"| {BUDGETS[-1]} | {found.by_budget[BUDGETS[-1]]} |" in text
    assert "There is no training log" in text
    numbers = json.loads((tmp_path / "card.json").read_text())
    assert numbers["thinking"]["12"]["total"] == 4
    assert card_text(found, tmp_path) == text


def test_an_unknown_model_is_refused():
    with pytest.raises(CheckpointError, match="neither a folder nor an embedded model"):
        measure("./none")
