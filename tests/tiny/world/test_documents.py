"""What a model reads while it is trained: how often each kind, and what of it counts."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from qwen3lab.tiny.training.recipes import MICRO_MOE
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.documents import COPYING, DIETS, TURNING, Writer
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.tokenizer import EARLY_STOP

N = 400


@pytest.fixture
def writer(tiny_tokenizer):
    return Writer(tiny_tokenizer, EARLY_STOP)


def kinds(writer, **options):
    rng = random.Random(0)
    return Counter(writer.write(rng, **options).kind for _ in range(N))


def test_shares_are_shares():
    assert set(DIETS) == set(FAMILIES)
    assert sum(diet.share for diet in DIETS.values()) == pytest.approx(1)
    for diet in DIETS.values():
        assert sum(diet.modes.values()) == pytest.approx(1)


def test_families_come_as_often_as_their_diet_says(writer):
    families = Counter[str]()
    for kind, n in kinds(writer).items():
        families[kind.split()[0]] += n
    for name, diet in DIETS.items():
        # Four standard errors of a share.
        error = 4 * (diet.share * (1 - diet.share) / N) ** 0.5
        assert abs(families[name] / N - diet.share) < error


@pytest.mark.parametrize("opening", [COPYING, TURNING, MICRO_MOE.course])
def test_an_opening_has_its_parts_in_their_shares(tiny_tokenizer, opening):
    writer = Writer(tiny_tokenizer, EARLY_STOP, opening=opening)
    before = 0.0
    for part in opening:
        assert sum(part.shares.values()) == pytest.approx(1)
        found = kinds(writer, stage=min(0.99, (before + part.until) / 2))
        before = part.until
        if part.until <= 1:
            tallies = part.shares["tally"]
            expected = {"arithmetic text": tallies, "lists text": 1 - tallies}
            assert set(found) == set(expected)
            for kind, share in expected.items():
                assert abs(found[kind] / N - share) < 4 * (share * (1 - share) / N) ** 0.5
    assert before >= 1.5, "until the world has taken its place"


def test_sequences_turn_back_later_where_copying_comes_first(writer):
    def turned(stage):
        rng = random.Random(1)
        ids = [writer.write(rng, stage=stage).token_ids[:-1] for _ in range(N)]
        return sum(row == row[::-1] for row in ids if len(row) > 2) / N

    assert turned(0.69) == 0
    # Those with a word of several tokens do not read the same from their end.
    assert 0.2 < turned(0.7) < 0.45


def test_the_world_takes_the_openings_place(writer):
    assert len(kinds(writer, stage=1.0)) == 2
    assert len(kinds(writer, stage=1.25)) > 10
    assert kinds(writer, stage=1.5) == kinds(writer)


def test_a_diet_says_of_which_kinds_its_sequences_are(tiny_tokenizer):
    kinds = {"turned": 0.25, "marked": 0.75}
    diet = replace(DIETS["lists"], share=1.0, modes={"text": 1.0}, kinds=kinds)
    few = Writer(tiny_tokenizer, EARLY_STOP, diets={"lists": diet})
    rng = random.Random(0)
    texts = [tiny_tokenizer.decode(few.write(rng).token_ids) for _ in range(N)]
    marked = sum(bool(re.search(r"\w[ =:：]\d[,，.。]", text)) for text in texts)
    assert abs(marked / N - 0.75) < 4 * (0.75 * 0.25 / N) ** 0.5


def test_only_the_families_asked_for_are_written(tiny_tokenizer):
    few = Writer(
        tiny_tokenizer, EARLY_STOP, diets={name: DIETS[name] for name in ("stories", "lists")}
    )
    assert {kind.split()[0] for kind in kinds(few)} == {"stories", "lists"}


def test_documents_teach_only_what_the_model_itself_writes(writer, tiny_tokenizer):
    rng = random.Random(0)
    problem = arithmetic.draw(rng, 5, "train")
    for mode in ("think", "answer", "switch", "cut"):
        document = writer.document(problem, mode, rng)
        taught = [i for i, w in zip(document.token_ids, document.weights, strict=True) if w == 1]
        text = tiny_tokenizer.decode(taught)
        assert text.endswith(f"{problem.answer}<|im_end|>")
        assert EARLY_STOP not in text
        expected = {
            "think": f"<think>\n{problem.thinking}\n</think>\n\n",
            "answer": "",
            "switch": "<think>\n\n</think>\n\n",
        }
        if mode == "cut":
            assert text.startswith("<think>\n")
            begun = text.removeprefix("<think>\n").removesuffix(f"{problem.answer}<|im_end|>")
            assert problem.thinking.startswith(begun)
            assert f"{EARLY_STOP}\n</think>\n\n{problem.answer}" in tiny_tokenizer.decode(
                document.token_ids
            )
        else:
            assert text == f"{expected[mode]}{problem.answer}<|im_end|>"


def test_documents_are_rendered_as_the_chat_template_does(writer, tiny_tokenizer):
    rng = random.Random(1)
    problem = arithmetic.draw(rng, 3, "train")
    asked = [{"role": "user", "content": problem.question}]
    document = writer.document(problem, "answer", rng)
    prompt = tiny_tokenizer.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    text = tiny_tokenizer.decode(document.token_ids)
    assert text == f"{prompt}{problem.answer}<|im_end|>\n"


def test_a_passage_counts_where_it_can_be_foretold(writer, tiny_tokenizer):
    problem = FAMILIES["lists"].draw(random.Random(3), 6, "train")
    document = writer.plain([problem])
    known = {piece.text.strip() for piece in problem.passage if piece.known and piece.text.strip()}
    counted = {
        tiny_tokenizer.decode([token]).strip()
        for token, weight in zip(document.token_ids, document.weights, strict=True)
        if weight == 1
    }
    assert counted - {""} <= known
    assert counted
