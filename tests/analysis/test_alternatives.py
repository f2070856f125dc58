"""The likeliest tokens at a position, compared with a softmax of the logits before it."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from qwen3lab.analysis.alternatives import alternatives
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.errors import RecordingError


@pytest.fixture(scope="module")
def recording(tiny_lab):
    return tiny_lab.record("3+4=7. 3+5=")


def test_the_alternatives_are_those_of_the_softmax_at_the_position_before(recording):
    for position in range(1, len(recording)):
        found = alternatives(recording, position, 5)
        expected = recording.logits[position - 1].double().softmax(dim=-1)
        order = expected.argsort(descending=True)
        assert list(found.token_ids) == order[:5].tolist()
        torch.testing.assert_close(
            torch.tensor(found.probabilities).double(), expected[order[:5]], atol=1e-6, rtol=1e-4
        )
        written = int(recording.token_ids[position])
        assert found.written == written
        assert found.probability == pytest.approx(float(expected[written]), rel=1e-4, abs=1e-7)
        assert order[found.rank - 1] == written


def test_the_alternatives_agree_with_those_of_transformers(recording):
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED / "tiny-moe", dtype=torch.float32)
    with torch.no_grad():
        shares = model.eval()(recording.token_ids[None]).logits[0, 5].softmax(dim=-1).topk(5)
    found = alternatives(recording, 6, 5)
    assert list(found.token_ids) == shares.indices.tolist()
    torch.testing.assert_close(
        torch.tensor(found.probabilities), shares.values, atol=1e-4, rtol=1e-3
    )


def test_the_first_token_and_one_that_is_not_there_are_refused(recording):
    with pytest.raises(ValueError, match="token 0 is the first one: nothing predicts it"):
        alternatives(recording, 0)
    with pytest.raises(ValueError, match="token 99 does not exist: the text has tokens 0 to"):
        alternatives(recording, 99)


def test_a_recording_without_logits_says_what_is_missing(tiny_lab):
    chat = tiny_lab.chat("3+4=?", thinking=False, record=True)
    with pytest.raises(RecordingError, match="hook_unembed was not recorded"):
        alternatives(chat.recording, 3)
