"""The whole evaluation, on a small random model with the embedded models' tokenizer."""

import pytest
import torch

from qwen3lab import Lab
from qwen3lab.errors import CheckpointError
from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny import pipeline
from qwen3lab.tiny.evaluation.card import card_text, read_card
from qwen3lab.tiny.evaluation.evaluate import BUDGETS, Evaluation, evaluate
from qwen3lab.tiny.pipeline import export
from qwen3lab.tiny.world.families import FAMILIES
from tests.reference import small_config

pytestmark = pytest.mark.slow
END = 1529
"""The token `<|im_end|>`."""

THINKERS = {"arithmetic": 10, "swaps": 8, "code": 8}


class Silent(Qwen3):
    """A random model that ends every reply at once, so that a whole evaluation takes seconds."""

    def forward(self, token_ids, **options):
        logits = super().forward(token_ids, **options)
        logits[:, -1, END] += 20.0
        return logits


@pytest.fixture(scope="module")
def model():
    model = Silent(small_config(d_vocab=1536, n_ctx=2048, tied_embeddings=True))
    model.init_weights(torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "small"
    export(model, folder)
    return folder


@pytest.fixture(scope="module")
def lab(model, tiny_tokenizer):
    assert tiny_tokenizer.convert_tokens_to_ids("<|im_end|>") == END
    return Lab(model, tiny_tokenizer, "small")


@pytest.fixture(scope="module")
def found(lab):
    return evaluate(lab, n=2, n_mixed=3, seed=3, progress=False)


def test_every_part_is_measured(found):
    for by_family in (found.thinking, found.at_once, found.thinking_tokens):
        assert {name: list(by_steps) for name, by_steps in by_family.items()} == {
            name: list(range(1, most + 1)) for name, most in THINKERS.items()
        }
    assert all(share.total == 2 for by in found.thinking.values() for share in by.values())
    assert {name: share.total for name, share in found.questions.items()} == {
        "stories": 2,
        "lists": 2,
    }
    assert found.stopped.total == 2 * sum(THINKERS.values())
    assert set(found.surplus) == set(FAMILIES)
    assert tuple(found.by_budget) == BUDGETS
    assert all(share.total == found.mixed_at_once.total == 3 for share in found.by_budget.values())
    assert len(found.heads) == 4 and (found.n, found.seed) == (2, 3)


def test_the_second_edition_is_measured(found):
    assert set(found.sums.by_operands) == {"one digit", "two digits", "three digits"}
    assert found.sums.one_digit.thinking.total == 255
    assert all(pair.at_once.total == 2 for pair in found.sums.by_wording.values())
    assert all(s.total == 2 for by in found.border.outside.values() for s in by.values())
    # Each problem that thinks was asked in both modes, the others in one.
    asked = 2 * 2 * sum(THINKERS.values()) + 2 * 2
    assert sum(share.total for share in found.border.inside.values()) == asked
    assert {len(by_source) for by_source in found.hints.values()} == {3}
    assert found.turns.waits.total == found.turns.extended.total == 2
    assert len(found.sink.by_head) == 3 and found.sink.texts == 2 * 4
    assert len(found.first) == 50 and len(found.order) == 2


def test_loads_are_relative_to_uniform_load(model, found):
    assert len(found.least_load) == len(found.information) == len(model.config.moe_layers)
    assert all(
        0 <= least <= 1 <= most <= model.config.n_experts
        for least, most in zip(found.least_load, found.most_load, strict=True)
    )


def test_a_model_that_says_nothing_is_always_wrong(found):
    assert all(share.hits == 0 for by in found.thinking.values() for share in by.values())
    assert found.stopped.value == 1
    assert all(mean == 0 for by in found.thinking_tokens.values() for mean in by.values())
    assert found.border.outside_in("en").hits == 0
    assert not any(reply.right or reply.answer for reply in found.first)


def test_the_same_seed_gives_the_same_measurements(lab, found):
    assert evaluate(lab, n=2, n_mixed=3, seed=3, progress=False) == found


def test_a_folder_is_measured_and_gets_a_card(lab, folder, monkeypatch):
    monkeypatch.setattr(pipeline, "load", lambda path, device: lab)
    found, where = pipeline.measure(folder, n=1, n_mixed=2, seed=4, write=True, progress=False)
    assert where == folder and (found.n, found.seed) == (1, 4)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == card_text(found, folder)
    assert f"qwen3lab evaluate {folder} --n 1 --mixed 2 --seed 4" in text
    assert Evaluation.from_dict(found.to_dict()) == found == read_card(folder)


def test_an_unknown_model_is_an_error():
    with pytest.raises(CheckpointError, match="neither a folder nor an embedded model"):
        pipeline.measure("./none")


def test_a_model_of_another_edition_is_an_error(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = tmp_path / "tokenizer_config.json"
    text = settings.read_text(encoding="utf-8")
    assert '"world": 2' in text
    settings.write_text(text.replace('"world": 2', '"world": 3'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="is of edition 3 of the embedded world"):
        pipeline.measure(tmp_path)
