"""Exercises on why a token was written: what they teach is true of the shipped model."""

import pytest

from qwen3lab import attribution, exercises, lenses, patching, probes, steering, tiny

CLEAN, CORRUPT = "ball 7, key 3, cup 5. key ", "ball 7, key 4, cup 5. key "


@pytest.fixture(scope="module")
def product(moe):
    return moe.record("7*8=", capture=[*lenses.NEEDED, *attribution.needed(moe)])


def accepted(check, answers):
    return [answer for answer in answers if check(answer).solved]


def test_a_product_is_known_in_a_later_layer_than_a_number_to_look_up(moe, product):
    found = {}
    for text, token, rec in (("7*8=", "5", product), (CLEAN, "3", None)):
        rec = rec or moe.record(text, capture=lenses.NEEDED)
        lens = lenses.logit_lens(moe, rec)
        leads = [int(rank) == 0 for rank in lens.rank(token)[:, -1]]
        first = next(n for n in range(6) if all(leads[n:]))
        found[text] = accepted(lambda n, a=lens, b=token: exercises.first_layer(a, b, n), range(6))
        assert found[text] == [first]
    assert found["7*8="] > found[CLEAN]
    lens = lenses.logit_lens(moe, product)
    assert (
        "but the next layer is it" in exercises.first_layer(lens, "5", found["7*8="][0] - 1).reason
    )
    assert "leads earlier already" in exercises.first_layer(lens, "5", 5).reason
    assert "layers 0 to 5" in exercises.first_layer(lens, "5", 6).reason
    assert exercises.first_layer(lens, "9", 3).solved is None  # It never leads.


def test_another_head_calculates_than_the_one_that_looks_up(moe, product):
    parts = attribution.direct(moe, product, "5", other="6")
    values = {(p.layer, p.index): p.value for p in parts.parts if p.kind == "head"}
    best = max(values, key=values.__getitem__)
    assert exercises.strongest_head(parts, best).solved is True and best != (2, 2)
    against = max(values, key=lambda head: abs(values[head]))
    assert values[against] < 0
    assert "against the token" in exercises.strongest_head(parts, against).reason
    assert "does not exist" in exercises.strongest_head(parts, (6, 0)).reason


def test_one_head_moves_the_number_that_is_looked_up(moe):
    metric = patching.logit_difference("3", "4")
    options = {"clean": CLEAN, "corrupt": CORRUPT, "metric": metric, "progress": False}
    heads = patching.patch(moe, site="z", **options)
    cells = [(layer, head) for layer in range(6) for head in range(4)]
    assert accepted(lambda cell: exercises.decisive_cell(heads, cell), cells) == [(2, 2)]
    assert "of the largest effect: look for" in exercises.decisive_cell(heads, (3, 1)).reason
    assert "is not in the map" in exercises.decisive_cell(heads, (9, 0)).reason


@pytest.mark.parametrize(("strength", "solved"), [(8, True), (0, False)])
def test_a_strong_vector_changes_the_number(moe, strength, solved):
    vector = steering.from_token(moe, "4", other="3", layer=3)
    before, after = (
        moe.generate(CLEAN, max_new_tokens=1, edits=edits).text
        for edits in (None, strength * vector)
    )
    verdict = exercises.changes_the_text(before, after, "4")
    assert verdict.solved is solved
    assert solved or "too weak" in verdict.reason


def test_a_text_that_was_there_before_or_is_another_one_is_no_solution():
    assert "aim for another beginning" in exercises.changes_the_text("4", "4", "4").reason
    assert "that begins with '4'" in exercises.changes_the_text("3", "9", "4").reason
    assert exercises.changes_the_text("3", None, "4").solved is None


@pytest.fixture(scope="module")
def sums(moe):
    texts = tiny.texts(moe.tokenizer, n=6, families=["arithmetic"])
    return texts, [moe.record(text.token_ids, capture=lenses.NEEDED) for text in texts]


def fitted(moe, sums, name):
    texts, recordings = sums
    labels = [[getattr(label, name) for label in text.labels] for text in texts]
    hook = "blocks.2.hook_resid_post"
    return probes.fit(moe, recordings, labels, hook=hook, progress=False)


def test_probes_of_the_part_are_accepted_and_those_of_the_role_are_not(moe, sums):
    wanted = ["question", "thinking", "answer"]
    assert exercises.reads_label(fitted(moe, sums, "part"), wanted).solved is True
    other = exercises.reads_label(fitted(moe, sums, "role"), wanted)
    assert other.solved is False and "but not answer, thinking" in other.reason
    assert "are no probes" in exercises.reads_label(0.97, wanted).reason
