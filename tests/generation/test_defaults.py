import json
import os

import pytest
from transformers import GenerationConfig, Qwen3Config

from qwen3lab import Sampling
from qwen3lab.errors import ConfigError
from qwen3lab.generation.defaults import ReplyDefaults

# generation_config.json of the published models, as of 2025.
HYBRID = {
    "bos_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "pad_token_id": 151643,
    "temperature": 0.6,
    "top_k": 20,
    "top_p": 0.95,
    "transformers_version": "4.51.0",
}
INSTRUCT_2507 = HYBRID | {"temperature": 0.7, "top_p": 0.8}
BASE = {"do_sample": False, "eos_token_id": 151643}

INSTRUCT_CARD = Sampling(temperature=0.7, top_k=20, top_p=0.8)
THINKING_CARD = Sampling(temperature=0.6, top_k=20, top_p=0.95)


@pytest.mark.parametrize(
    ("fields", "thinking", "direct"),
    [
        pytest.param(HYBRID, THINKING_CARD, INSTRUCT_CARD, id="hybrid"),
        pytest.param(INSTRUCT_2507, INSTRUCT_CARD, INSTRUCT_CARD, id="instruct"),
        pytest.param({}, THINKING_CARD, INSTRUCT_CARD, id="no fields"),
        pytest.param(BASE, Sampling.greedy(), Sampling.greedy(), id="base"),
        # transformers 5 fills missing fields with these values.
        pytest.param({"temperature": 0.3}, *[Sampling(0.3, 50, 1.0)] * 2, id="missing fields"),
        pytest.param({"do_sample": True}, *[Sampling(1.0, 50, 1.0)] * 2, id="only do_sample"),
        pytest.param({"top_k": 0, "temperature": 2}, *[Sampling(2.0)] * 2, id="no top-k"),
    ],
)
def test_sampling_is_that_of_the_file_and_the_model_cards(tmp_path, fields, thinking, direct):
    (tmp_path / "generation_config.json").write_text(json.dumps(fields))
    defaults = ReplyDefaults.from_folder(tmp_path)
    assert defaults.sampling(thinking=True) == thinking
    assert defaults.sampling(thinking=False) == direct


@pytest.mark.parametrize(
    ("value", "ends"), [([5, 6], {5, 6}), (7, {7}), (None, set()), ([], set())]
)
def test_end_tokens_are_one_id_or_several(value, ends):
    assert ReplyDefaults.from_fields({"eos_token_id": value}).ends == ends


def test_a_folder_without_the_file_has_no_defaults(tmp_path):
    assert ReplyDefaults.from_folder(tmp_path) == ReplyDefaults()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not readable JSON"),
        ("[]", "expected an object"),
        ('{"eos_token_id": "a"}', "eos_token_id as 'a': expected token ids"),
        ('{"eos_token_id": [true]}', "expected token ids"),
        ('{"temperature": "hot"}', "temperature as 'hot': expected a number"),
        ('{"top_p": 1.5}', "top_p is 1.5: expected a share"),
        ('{"top_k": 2.5}', "top_k as 2.5: expected a whole number"),
        ('{"top_k": Infinity}', "top_k as inf: expected a number up to"),
        ('{"top_k": %s}' % 10**400, "expected a number up to"),
        ('{"temperature": %s}' % 10**400, "expected a number up to"),
        ('{"do_sample": "false"}', "do_sample as 'false': expected true or false"),
        ('{"temperature": NaN}', "temperature is nan"),
        ('{"max_new_tokens": 0}', "max_new_tokens as 0: expected a number of tokens from 1"),
        ('{"max_new_tokens": "9"}', "max_new_tokens as '9': expected a number of tokens"),
        ('{"max_new_tokens": true}', "max_new_tokens as True: expected a number of tokens"),
    ],
)
def test_values_outside_their_range_are_refused(tmp_path, text, message):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        ReplyDefaults.from_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_place_of_the_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "generation_config.json")
    with pytest.raises(ConfigError, match=r"generation_config.json is not a regular file"):
        ReplyDefaults.from_folder(tmp_path)


def test_settings_that_are_not_implemented_are_named_in_a_warning():
    with pytest.warns(UserWarning, match=r"repetition_penalty=1\.05.*replies ignore it"):
        ReplyDefaults.from_fields({"repetition_penalty": 1.05, "num_beams": 1})
    ReplyDefaults.from_fields({"repetition_penalty": 1.0, "suppress_tokens": []})


@pytest.mark.parametrize(
    "field",
    [
        {"max_length": 2048},
        {"min_new_tokens": 5},
        {"forced_eos_token_id": 7},
        {"stop_strings": ["x"]},
        {"begin_suppress_tokens": [3]},
        {"sequence_bias": [[[1], 2.0]]},
        {"exponential_decay_length_penalty": [5, 1.2]},
        {"top_h": 0.4},
        {"a_field_of_a_later_version": 1},
    ],
)
def test_every_field_that_is_not_used_is_named(field):
    (name,) = field
    with pytest.warns(UserWarning, match=f"sets {name}=.*replies ignore it"):
        ReplyDefaults.from_fields(HYBRID | field)


def test_what_transformers_writes_by_itself_needs_no_warning():
    written = GenerationConfig(**HYBRID).to_dict()
    written |= {"use_cache": True, "min_length": 0, "num_return_sequences": 1}
    assert ReplyDefaults.from_fields(written).published == THINKING_CARD
    assert (
        ReplyDefaults.from_fields(
            GenerationConfig._get_default_generation_params() | {"max_length": None}
        ).published
        == Sampling.greedy()
    )


@pytest.mark.parametrize(("value", "ends"), [([5, 6], {5, 6}), (7, {7}), (None, set())])
def test_without_the_file_the_end_tokens_are_those_of_the_config(tmp_path, value, ends):
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": value}))
    settings = GenerationConfig.from_model_config(Qwen3Config(eos_token_id=value))
    taken = settings.eos_token_id
    assert ends == set(taken if isinstance(taken, list) else [] if taken is None else [taken])
    assert ReplyDefaults.from_folder(tmp_path).ends == ends
    (tmp_path / "generation_config.json").write_text("{}")
    assert ReplyDefaults.from_folder(tmp_path).ends == frozenset()
