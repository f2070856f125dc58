"""When the answer first leads: found where it is planted."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import lenses
from tests.lenses.small import small_lab

IDS = [3, 14, 15, 9, 2, 6, 20, 8]
ANSWER = 20
PLANTED = {3: 1, 5: 0}
"""The first layer of the answer's direction at each token where it is planted."""


@pytest.fixture(scope="module")
def lens(tiny_tokenizer):
    """Layers and tokens that write the direction of the answer, of a run with a thinking span."""
    lab = small_lab(tiny_tokenizer)
    rec = lab.record(IDS, capture=lenses.NEEDED)
    norm = lab.model.ln_final.weight.detach()
    rows = lab.model.unembedding.detach() * norm
    activations = dict(rec.activations)
    for layer in range(3):
        # The stream is read as another token everywhere, and as the answer where it is planted.
        kept = (100 * rows[ANSWER + 1] / rows[ANSWER + 1].norm()).expand(len(IDS), -1).clone()
        for position, first in PLANTED.items():
            if layer >= first:
                kept[position] = 100 * rows[ANSWER] / rows[ANSWER].norm()
        activations[f"blocks.{layer}.hook_resid_post"] = kept
    spans = {"prompt": (0, 2), "thinking": (2, 7), "answer": (7, 8)}
    return lenses.logit_lens(lab, replace(rec, activations=activations, spans=spans))


def test_the_first_token_and_there_the_first_layer_are_found(lens):
    found = lens.first_lead(ANSWER)
    assert (found.position, found.layer, found.place) == (3, 1, "layer 1")
    assert found.by_place == {"layer 0": 5, "layer 1": 3, "layer 2": 3}
    assert found.token == lens.tokens[3] and found.searched == (2, 7)
    assert found.probability == pytest.approx(float(lens.probability(ANSWER)[1, 3]))
    assert not found.is_written_next and not found.is_written_there


def test_a_lead_just_before_the_answer_is_written_is_marked_and_can_be_left_out(lens):
    late = replace(lens, positions=(4, 5, 6))
    found = late.first_lead(ANSWER)
    assert (found.position, found.layer, found.is_written_next) == (5, 0, True)
    assert late.first_lead(ANSWER, unwritten=True).position is None
    assert lens.first_lead(ANSWER, unwritten=True).position == 3


def test_a_lead_at_the_answers_own_token_is_marked_and_can_be_left_out(lens):
    token = lens.recording.token_ids[3]
    ids = lens.recording.token_ids.clone()
    ids[3] = ANSWER
    own = replace(lens, recording=replace(lens.recording, token_ids=ids))
    found = own.first_lead(ANSWER)
    assert int(token) != ANSWER and found.position == 3
    assert found.is_written_there and not found.is_written_next
    assert own.first_lead(ANSWER, unwritten=True).position is None


def test_a_token_that_never_leads_is_said_so(lens):
    found = lens.first_lead(7)
    assert found.position is None and found.layer is None
    assert set(found.by_place.values()) == {None}
    assert "first leads never" in repr(found)


def test_only_the_span_is_searched(lens):
    assert lens.first_lead(ANSWER, span="answer").position is None
    assert lens.first_lead(ANSWER + 1, span="prompt").position == 0
    assert lens.first_lead(ANSWER, span=None).position == 3


def test_a_recording_without_thinking_is_refused(lens):
    plain = replace(lens, recording=replace(lens.recording, spans={}))
    with pytest.raises(ValueError, match="no token of a span 'thinking': record a chat"):
        plain.first_lead(ANSWER)
    with pytest.raises(ValueError, match="choose from prompt, thinking, answer"):
        lens.first_lead(ANSWER, span="middle")


def test_a_chat_is_searched_while_it_thinks(tiny_lab):
    chat = tiny_lab.chat("3+2*7-1=?", thinking=True, seed=0, record=lenses.NEEDED)
    lens = lenses.logit_lens(tiny_lab, chat.recording)
    token = chat.token_ids[chat.spans["answer"][0] - len(chat.prompt_ids)]
    found = lens.first_lead(token)
    first, end = chat.spans["thinking"]
    ranks = torch.stack(
        [
            (row > row[:, [token]]).sum(-1)
            for row in (lens.logits(n) for n in range(len(lens.places)))
        ]
    )
    columns = (ranks[:, first:end] == 0).any(0).nonzero().flatten().tolist()
    assert found.position == (first + columns[0] if columns else None)
