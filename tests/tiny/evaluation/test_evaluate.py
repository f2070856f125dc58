import json
from dataclasses import replace

import pytest

import qwen3lab
from qwen3lab.analysis.proportions import Share
from qwen3lab.errors import CheckpointError
from qwen3lab.tiny.evaluation.card import card_text, write_card
from qwen3lab.tiny.evaluation.evaluate import BUDGETS, evaluate
from qwen3lab.tiny.evaluation.targets import targets
from qwen3lab.tiny.pipeline import measure
from qwen3lab.tiny.world.families import FAMILIES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-moe", device="cpu")


@pytest.fixture(scope="module")
def found(lab):
    return evaluate(lab, n=3, n_mixed=12, seed=3, progress=False)


def test_every_family_length_and_budget_is_measured(found):
    thinkers = {name: family for name, family in FAMILIES.items() if family.thinks}
    assert set(found.thinking) == set(found.at_once) == set(thinkers)
    for name, family in thinkers.items():
        assert list(found.thinking[name]) == list(range(family.least, family.most + 1))
        assert all(share.total == 3 for share in found.at_once[name].values())
    assert set(found.questions) == set(FAMILIES) - set(thinkers)
    assert set(found.surplus) == set(FAMILIES)
    assert tuple(found.by_budget) == BUDGETS
    assert all(share.total == 12 for share in found.by_budget.values())
    assert [head.kind for head in found.heads] == [
        "previous token",
        "duplicate token",
        "induction",
        "look-up",
    ]


def test_the_accuracies_are_those_of_the_embedded_model(found):
    # With thinking, the embedded model solves nearly all of the 36 problems.
    by_steps = found.thinking["arithmetic"]
    assert sum(by_steps[steps].hits for steps in range(1, 13)) >= 33
    assert found.by_budget[0].hits < found.by_budget[BUDGETS[-1]].hits
    assert found.surplus["arithmetic"] < 0.1


def test_loads_are_relative_to_uniform_load(lab, found):
    assert len(found.least_load) == len(found.information) == len(lab.config.moe_layers)
    assert all(
        0 <= least <= 1 <= most <= lab.config.n_experts
        for least, most in zip(found.least_load, found.most_load, strict=True)
    )


def test_a_card_shows_the_measurements_and_the_missed_targets(lab, found, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(lab.config.to_dict()))
    worse = {**found.thinking, "swaps": {**found.thinking["swaps"], 6: Share(1, 3)}}
    missed = replace(found, thinking=worse)
    write_card(tmp_path, missed)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    twelve = found.thinking["arithmetic"][12]
    assert f"| 12 | {twelve} | {found.at_once['arithmetic'][12]} |" in text
    row = f"accuracy with thinking, swaps of 6 steps | {Share(1, 3)} | at least 0.95 | no |"
    assert row in text
    assert f"| {BUDGETS[-1]} | {found.by_budget[BUDGETS[-1]]} |" in text
    assert "contains no training log" in text
    numbers = json.loads((tmp_path / "card.json").read_text())
    assert numbers["thinking"]["arithmetic"]["12"]["total"] == 3
    assert len(numbers["targets"]) == len(targets(missed))
    assert card_text(missed, tmp_path) == text


def test_a_dense_model_has_no_targets_for_experts(found):
    dense = replace(found, least_load=[], most_load=[], information=[])
    kinds = {target.behaviour for target in targets(found)}
    assert kinds - {target.behaviour for target in targets(dense)} == {
        "all experts are used",
        "experts specialise",
    }


def test_an_unknown_model_is_an_error():
    with pytest.raises(CheckpointError, match="neither a folder nor an embedded model"):
        measure("./none")
