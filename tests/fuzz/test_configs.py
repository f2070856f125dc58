"""config.json in all its spellings and with damage, against transformers on the same folder.

`model_folders.check_loading` states what may come out. generation_config.json and
tokenizer_config.json are compared with what transformers reads from them.
"""

import json
import shutil
import warnings
from functools import cache
from typing import Any

from hypothesis import given, strategies as st
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils import logging

from qwen3lab.config.known_fields import known_fields
from qwen3lab.config.rope import YARN_KEYS
from qwen3lab.generation.defaults import ReplyDefaults
from qwen3lab.generation.sampling import Sampling
from qwen3lab.text.tokenizer import encode_text, end_ids, open_tokenizer, token_texts
from qwen3lab.tiny.world.tokenizer import write_tokenizer
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.model_folders import (
    BASES,
    CONFIG,
    Files,
    base,
    bounded,
    check_loading,
    with_json,
    written,
)
from tests.fuzz.mutations import ODD_VALUES, byte_mutations, json_mutations, mostly

NAMES = st.sampled_from(list(BASES))

NUMBERS = [0, 1, 2, 3, 4, 8, 16, 24, 32, 60, 64, 0.0, 1.0, 2.0, 0.5, 4.0, 1e-6, 1e-5, 1e4, 5e5, "2"]
WORDS = [
    *("default", "yarn", "linear", "dynamic", "llama3", "longrope", "proportional", "silu", "gelu"),
    *("swish", "float32", "torch.float32", "bfloat16", "auto", "sdpa", "eager", "qwen3"),
    *("qwen3_moe", "qwen2", "full_attention", "sliding_attention"),
]
LISTS = [[0], [1], [0, 1], [-1], [2], [1, 1], [True], [1.0], ["full_attention"] * 2]
LISTS += [["full_attention"], ["full_attention", "sliding_attention"], ["qwen3"]]
VALUES = st.one_of(
    *(st.sampled_from(values) for values in (NUMBERS, NUMBERS, WORDS, LISTS, ODD_VALUES)),
    st.booleans(),
    st.none(),
    st.floats(1e-7, 1e7),
)
KEYS = sorted(known_fields({}, is_moe=True) - {"auto_map"})
ROPE_KEYS = sorted(YARN_KEYS | {"rope_theta", "attn_factor", "short_factor", "low_freq_factor"})

PLAUSIBLE: dict[str, list[Any]] = {
    "rope_type": ["default", "yarn"],
    "type": ["default", "yarn"],
    "rope_theta": [1e4, 10_000, 1e4, 1e4, 1.5],
    "partial_rotary_factor": [1, 1.0, 0.5],
    "factor": [1, 1.0, 2, 4.0, 1.5, 0.5],
    "original_max_position_embeddings": [8, 16, 32, 64, 16.0],
    "attention_factor": [1, 1.0, 0.7, 1.7, 0],
    "beta_fast": [32, 16.0, 2],
    "beta_slow": [1, 2.0, 32],
    "mscale": [1.0, 0.7, 0],
    "mscale_all_dim": [1.0, 0.5, 0],
    "truncate": [True, False, None],
    "hidden_size": [16, 8, 2**24],
    "num_hidden_layers": [1, 2, 3, 4096],
    "intermediate_size": [24, 16, 2**24],
    "moe_intermediate_size": [16, 24, 2**24],
    "vocab_size": [60, 59, 61, 2**24],
    "num_attention_heads": [1, 2, 4],
    "num_key_value_heads": [1, 2],
    "head_dim": [4, 8, 16],
    "num_experts": [4, 2, 5, 2**14],
    "num_local_experts": [4, 2, 5, 2**14],
    "num_experts_per_tok": [1, 2, 3, 4, 5],
    "decoder_sparse_step": [1, 2, 3],
    "mlp_only_layers": [[], [0], [1], [0, 1], [-1], [7]],
    "norm_topk_prob": [True, False],
    "tie_word_embeddings": [True, False],
    "rms_norm_eps": [1e-6, 1e-5, 1e-2, 1],
    "max_position_embeddings": [16, 64, 128],
    "model_type": ["qwen3", "qwen3_moe"],
    "hidden_act": ["silu", "swish", "gelu"],
    "layer_types": [["full_attention"] * n for n in range(4)],
    "sliding_window": [4, 4096],
    "max_window_layers": [0, 1, 2],
    "dtype": ["float32", "bfloat16", "float16", "float64", "auto"],
    "torch_dtype": ["float32", "bfloat16", "float16", "float64", "auto"],
}


def value_of(key: str) -> st.SearchStrategy[Any]:
    """Values that a key may have in the world, and values that it may not."""
    plausible = PLAUSIBLE.get(key)
    if plausible is None:
        return VALUES
    return mostly(st.sampled_from(plausible), VALUES)


@st.composite
def rope_group(draw: Any) -> dict[str, Any]:
    """The settings of a rotary embedding, of either kind and in either spelling."""
    group: dict[str, Any] = {
        draw(st.sampled_from(["rope_type", "type"])): draw(st.sampled_from(["yarn", "default"]))
    }
    if draw(st.booleans()):
        group["rope_theta"] = draw(value_of("rope_theta"))
    if draw(st.integers(0, 4)):
        group["factor"] = draw(value_of("factor"))
    for key in draw(st.lists(st.sampled_from(ROPE_KEYS), max_size=3)):
        group[key] = draw(value_of(key))
    return group


@st.composite
def with_rope(draw: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with their rotary embedding spelled in another way."""
    fields = {key: value for key, value in fields.items() if key != "rope_parameters"}
    groups = mostly(rope_group(), VALUES)
    spelling = draw(st.sampled_from(["rope_scaling", "rope_parameters", "both", "theta"]))
    if spelling in ("rope_scaling", "rope_parameters"):
        fields[spelling] = draw(groups)
    elif spelling == "both":
        fields["rope_scaling"] = draw(groups)
        fields["rope_parameters"] = draw(mostly(st.just(fields["rope_scaling"]), groups))
    if draw(st.integers(0, 3)) or spelling == "theta":
        fields["rope_theta"] = draw(value_of("rope_theta"))
    for key in draw(st.lists(st.sampled_from(ROPE_KEYS), max_size=1)):
        fields[key] = draw(value_of(key))
    return fields


@st.composite
def with_values(draw: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with one to three of the known keys set or removed."""
    changed = dict(fields)
    keys = st.sampled_from(KEYS) | st.sampled_from([key for key in KEYS if key in PLAUSIBLE])
    for key in draw(st.lists(keys, min_size=1, max_size=3)):
        if draw(st.integers(0, 3)):
            changed[key] = draw(value_of(key))
        else:
            changed.pop(key, None)
    return changed


def config(name: str) -> dict[str, Any]:
    """The fields of a base folder's config.json."""
    return json.loads(base(name)[CONFIG])


@fuzz("configs", 0.35)
@given(name=NAMES, data=st.data())
def test_known_keys_with_other_values_give_the_logits_of_transformers(name, data):
    fields = data.draw(with_values(config(name)))
    check_loading(with_json(base(name), CONFIG, fields))


@fuzz("configs", 0.2)
@given(name=NAMES, data=st.data())
def test_rope_in_any_spelling_gives_the_logits_of_transformers(name, data):
    fields = data.draw(with_rope(config(name)))
    check_loading(with_json(base(name), CONFIG, fields))


@fuzz("configs", 0.15)
@given(name=NAMES, data=st.data())
def test_damaged_fields_give_the_logits_of_transformers(name, data):
    fields = data.draw(json_mutations(config(name), changes=3))
    check_loading(with_json(base(name), CONFIG, fields))


@fuzz("configs", 0.1)
@given(name=NAMES, change=byte_mutations())
def test_damaged_bytes_of_a_config_give_the_logits_of_transformers(name, change):
    files = base(name)
    check_loading({**files, CONFIG: change(files[CONFIG])})


GENERATION = "generation_config.json"
SAMPLING = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0}
USED = ["eos_token_id", "do_sample", *SAMPLING]
REPLIES: dict[str, Any] = {
    "bos_token_id": 1,
    "do_sample": True,
    "eos_token_id": [2, 1],
    "pad_token_id": 1,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.95,
    "transformers_version": "4.51.0",
}
REPLY_VALUES: dict[str, list[Any]] = {
    "do_sample": [True, False],
    "eos_token_id": [2, [2], [2, 1], [], 2.0, [True], "2", -1],
    "temperature": [0.7, 1, 2, 0, 0.0, -1],
    "top_k": [0, 1, 20, 50, 20.0, -1],
    "top_p": [1, 1.0, 0.8, 0, 1.1],
    "min_p": [0, 0.1, 1, 1.5],
    "repetition_penalty": [1, 1.05],
    "max_new_tokens": [16, 0],
    "num_beams": [1, 2],
}


@st.composite
def reply_fields(draw: Any) -> dict[str, Any]:
    """The fields of a generation_config.json, with usual and odd values."""
    fields = dict(REPLIES)
    for key in draw(st.lists(st.sampled_from(sorted(REPLY_VALUES)), min_size=1, max_size=3)):
        fields[key] = draw(mostly(st.sampled_from(REPLY_VALUES[key]), VALUES))
        if draw(st.integers(0, 3)) == 0:
            del fields[key]
    return fields


@fuzz("configs", 0.1)
@given(fields=reply_fields() | json_mutations(REPLIES))
def test_reply_defaults_are_those_that_transformers_reads(fields):
    files = with_json({}, GENERATION, fields)
    with written(files) as folder, refusable() as outcome, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome.value = ReplyDefaults.from_folder(folder)
    if outcome.refusal is not None:
        assert GENERATION in outcome.refusal
        return
    theirs = their_replies(fields) or their_replies({k: fields[k] for k in USED if k in fields})
    assert theirs is not None, "transformers refuses the file"
    ends = theirs.eos_token_id
    assert outcome.value.ends == {*(ends if isinstance(ends, list) else [ends])} - {None}
    if theirs.do_sample is False:
        assert outcome.value.published == Sampling.greedy()
    elif outcome.value.published is not None:
        read = {name: getattr(theirs, name) for name in SAMPLING}
        read = {name: SAMPLING[name] if v is None else float(v) for name, v in read.items()}
        assert outcome.value.published == Sampling(**read | {"top_k": int(read["top_k"]) or None})
    else:
        assert not any(fields.get(name) for name in SAMPLING)


def their_replies(fields: dict[str, Any]) -> GenerationConfig | None:
    """The settings that transformers reads, or None where it refuses them."""
    with written(with_json({}, GENERATION, fields)) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.set_verbosity(logging.CRITICAL)
        try:
            return GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception:
            return None


TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEXT = "The red cat sees 12 + 30.\n<|im_start|>user ＣＡＦÉ ☃"


@cache
def tokenizer_files() -> Files:
    """The files of the embedded models' tokenizer."""
    with written({}) as folder:
        pass
    folder.mkdir()
    write_tokenizer(folder)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    shutil.rmtree(folder)
    return files


@fuzz("configs", 0.1)
@given(data=st.data())
def test_a_damaged_tokenizer_reads_as_in_transformers_or_is_refused(data):
    files = dict(tokenizer_files())
    if data.draw(st.integers(0, 3)):
        fields = json.loads(files[TOKENIZER_CONFIG])
        files = with_json(files, TOKENIZER_CONFIG, data.draw(json_mutations(fields, changes=3)))
    else:
        name = data.draw(st.sampled_from(sorted(files)))
        files[name] = data.draw(byte_mutations())(files[name])
    with written(files) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with refusable() as outcome, bounded():
            tokenizer = open_tokenizer(folder)
            ids = encode_text(tokenizer, TEXT)
            end_ids(tokenizer)
            outcome.value = ids, token_texts(tokenizer, ids)
        if outcome.refusal is not None:
            assert str(folder) in outcome.refusal
            return
        theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        ids, texts = outcome.value
        assert ids == theirs.encode(TEXT, add_special_tokens=False)
        assert len(texts) == len(ids)
