"""Training documents: the frequency of each kind, and the loss weights of the tokens."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from qwen3lab.tiny.training.recipes import MICRO_MOE
from qwen3lab.tiny.world import arithmetic
from qwen3lab.tiny.world.documents import COPY_FIRST_OPENING, DIETS, REVERSE_FIRST_OPENING, Writer
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.tokenizer import EARLY_STOP
from qwen3lab.tiny.world.wrong_turns import with_wrong_turn

N = 400


@pytest.fixture
def writer(tiny_tokenizer):
    return Writer(tiny_tokenizer, EARLY_STOP)


def kinds(writer, **options):
    rng = random.Random(0)
    return Counter(writer.write(rng, **options).kind for _ in range(N))


def test_shares_of_families_and_modes_sum_to_one():
    assert set(DIETS) == set(FAMILIES)
    assert sum(diet.share for diet in DIETS.values()) == pytest.approx(1)
    for diet in DIETS.values():
        assert sum(diet.modes.values()) == pytest.approx(1)


def test_families_are_as_frequent_as_their_shares(writer):
    families = Counter[str]()
    for kind, n in kinds(writer).items():
        families[kind.split()[0]] += n
    n = N - families["mixed"]
    for name, diet in DIETS.items():
        # Four standard errors of a share.
        error = 4 * (diet.share * (1 - diet.share) / n) ** 0.5
        assert abs(families[name] / n - diet.share) < error
    assert abs(families["mixed"] / N - 0.1) < 4 * (0.1 * 0.9 / N) ** 0.5


@pytest.mark.parametrize("opening", [COPY_FIRST_OPENING, REVERSE_FIRST_OPENING, MICRO_MOE.course])
def test_documents_of_an_opening_have_the_shares_of_its_part(tiny_tokenizer, opening):
    writer = Writer(tiny_tokenizer, EARLY_STOP, opening=opening)
    before = 0.0
    for part in opening:
        assert sum(part.shares.values()) == pytest.approx(1)
        found = kinds(writer, stage=min(0.99, (before + part.until) / 2))
        before = part.until
        if part.until <= 1:
            equations = part.shares["equations"]
            expected = {"arithmetic text": equations, "lists text": 1 - equations}
            assert set(found) == set(expected)
            for kind, share in expected.items():
                assert abs(found[kind] / N - share) < 4 * (share * (1 - share) / N) ** 0.5
    assert before >= 1.5, "the last part must last until the families have replaced the opening"


def test_reversed_sequences_start_late_in_the_copy_first_opening(writer):
    def reversed_share(stage):
        rng = random.Random(1)
        ids = [writer.write(rng, stage=stage).token_ids[:-1] for _ in range(N)]
        return sum(row == row[::-1] for row in ids if len(row) > 2) / N

    assert reversed_share(0.69) == 0
    # A sequence with a word of several tokens is not a palindrome of token ids.
    assert 0.2 < reversed_share(0.7) < 0.45


def test_the_families_replace_the_opening_gradually(writer):
    assert len(kinds(writer, stage=1.0)) == 2
    assert len(kinds(writer, stage=1.25)) > 10
    assert kinds(writer, stage=1.5) == kinds(writer)


def test_the_kinds_of_a_diet_decide_the_kinds_of_its_sequences(tiny_tokenizer):
    kinds = {"turned": 0.25, "marked": 0.75}
    diet = replace(DIETS["lists"], share=1.0, modes={"text": 1.0}, kinds=kinds)
    writer = Writer(tiny_tokenizer, EARLY_STOP, diets={"lists": diet})
    rng = random.Random(0)
    n = 5 * N
    texts = [tiny_tokenizer.decode(writer.write(rng).token_ids) for _ in range(n)]
    marked = sum(bool(re.search(r"\w[ =:：]\d[,，.。]", text)) for text in texts)
    assert abs(marked / n - 0.75) < 4 * (0.75 * 0.25 / n) ** 0.5


def test_only_the_families_of_the_diets_are_written(tiny_tokenizer):
    writer = Writer(
        tiny_tokenizer, EARLY_STOP, diets={name: DIETS[name] for name in ("stories", "lists")}
    )
    assert {kind.split()[0] for kind in kinds(writer)} == {"stories", "lists", "mixed"}
    texts_only = replace(DIETS["lists"], share=1.0, modes={"text": 1.0})
    writer = Writer(tiny_tokenizer, EARLY_STOP, diets={"lists": texts_only})
    assert set(kinds(writer)) == {"lists text"}


def questions(text):
    return re.findall(r"<\|im_start\|>user\n(.*?)(?: /(?:no_)?think)?<\|im_end\|>", text, re.DOTALL)


def long_documents(writer, tokenizer):
    rng = random.Random(0)
    documents = [writer.write(rng) for _ in range(2 * N)]
    return [d for d in documents if d.kind == "mixed long"]


def test_long_documents_are_rows_of_chats_of_several_families(writer, tiny_tokenizer):
    found = long_documents(writer, tiny_tokenizer)
    assert len(found) > 50
    assert all(len(document.token_ids) <= 600 for document in found)
    assert sum(len(document.token_ids) for document in found) / len(found) > 250
    chats = [questions(tiny_tokenizer.decode(document.token_ids)) for document in found]
    assert sum(len(row) for row in chats) / len(chats) > 3
    for document in found:
        text = tiny_tokenizer.decode(document.token_ids)
        assert text.startswith("<|im_start|>user\n") and text.endswith("<|im_end|>\n")


def test_hints_wrong_turns_and_checks_have_their_shares(writer):
    rng = random.Random(0)
    drawn = [writer._draw_problem(rng, "arithmetic", "think") for _ in range(4 * N)]
    hinted = sum(problem.hint is not None for problem in drawn)
    turned = sum("Wait" in problem.thinking for problem in drawn)
    both = sum("Wait" in problem.thinking and problem.hint is not None for problem in drawn)
    assert abs(hinted / len(drawn) - 0.15) < 0.03
    assert abs(turned / (len(drawn) - hinted) - DIETS["arithmetic"].wrong_turns) < 0.02
    assert both == 0
    for mode in ("cut", "text", "answer"):
        drawn = [writer._draw_problem(rng, "arithmetic", mode) for _ in range(N)]
        assert not any("Wait" in problem.thinking for problem in drawn)
        assert any(problem.hint for problem in drawn) == (mode == "answer")
    checked = [writer._draw_problem(rng, "swaps", "think").thinking for _ in range(2 * N)]
    assert 0.005 < sum("\nWait, " in thinking for thinking in checked) / len(checked) < 0.04


def test_mistakes_have_a_small_weight_and_their_corrections_full_weight(writer, tiny_tokenizer):
    rng, found = random.Random(0), 0
    for _ in range(N):
        problem = with_wrong_turn(rng, arithmetic.draw(rng, 4, "train"))
        document = writer.document(problem, "think", rng)
        pairs = list(zip(document.token_ids, document.weights, strict=True))
        reply = pairs[[i for i, _ in pairs].index(tiny_tokenizer.encode("<think>")[0]) :]
        light = tiny_tokenizer.decode([i for i, weight in reply if weight == 0.05])
        wrong = [piece.text for piece in problem.thought if piece.role == "wrong value"]
        assert light == (wrong[0] if wrong else "\nWait")
        found += bool(wrong)
    assert 0.5 < found / N < 0.9


def test_only_text_that_the_model_writes_has_full_weight(writer, tiny_tokenizer):
    rng = random.Random(0)
    problem = arithmetic.draw(rng, 5, "train")
    for mode in ("think", "answer", "switch", "cut"):
        document = writer.document(problem, mode, rng)
        taught = [i for i, w in zip(document.token_ids, document.weights, strict=True) if w >= 1]
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


def test_the_numbers_of_steps_follow_the_diet(writer):
    rng = random.Random(0)
    diet = DIETS["arithmetic"]
    for mode, choices in (("think", diet.steps), ("answer", diet.head)):
        drawn = [writer._draw_problem(rng, "arithmetic", mode).steps for _ in range(N)]
        share = choices.count(1) / len(choices)
        assert abs(drawn.count(1) / N - share) < 4 * (share * (1 - share) / N) ** 0.5
        assert set(drawn) <= set(choices) and max(drawn) == max(choices)


def test_direct_answers_have_the_weight_of_the_diet(writer, tiny_tokenizer):
    rng = random.Random(0)
    cases = (("arithmetic", "answer"), ("swaps", "switch"), ("stories", "blank"))
    for name, mode in (*cases, ("outside", "answer"), ("arithmetic", "think")):
        problem = FAMILIES[name].draw(rng, FAMILIES[name].least, "train")
        document = writer.document(problem, mode, rng)
        weight = 1 if mode == "think" else DIETS[name].direct_weight
        answer = tiny_tokenizer.encode(f"{problem.answer}<|im_end|>")
        end = len(document.token_ids) - 1
        assert document.token_ids[end - len(answer) : end] == answer
        assert document.weights[end - len(answer) : end] == [weight] * len(answer)
        assert (weight == 1) == (name == "outside" or mode == "think")


def test_documents_equal_the_rendered_chat_template(writer, tiny_tokenizer):
    rng = random.Random(1)
    problem = arithmetic.draw(rng, 3, "train")
    asked = [{"role": "user", "content": problem.question}]
    document = writer.document(problem, "answer", rng)
    prompt = tiny_tokenizer.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    text = tiny_tokenizer.decode(document.token_ids)
    assert text == f"{prompt}{problem.answer}<|im_end|>\n"


def test_predictable_tokens_of_a_passage_have_full_weight(writer, tiny_tokenizer):
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
