"""Small models in the layouts of published ones, made by transformers, against transformers.

Configs have the fields of the published files, with small sizes.
"""

import json
import shutil
import warnings

import pytest
import torch
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.errors import ChatError
from tests.reference import SMALL, SMALL_MOE, random_model

IDS = [5, 60, 7, 31, 9, 33]
QUESTION = [{"role": "user", "content": "3+4=?"}]
SIZES = SMALL | {"vocab_size": 1536}
EXPERTS = SMALL_MOE | {"vocab_size": 1536}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEEPSEEK = (
    "{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}"
    "<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}"
)
LAYOUTS = {
    "DeepSeek-R1-0528-Qwen3-8B": (
        "qwen3",
        SIZES,
        {
            "max_window_layers": 3,
            "rope_theta": 1_000_000,
            "rope_scaling": {
                "attn_factor": 0.8782488562869419,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_type": "yarn",
            },
        },
        DEEPSEEK,
    ),
    "Qwen3Guard-Gen": ("qwen3", SIZES, {"rope_theta": 1_000_000, "rope_scaling": None}, CHATML),
    "Qwen3-Base": ("qwen3", SIZES, {"rope_theta": 1_000_000, "rope_scaling": None}, None),
    "Qwen3-Instruct-2507": (
        "qwen3",
        SIZES,
        {"rope_theta": 5_000_000, "rope_scaling": None, "sliding_window": None},
        CHATML,
    ),
    "Qwen3-Thinking-2507": (
        "qwen3_moe",
        EXPERTS,
        {"rope_theta": 10_000_000, "rope_scaling": None, "mlp_only_layers": []},
        CHATML.replace("assistant\\n", "assistant\\n<think>\\n"),
    ),
    "Qwen3-Coder": (
        "qwen3_moe",
        EXPERTS,
        {
            "qkv_bias": False,
            "rope_scaling": None,
            "rope_theta": 10_000_000,
            "shared_expert_intermediate_size": 0,
            "use_qk_norm": True,
        },
        CHATML,
    ),
    "Qwen3-Reranker": (
        "qwen3",
        SIZES | {"tie_word_embeddings": True},
        {"rope_theta": 1_000_000, "rope_scaling": None},
        CHATML,
    ),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request, tmp_path_factory):
    """The folder of a layout, its template, and the model of transformers that opens it."""
    kind, sizes, published, template = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("layout")
    random_model(kind, sizes).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config | published))
    shutil.copyfile(EMBEDDED / "tiny-dense" / "tokenizer.json", folder / "tokenizer.json")
    settings = json.loads((EMBEDDED / "tiny-dense" / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
    return request.param, folder, template, theirs.eval()


def opened(name, folder):
    if name.startswith("DeepSeek"):
        with pytest.warns(UserWarning, match="'attn_factor'"):  # transformers does not use it.
            return qwen3lab.load(folder, device="cpu", dtype="float32")
    return qwen3lab.load(folder, device="cpu", dtype="float32")


def test_logits_are_those_of_transformers(layout):
    name, folder, _, theirs = layout
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    found = opened(name, folder).record(IDS).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_its_own_template_renders_a_chat_or_the_chat_is_refused(layout):
    name, folder, template, _ = layout
    lab = opened(name, folder)
    if template is None:
        with pytest.raises(ChatError):
            lab.chat(QUESTION, max_new_tokens=2)
        assert len(lab.generate("3+4=", max_new_tokens=2).token_ids) > 0
        return
    rendered = lab.tokenizer.apply_chat_template(
        QUESTION, tokenize=False, add_generation_prompt=True
    )
    expected = lab.tokenizer.encode(rendered, add_special_tokens=False)
    assert lab.token_ids(QUESTION) == expected
    assert lab.tokenizer.decode(expected) == rendered
