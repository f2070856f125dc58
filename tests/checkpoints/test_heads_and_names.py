"""Embedding models, classifiers, and prefixes that training tools leave, against transformers."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import CheckpointError, HeadlessError, HookError
from qwen3lab.loading import from_transformers, load_model
from qwen3lab.recording.recording import Recording
from tests.reference import SMALL, SMALL_MOE, random_model

TEXTS = ["3+4=?", "小明拿着球。", "A longer text of several words, 7+2*3."]
IDS = [5, 60, 7, 31, 9, 33]
KINDS = {"qwen3": SMALL | {"vocab_size": 1536}, "qwen3_moe": SMALL_MOE | {"vocab_size": 1536}}
LABELS = {0: "Safe", 1: "Controversial", 2: "Unsafe"}


def drawn(model):
    """The model with random weights that are large enough to matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values * 0.15 if parameter.ndim > 1 else 1 + 0.3 * values)
    return model.eval()


def saved(folder, kind, build, **fields):
    """Save a random model of `transformers` with a tokenizer that ends each text, as published."""
    config = AutoConfig.for_model(kind, **copy.deepcopy(KINDS[kind]), **fields)
    config._experts_implementation = "eager"
    model = drawn(build.from_config(config, attn_implementation="eager", dtype=torch.float32))
    model.save_pretrained(folder)
    add_tokenizer(folder)
    return model


def add_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(EMBEDDED / "tiny-dense" / name, folder / name)
    stored = json.loads((folder / "tokenizer.json").read_text())
    end = next(t for t in stored["added_tokens"] if t["content"] == "<|endoftext|>")
    stored["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            "<|endoftext|>": {
                "id": "<|endoftext|>",
                "ids": [end["id"]],
                "tokens": ["<|endoftext|>"],
            }
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(stored))


def opened(folder, **options):
    return qwen3lab.load(folder, device="cpu", dtype="float32", **options)


@pytest.fixture(scope="module", params=KINDS)
def embedding(request, tmp_path_factory):
    """A folder as Qwen3-Embedding-8B has it, and the model of transformers."""
    folder = tmp_path_factory.mktemp("embedding")
    model = saved(folder, request.param, AutoModel)
    # Published with the class that the config names, though without its head.
    path = folder / "config.json"
    path.write_text(path.read_text().replace('Model"', 'ForCausalLM"'))
    assert not any(name.startswith("model.") for name in load_file(folder / "model.safetensors"))
    return folder, model


@torch.no_grad()
def hidden(model, ids=IDS):
    return model(torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize("options", [{}, {"memory": "80MB"}])
def test_a_model_without_unembedding_records_what_transformers_computes(embedding, options):
    folder, theirs = embedding
    lab = opened(folder, **options)
    rec = lab.record(IDS, capture=["ln_final.hook_normalized", "blocks.*.hook_resid_post"])
    ours = rec["ln_final.hook_normalized"] * lab.model.ln_final.weight.detach()
    torch.testing.assert_close(ours, hidden(theirs), atol=1e-4, rtol=1e-4)
    assert rec.attention[0, 0].shape == (len(IDS), len(IDS))
    assert "without unembedding" in repr(lab)
    assert lab.config.n_params == sum(p.numel() for p in theirs.parameters())


def test_logits_and_text_of_it_are_refused_in_one_sentence(embedding, tmp_path):
    lab = opened(embedding[0])
    rec = lab.record(IDS)
    asked = [
        lambda: rec.logits,
        lambda: rec.top(3),
        rec.logprobs,
        lambda: lab.generate("3+4=?"),
        lambda: lab.chat("3+4=?"),
        lambda: lab.model.unembedding,
        lambda: lab.record(IDS, capture="hook_unembed"),
    ]
    for ask in asked:
        with pytest.raises(HeadlessError, match=r"no logits and writes no text; .*lab\.embed"):
            ask()
    with pytest.raises(HookError, match="no hook of this model matches"):
        lab.record(IDS, capture="hook_unembed*")
    with pytest.raises(ValueError, match="is no classifier"):
        lab.classify("3+4=?")


def test_its_recordings_are_saved_and_read(embedding, tmp_path):
    lab = opened(embedding[0])
    rec = lab.record(IDS, capture="blocks.*.hook_resid_post")
    rec.save(tmp_path / "run.safetensors")
    again = Recording.load(tmp_path / "run.safetensors", lab=lab)
    assert again.config == lab.config and torch.equal(again.token_ids, rec.token_ids)
    with pytest.raises(HeadlessError):
        _ = again.logits
    [on_disk] = lab.record_to_disk([IDS], tmp_path / "folder", capture="blocks.1.hook_resid_post")
    hook = "blocks.1.hook_resid_post"
    torch.testing.assert_close(on_disk[hook], rec[hook], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("instruction", [None, "Find the passage"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_embeddings_are_those_of_the_published_recipe(embedding, side, instruction):
    folder, theirs = embedding
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
    tokenizer.pad_token = "<|endoftext|>"
    start = f"Instruct: {instruction}\nQuery:" if instruction else ""
    batch = tokenizer([start + text for text in TEXTS], padding=True, return_tensors="pt")
    with torch.no_grad():
        states = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"]
    last = mask.shape[1] - 1 if side == "left" else mask.sum(dim=1) - 1
    pooled = states[torch.arange(len(states)), last]
    expected = torch.nn.functional.normalize(pooled, p=2, dim=1)
    for at_once in (1, 2, 16):
        found = opened(folder).embed(TEXTS, instruction=instruction, at_once=at_once)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert opened(folder).embed([]).shape == (0, states.shape[-1])


def test_one_text_in_place_of_a_list_is_refused(embedding):
    with pytest.raises(ValueError, match="texts"):
        opened(embedding[0]).embed("3+4=?")


def test_tied_embeddings_give_the_logits_of_transformers(tmp_path):
    saved(tmp_path, "qwen3", AutoModel, tie_word_embeddings=True)  # As Qwen3-Embedding-0.6B.
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(opened(tmp_path).record(IDS).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module", params=KINDS)
def classifier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    fields = {"id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
    return folder, saved(folder, request.param, AutoModelForSequenceClassification, **fields)


@pytest.mark.parametrize("options", [{}, {"memory": "80MB"}])
def test_a_classifier_gives_the_scores_of_transformers(classifier, options):
    folder, theirs = classifier
    lab = opened(folder, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        with torch.no_grad():
            expected = theirs(**tokenizer(text, return_tensors="pt")).logits[0]
        found = lab.classify(text)
        assert found.labels == tuple(LABELS.values()) and "Unsafe" in repr(found)
        torch.testing.assert_close(found.scores, expected, atol=1e-4, rtol=1e-4)
    assert lab.config.n_params == sum(p.numel() for p in theirs.parameters())
    assert "a classifier" in repr(lab)
    with pytest.raises(HeadlessError, match=r"a classifier.*lab\.classify"):
        lab.chat("3+4=?")


def test_a_classifier_survives_saving_and_comes_from_memory(classifier, tmp_path):
    folder, theirs = classifier
    lab = opened(folder)
    save_checkpoint(lab.model, tmp_path / "copy")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "copy").state_dict()
    assert again.keys() == theirs.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in theirs.state_dict().items())
    copied = from_transformers(theirs)
    assert copied.config.labels == tuple(LABELS.values())
    assert torch.equal(copied.score.weight, theirs.score.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("score.weight"), "score.weight is missing"),
        (lambda t: t.update({"score.weight": torch.zeros(2, 64)}), "score.weight in .* has shape"),
        (lambda t: t.update({"score.bias": torch.zeros(3)}), "holds score.bias"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(1536, 64)}), "holds lm_head.weight"),
    ],
)
def test_a_classifier_with_other_tensors_is_refused(classifier, tmp_path, change, message):
    folder = rewritten(classifier[0], tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def rewritten(folder, target, change):
    target = target / "changed"
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    random_model("qwen3", SMALL).save_pretrained(folder)
    return folder


CERTAIN = {
    "compiled": "_orig_mod.{}".format,
    "distributed": "module.{}".format,
    "peft, merged": "base_model.model.{}".format,
    "distributed and compiled": "module._orig_mod.{}".format,
    "a compiled part": lambda n: n.replace("model.", "model._orig_mod.", 1),
    "compiled layers": lambda n: n.replace("layers.0.", "layers.0._orig_mod."),
    "sharded attention": lambda n: n.replace(".self_attn", "._fsdp_wrapped_module.self_attn"),
    "checkpointed": lambda n: n.replace(".mlp.", "._checkpoint_wrapped_module.mlp."),
}


def renamed(rename):
    def change(tensors):
        for name in list(tensors):
            tensors[rename(name)] = tensors.pop(name)

    return change


@pytest.mark.parametrize("wrapper", CERTAIN)
def test_prefixes_of_wrappers_are_removed(plain, tmp_path, wrapper):
    folder = rewritten(plain, tmp_path, renamed(CERTAIN[wrapper]))
    expected = load_model(plain)
    for options in ({}, {"memory": "80MB"}):
        found = load_model(folder, **options)
        with torch.no_grad():
            assert torch.equal(found(torch.tensor([IDS])), expected(torch.tensor([IDS])))


def test_wrappers_around_a_model_without_head_are_removed(embedding, tmp_path):
    folder = rewritten(embedding[0], tmp_path, renamed("module.{}".format))
    assert torch.equal(opened(folder).embed(TEXTS), opened(embedding[0]).embed(TEXTS))


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({f"module.{Q}.weight": t.pop(f"{Q}.weight")}),
            "'module.' of a wrapper",
        ),
        (renamed(lambda n: f"module.{n}" if "layers.0" in n else f"_orig_mod.{n}"), "of a wrapper"),
        (renamed("student.{}".format), "'student.' of a wrapper"),
        (
            lambda t: t.update({f"{Q}._orig_mod.weight": t[f"{Q}.weight"].clone()}),
            f"holds {Q}._orig_mod.weight",
        ),
        (
            renamed(lambda n: f"base_model.model.{n}".replace("q_proj.", "q_proj.base_layer.")),
            "of an adapter such as LoRA",
        ),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(2, 48)}),
            "of an adapter such as LoRA",
        ),
    ],
)
def test_names_whose_meaning_is_not_certain_are_refused(plain, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_model(rewritten(plain, tmp_path, change))
