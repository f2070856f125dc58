"""Stand-ins are checkpoints as the hub has them, and `transformers` agrees with them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

import qwen3lab
from tests.standins.hub_files import DENSE, EXPERTS
from tests.standins.lessons import lessons

NARROWED = {"hidden_size", "head_dim", "intermediate_size", "moe_intermediate_size"}
QUESTION = "一只蜘蛛有八条腿，三只有多少条？"

pytestmark = pytest.mark.slow


def fields(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def thinker(standin_folder):
    return qwen3lab.load(standin_folder("thinks"), device="cpu", dtype="float32")


@pytest.mark.parametrize(("name", "published"), [("dense-28", DENSE), ("experts-48x128", EXPERTS)])
def test_random_ones_differ_from_a_published_model_in_width_alone(standin_folder, name, published):
    config = fields(standin_folder(name), "config.json")
    assert {key for key in published if config[key] != published[key]} <= NARROWED
    assert config.keys() == published.keys()


def test_each_has_the_files_of_the_hub(folder):
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer_config.json"} <= files
    where = fields(folder, "model.safetensors.index.json")["weight_map"]
    assert len(set(where.values())) == 3
    for file in set(where.values()):
        with safe_open(folder / file, "pt") as shard:
            names = list(shard.keys())
            assert all(where[name] == file for name in names)
            assert shard.get_tensor(names[0]).dtype == torch.bfloat16
    assert qwen3lab.load(folder, device="cpu").config.d_vocab == 151_936


def test_each_gives_the_logits_of_transformers(folder):
    lab = qwen3lab.load(folder, device="cpu", dtype="float32")
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    reference.config._experts_implementation = "eager"
    ids = lab.tokenizer.encode(QUESTION)
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits[0]
        found = lab.model(torch.tensor([ids]))[0]
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4


def test_one_thinks_20_to_700_tokens_and_closes_its_thinking(thinker):
    lengths = []
    for lesson in (*lessons()[:4], *lessons()[-4:]):
        chat = thinker.chat(lesson.question, seed=0, max_new_tokens=1000)
        assert chat.stop == "natural" and chat.answer, chat
        lengths.append(chat.thinking_tokens)
    assert 20 <= min(lengths) < 50 and 600 < max(lengths) <= 720


def test_one_answers_in_a_word_or_in_paragraphs_with_code(thinker):
    chats = [
        thinker.chat(lesson.question, seed=0, max_new_tokens=1000) for lesson in lessons()[:12]
    ]
    assert {"24", "Cleo", "Yes", "二十四条。"} <= {chat.answer for chat in chats}
    assert sum("```python" in chat.answer and "\n\n" in chat.answer for chat in chats) == 2
    assert sum("。" in chat.thinking for chat in chats) >= 2


def test_one_answers_any_question_after_sentences(thinker):
    for seed, question in enumerate(("What is the meaning of life?", "7+2*3=?", "你好")):
        chat = thinker.chat(question, seed=seed, max_new_tokens=1000)
        assert chat.stop == "natural" and chat.thinking_tokens >= 20 and chat.answer


def test_one_answers_early_and_without_thinking(thinker):
    lesson = lessons()[0]
    assert thinker.chat(lesson.question, thinking=False, seed=0).answer == lesson.answer
    cut = thinker.chat(lesson.question, budget=10, seed=0, max_new_tokens=200)
    assert (cut.answer, cut.thinking_tokens) == (lesson.answer, 10)
