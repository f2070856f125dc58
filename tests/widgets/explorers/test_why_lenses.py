"""The lenses that the why explorer offers."""

import pytest
import torch

import qwen3lab
from qwen3lab import lenses
from qwen3lab.lab import Lab
from qwen3lab.widgets import WhyExplorer
from qwen3lab.widgets.explorers.why_compute import offered_lenses
from qwen3lab.widgets.explorers.why_state import JACOBIAN_LENS, LENSES, LOGIT_LENS, TUNED_LENS
from tests.lenses.small import small_lab
from tests.widgets.workbench.benches import why

QUESTION = "lamp 2, book 7, cat 1. book?"
READERS = {TUNED_LENS: lenses.tuned_lens, JACOBIAN_LENS: lenses.jacobian_lens}


@pytest.fixture
def explorer():
    explorer = WhyExplorer(qwen3lab.load("tiny-dense"), question=QUESTION, thinking=False)
    explorer.run()
    yield explorer
    explorer.close()


@pytest.mark.parametrize("name", [TUNED_LENS, JACOBIAN_LENS])
def test_another_lens_reads_the_same_token_at_once(explorer, name):
    token = explorer.state.token
    explorer.state.lens = name
    explorer.wait()
    found = explorer.state.explained
    assert explorer.state.problem == "" and found.position == token
    assert found.lens.kind == name
    expected = READERS[name](explorer.lab, found.lens.recording).probability(found.token_id)
    torch.testing.assert_close(
        found.lens.probability(found.token_id), expected[:, : found.position]
    )
    assert found.lens.names == [f"layer {n}" for n in range(6)]


def test_the_menu_offers_what_ships_with_the_model(explorer):
    view = why(explorer)
    assert [value for _, value in view.which_lens.options] == list(LENSES)
    view.which_lens.value = TUNED_LENS
    assert explorer.state.lens == TUNED_LENS


def test_a_model_without_shipped_lenses_offers_the_logit_lens_only(tiny_tokenizer):
    lab: Lab = small_lab(tiny_tokenizer)
    assert offered_lenses(lab) == (LOGIT_LENS,)
    explorer = WhyExplorer(lab, question="3+4=?", thinking=False, max_new_tokens=4)
    explorer.run()
    explorer.state.lens = TUNED_LENS
    explorer.wait()
    assert "no tuned lens ships for the weights of small" in explorer.state.problem
    explorer.close()
