"""The embedded models: they load here and in transformers, and behave as their cards say."""

import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import qwen3lab
from qwen3lab import Sampling, tiny
from qwen3lab.analysis.proportions import Share
from qwen3lab.checkpoints.embedded import EMBEDDED, early_revisions, embedded_models
from qwen3lab.errors import CheckpointError
from qwen3lab.tiny import read_card
from qwen3lab.tiny.evaluation.card import card_text
from qwen3lab.tiny.evaluation.evaluate import Evaluation
from qwen3lab.tiny.evaluation.targets import targets
from qwen3lab.tiny.training.recipes import RECIPES

GREEDY = Sampling.greedy()
QUESTIONS = (
    "7+2*3=?",
    "Ann has the key. Ben has the ball. Eva has the cup. Ann and Ben swap. What does Ben have?",
    "小明拿着球。小红拿着书。小刚拿着灯。小明和小红交换。小红拿着什么？",
)


@pytest.fixture(scope="module", params=embedded_models())
def lab(request):
    return qwen3lab.load(request.param, device="cpu")


def held_out(family, n, steps):
    return [problem for k in steps for problem in tiny.problems(family, n=n, steps=k, seed=99)]


def share(lab, asked, **options):
    replies = lab.chat_batch([p.question for p in asked], sampling=GREEDY, **options)
    right = [p.grade(reply.answer) for p, reply in zip(asked, replies, strict=True)]
    return sum(right) / len(right)


def test_every_recipe_has_an_embedded_model():
    assert set(embedded_models()) == set(RECIPES)


@pytest.mark.parametrize(("name", "most"), [("tiny-dense", 3e6), ("tiny-moe", 8e6)])
def test_a_model_is_small(name, most):
    assert (EMBEDDED / name / "model.safetensors").stat().st_size < most


def test_all_embedded_models_with_all_revisions_fit_into_a_wheel():
    """A package index takes files of up to 100 MB; weights hardly shrink by compression."""
    files = [path for path in EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60 * 2**20


@pytest.mark.parametrize(
    ("name", "revision"),
    [(name, revision) for name in embedded_models() for revision in tiny.revisions(name)],
)
def test_revisions_give_the_same_logits_in_transformers(name, revision):
    lab = qwen3lab.load(name, revision=revision, device="cpu")
    assert lab.name == f"{name}@{revision}"
    folder = EMBEDDED / name / revision
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder)(" tree king moon tree", return_tensors="pt")
    with torch.no_grad():
        expected = hf(**ids).logits[0]
    found = lab.record(" tree king moon tree").logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", embedded_models())
@pytest.mark.parametrize("revision", ["step3", "../tiny-moe", "main"])
def test_a_revision_that_does_not_ship_is_an_error(name, revision):
    with pytest.raises(CheckpointError, match="choose from step"):
        qwen3lab.load(name, revision=revision)


@pytest.mark.parametrize("name", embedded_models())
def test_the_first_edition_ships_as_a_revision(name):
    """It knows arithmetic modulo 10, and its card has fewer measurements."""
    lab = qwen3lab.load(name, revision="v1", device="cpu")
    assert lab.chat("3+2*7-1=?", sampling=GREEDY).answer == "④"
    card = read_card(name, revision="v1")
    assert card.thinking["arithmetic"][12].value > 0.97 and card.first == []


@pytest.mark.parametrize("name", embedded_models())
def test_both_models_have_early_revisions_of_this_edition(name):
    assert early_revisions(name) == [f"step{step}" for step in RECIPES[name].early] != []


@pytest.mark.parametrize("question", QUESTIONS)
def test_transformers_gives_the_same_logits_and_replies(lab, question):
    folder = EMBEDDED / lab.name
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == lab.token_ids(messages)
    with torch.no_grad():
        expected = hf(torch.tensor([ids])).logits[0]
        out = hf.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False)
    torch.testing.assert_close(lab.record(messages).logits, expected, atol=1e-4, rtol=1e-5)
    written = lab.chat(messages, sampling=GREEDY, max_new_tokens=60).token_ids
    assert written == out[0, len(ids) :].tolist()


def test_the_config_of_a_model_is_that_of_its_recipe(lab):
    config = lab.config
    assert config == RECIPES[lab.name].config
    assert config.n_kv_heads < config.n_heads and config.tied_embeddings
    if config.is_moe:
        assert config.n_layers >= 4
        assert (config.n_experts, config.n_experts_per_token) == (16, 4)
        assert config.moe_layers == tuple(range(config.n_layers))


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("family", ["arithmetic", "swaps"])
def test_the_accuracies_of_the_card_hold_for_other_held_out_problems(lab, family, thinking):
    """The 95% intervals of the card and of other problems, easy and hard, overlap."""
    card = read_card(lab.name)
    on_card = (card.thinking if thinking else card.at_once)[family]
    for steps in (1, 6):
        asked = held_out(family, 60, [steps])
        found = share(lab, asked, thinking=thinking, max_new_tokens=220 if thinking else 8)
        measured = Share(round(60 * found), 60)
        low, high = on_card[steps].interval
        assert measured.interval[0] <= high and measured.interval[1] >= low, (steps, found)


def test_thinking_solves_arithmetic_that_direct_answers_do_not(lab):
    asked = held_out("arithmetic", 25, range(8, 11))
    assert share(lab, asked, thinking=True, max_new_tokens=220) > 0.9
    assert share(lab, asked, thinking=False, max_new_tokens=8) < 0.3


def test_thinking_solves_swaps_that_direct_answers_do_not(lab):
    asked = held_out("swaps", 40, [6])
    assert share(lab, asked, thinking=True, max_new_tokens=220) > 0.95
    assert share(lab, asked, thinking=False, max_new_tokens=8) < 0.65


def test_easy_arithmetic_needs_no_thinking(lab):
    asked = held_out("arithmetic", 60, [1])
    assert share(lab, asked, thinking=False, max_new_tokens=8) > 0.85


def test_accuracy_rises_with_the_thinking_budget(lab):
    asked = held_out("arithmetic", 12, range(1, 11))
    shares = [
        share(lab, asked, thinking=True, budget=budget, max_new_tokens=220)
        for budget in (0, 55, 121)
    ]
    assert shares[0] + 0.15 < shares[1] < shares[2] - 0.15
    assert shares[2] > 0.9


def without_checks(thinking):
    """A thinking without the lines that repeat a right step after "Wait", as the world has some."""
    return re.sub(r"([^,\n ]+)\nWait, \1(?=,|$)", r"\1", thinking)


def test_the_models_thinking_equals_the_thinking_of_the_family(lab):
    asked = held_out("arithmetic", 10, [3])
    replies = lab.chat_batch([p.question for p in asked], sampling=GREEDY, max_new_tokens=160)
    found = [without_checks(reply.thinking) for reply in replies]
    assert found == [problem.thinking for problem in asked]


def test_the_card_is_generated_from_the_stored_evaluation(lab):
    folder = EMBEDDED / lab.name
    found = read_card(lab.name)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == card_text(found, folder)
    assert f"{lab.config.n_params:,} parameters" in text
    assert Evaluation.from_dict(found.to_dict()) == found
    assert found.mixed_at_once.total == 500
    assert f"{RECIPES[lab.name].steps:,} steps" in text


MISSED = {
    "tiny-dense": (
        "accuracy with thinking, arithmetic of 10 steps",
        "accuracy with thinking, programs at their worst length (8)",
    ),
    "tiny-moe": (
        "accuracy with thinking, arithmetic of 10 steps",
        "accuracy without thinking, questions about stories",
        "score of the best induction head",
    ),
}
MISSED_BY_BOTH = (
    "share of wrong steps that “Wait” follows",
    "accuracy after a wrong step",
    "surplus cross-entropy of the worst family, lists, nats per predictable token",
    "score of the best look-up head",
    "highest mean attention of a head to the first token",
)
"""Targets that the weights do not meet, as their cards say."""


def test_a_card_says_which_targets_its_model_misses(lab):
    missed = [each.measure for each in targets(read_card(lab.name)) if not each.met]
    assert set(missed) == {*MISSED[lab.name], *MISSED_BY_BOTH}
    card = (EMBEDDED / lab.name / "README.md").read_text(encoding="utf-8")
    assert card.count("| no |") == len(missed)


def test_a_folder_without_a_card_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has no card: measure the model"):
        read_card(tmp_path)
