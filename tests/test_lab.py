import copy
import pickle
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab import Lab, Sampling
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.errors import HookError, LabError, RecordingError
from qwen3lab.loading import from_transformers
from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny.world.tokenizer import EARLY_STOP, N_VOCAB
from tests.reference import hf_random, small_config

CONFIG = small_config(d_vocab=N_VOCAB, n_ctx=160, moe_layers=(0, 2))
ASKED = "3+2=?"
TALK = [{"role": "user", "content": ASKED}]


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    model = Qwen3(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    return Lab(model, tiny_tokenizer, "small")


class Script:
    """An edit of the logits that makes the model generate this text."""

    def __init__(self, lab, text):
        self.ids = lab.tokenizer.encode(text, add_special_tokens=False)
        self.passes = 0

    def __call__(self, logits, name):
        """The most likely token has log-probability log(e^2 / (e^2 + vocab - 1))."""
        wanted = self.ids[min(self.passes, len(self.ids) - 1)]
        self.passes += 1
        out = torch.zeros_like(logits)
        out[..., wanted] = 2.0
        return out

    @property
    def edits(self):
        return {"hook_unembed": self}


THINKS = "<think>\n3+4->7\n</think>\n\n7<|im_end|>"


def replied(lab, text, question=ASKED, **options):
    edits = Script(lab, text).edits
    return lab.chat(question, sampling=Sampling.greedy(), edits=edits, **options)


# Recording


def test_a_recording_has_tokens_logits_attention_and_routing(lab):
    rec = lab.record(ASKED)
    assert "".join(rec.tokens) == ASKED
    with torch.no_grad():
        expected = lab.model(torch.tensor([rec.token_ids.tolist()]))[0]
    torch.testing.assert_close(rec.logits, expected)
    n = len(rec.tokens)
    assert rec.attention[-1, 2].shape == (n, n)
    assert rec.routing.experts.shape == (2, n, 2)
    assert rec.model_name == "small"


def test_text_ids_and_messages_are_recorded(lab):
    ids = lab.token_ids(TALK)
    by_ids, by_talk = lab.record(ids), lab.record(TALK)
    assert by_talk.token_ids.tolist() == ids
    assert by_ids.logits.equal(by_talk.logits)
    assert lab.record(torch.tensor(ids)).logits.equal(by_talk.logits)


def test_a_batch_recording_equals_single_recordings(lab):
    prompts = [ASKED, TALK, [5, 6], "1"]
    together = lab.record_batch(prompts, capture="*resid_post")
    for prompt, rec in zip(prompts, together, strict=True):
        alone = lab.record(prompt, capture="*resid_post")
        assert rec.tokens == alone.tokens
        torch.testing.assert_close(rec.logits, alone.logits, atol=1e-5, rtol=1e-5)
        name = "blocks.2.hook_resid_post"
        torch.testing.assert_close(rec[name], alone[name], atol=1e-5, rtol=1e-5)
        assert rec.routing.experts.equal(alone.routing.experts)
        torch.testing.assert_close(
            rec.attention.pattern(1), alone.attention.pattern(1), atol=1e-5, rtol=1e-5
        )
    assert lab.record_batch([]) == []


def test_an_edit_changes_later_activations_and_only_its_own_run(lab):
    before = lab.record(ASKED).logits
    name = "blocks.1.hook_resid_post"
    changed = lab.record(ASKED, edits={name: lambda value, name: value * 2}, capture=name)
    assert not torch.allclose(changed.logits, before)
    torch.testing.assert_close(changed[name], 2 * lab.record(ASKED, capture=name)[name])
    assert lab.record(ASKED).logits.equal(before)


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_a_failed_edit_leaves_the_model_unchanged(lab, error):
    def fail(value, name):
        raise error

    before = lab.record(ASKED).logits
    with pytest.raises(type(error)):
        lab.record(ASKED, edits={"blocks.1.hook_resid_mid": fail})
    assert lab.record(ASKED).logits.equal(before)
    assert not any(module._forward_hooks for module in lab.model.modules())


def test_a_recording_contains_the_edited_pattern(lab):
    def uniform(pattern, name):
        seen = torch.ones_like(pattern).tril()
        return seen / seen.sum(-1, keepdim=True)

    rec = lab.record([4, 5, 6], edits={"blocks.1.attn.hook_pattern": uniform})
    expected = torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(rec.attention[1, 3], expected)


def test_unknown_hooks_are_refused_before_the_run(lab):
    with pytest.raises(HookError, match="hook_resid_post"):
        lab.record(ASKED, capture="blocks.1.hook_residpost")
    with pytest.raises(HookError, match=r"blocks\.9"):
        lab.record(ASKED, edits={"blocks.9.hook_resid_pre": lambda value, name: None})


# Generation


def test_greedy_text_equals_that_of_transformers(tiny_tokenizer, tmp_path):
    model = Qwen3(CONFIG)
    model.init_weights(torch.Generator().manual_seed(3), std=0.2)
    save_checkpoint(model, tmp_path)
    hf = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    lab = Lab(model, tiny_tokenizer)
    ids = torch.tensor([lab.token_ids(ASKED)])
    with torch.no_grad():
        out = hf.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    found = lab.generate(ASKED, max_new_tokens=40)
    assert found.token_ids == out[0, ids.shape[1] :].tolist()


def test_a_generation_has_logprobs_and_entropy(lab):
    found = lab.generate(ASKED, max_new_tokens=6)
    with torch.no_grad():
        logits = lab.model(torch.tensor([found.prompt_ids + found.token_ids]))[0]
    start = len(found.prompt_ids) - 1
    logprobs = logits[start : start + 6].log_softmax(-1)
    expected = logprobs[torch.arange(6), torch.tensor(found.token_ids)]
    torch.testing.assert_close(found.logprobs, expected, atol=1e-5, rtol=1e-4)
    entropy = torch.distributions.Categorical(logits=logits[start : start + 6]).entropy()
    torch.testing.assert_close(found.entropy, entropy, atol=1e-5, rtol=1e-4)


def test_sampled_text_is_reproducible_with_a_seed(lab):
    hot = Sampling(temperature=2.0)
    one, two, other = (
        lab.generate(ASKED, sampling=hot, seed=seed, max_new_tokens=12) for seed in (7, 7, 8)
    )
    assert one.token_ids == two.token_ids != other.token_ids


def test_a_stop_string_ends_a_text_and_is_not_part_of_it(lab):
    edits = Script(lab, "one two STOP three").edits
    found = lab.generate(ASKED, stop=["STOP"], edits=edits)
    assert (found.text, found.stop) == ("one two ", "string")


def test_think_marks_are_ordinary_tokens_in_plain_generation(lab):
    edits = Script(lab, "<think>STOP").edits
    assert lab.generate(ASKED, stop=["STOP"], edits=edits).text == "<think>"


def test_generation_without_free_positions_is_refused(lab):
    with pytest.raises(ValueError, match="the context has 0 of 160 positions left"):
        lab.generate([5] * 160)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        lab.generate(ASKED, max_new_tokens=0)


def test_generation_stops_at_the_context_length(lab):
    found = lab.generate([5] * 155, max_new_tokens=50, edits=Script(lab, "a b c d e f g h").edits)
    assert (len(found.token_ids), found.stop) == (5, "length")


# Chat


def test_a_reply_is_split_into_thinking_and_answer(lab):
    chat = replied(lab, THINKS)
    assert (chat.thinking, chat.answer, chat.stop) == ("3+4->7", "7", "natural")
    # Expected from the tokenizer, not from the guide's counter: `3 + 4 - > 7` and a line break.
    written = lab.tokenizer.encode("3+4->7\n")
    assert (chat.thinking_tokens, chat.answer_tokens) == (len(written), 1)
    assert not chat.forced.any()


def test_spans_cover_prompt_thinking_and_answer(lab):
    chat = replied(lab, THINKS, record=True)
    rec = chat.recording
    text = {part: "".join(rec.tokens[slice(*span)]) for part, span in rec.spans.items()}
    assert text["prompt"] == lab.tokenizer.decode(chat.prompt_ids)
    assert (text["thinking"], text["answer"]) == ("3+4->7", "7")


def test_the_recording_of_a_chat_equals_that_of_its_complete_text(lab):
    chat = replied(lab, THINKS, record="*resid_post")
    # The script changes logits only, so one pass over the text gives the same activations.
    complete = lab.record(chat.prompt_ids + chat.token_ids, capture="*resid_post")
    assert chat.recording.tokens == complete.tokens
    name = "blocks.2.hook_resid_post"
    torch.testing.assert_close(chat.recording[name], complete[name], atol=1e-4, rtol=1e-4)
    assert chat.recording.routing.experts.equal(complete.routing.experts)
    torch.testing.assert_close(
        chat.recording.attention.pattern(0), complete.attention.pattern(0), atol=1e-5, rtol=1e-4
    )


def test_a_chat_records_without_a_second_pass(lab):
    script = Script(lab, THINKS)
    chat = lab.chat(ASKED, sampling=Sampling.greedy(), edits=script.edits, record=True)
    # The prompt, then each token once; the last token runs only for the recording.
    assert script.passes == 1 + len(chat.token_ids)


def test_a_budget_inserts_the_early_stop_sentence(lab):
    long = "<think>\n" + "1 " * 30
    script = Script(lab, long)
    chat = lab.chat(
        ASKED, budget=4, sampling=Sampling.greedy(), edits=script.edits, max_new_tokens=60
    )
    text = lab.tokenizer.decode(chat.token_ids)
    assert f"{EARLY_STOP}\n</think>\n\n" in text
    assert text.split(EARLY_STOP)[0] == "<think>\n1 1 "
    inserted = [token for token, forced in zip(chat.token_ids, chat.forced, strict=True) if forced]
    assert lab.tokenizer.decode(inserted) == f"{EARLY_STOP}\n</think>\n\n"
    assert chat.thinking_tokens == 4


def test_a_reply_with_cut_thinking_has_the_stop_budget(lab):
    sentence = f"{EARLY_STOP}\n</think>\n\n"
    chat = replied(lab, f"<think>\n1 2{sentence}7<|im_end|>", budget=3)
    assert (chat.answer, chat.stop) == ("7", "budget")


@pytest.mark.parametrize(
    ("question", "thinking", "empty"),
    [
        (ASKED, None, False),
        (ASKED, False, True),
        (f"{ASKED} /no_think", None, False),
        (f"{ASKED} /no_think", True, False),
        (f"{ASKED} /think", False, True),
        (
            [{"role": "user", "content": "a /no_think"}, {"role": "user", "content": "/think"}],
            None,
            False,
        ),
    ],
)
def test_without_thinking_the_prompt_ends_with_an_empty_block(lab, question, thinking, empty):
    chat = replied(lab, "7<|im_end|>", question, thinking=thinking)
    assert lab.tokenizer.decode(chat.prompt_ids).endswith("<think>\n\n</think>\n\n") is empty
    assert (chat.answer, chat.thinking) == ("7", "")


def test_the_published_sampling_equals_that_of_the_model_card():
    on, off = Sampling.published(thinking=True), Sampling.published(thinking=False)
    assert (on.temperature, on.top_p, on.top_k, on.min_p) == (0.6, 0.95, 20, 0.0)
    assert (off.temperature, off.top_p, off.top_k, off.min_p) == (0.7, 0.8, 20, 0.0)


def test_streamed_steps_concatenate_to_the_reply(lab):
    steps = []
    chat = replied(lab, THINKS, on_step=steps.append)
    assert [step.token_id for step in steps] == chat.token_ids
    text = {
        part: "".join(s.text for s in steps if s.part == part) for part in ("thinking", "answer")
    }
    assert (text["thinking"].strip(), text["answer"].strip()) == ("3+4->7", "7")
    assert [step.logprob for step in steps] == pytest.approx(chat.logprobs.tolist())


def test_cancelling_keeps_the_generated_tokens(lab):
    cancel, steps = threading.Event(), []

    def listen(step):
        steps.append(step)
        if len(steps) == 5:
            cancel.set()

    chat = replied(lab, THINKS, on_step=listen, cancel=cancel, record=True)
    assert (len(chat.token_ids), chat.stop) == (5, "interrupted")
    assert chat.thinking
    assert len(chat.recording.tokens) == len(chat.prompt_ids) + 5


def test_a_keyboard_interrupt_keeps_the_generated_tokens(lab):
    def interrupt(step):
        if step.token_id == lab.tokenizer.encode("4")[0]:
            raise KeyboardInterrupt

    chat = replied(lab, THINKS, on_step=interrupt, record=True)
    assert (chat.thinking, chat.stop) == ("3+4", "interrupted")
    assert len(chat.logprobs) == len(chat.token_ids)
    # The last token was streamed but did not run through the model.
    assert len(chat.recording.tokens) == len(chat.prompt_ids) + len(chat.token_ids) - 1


def test_batched_chats_equal_single_chats(lab):
    hot = Sampling(temperature=1.5)
    questions = [ASKED, "7*3*3+1=?", "1"]
    batch = lab.chat_batch(questions, sampling=hot, seed=5, max_new_tokens=10, record=True)
    for row, (question, chat) in enumerate(zip(questions, batch, strict=True)):
        alone = lab.chat(question, sampling=hot, seed=5 + row, max_new_tokens=10, record=True)
        assert chat.token_ids == alone.token_ids
        assert chat.recording.tokens == alone.recording.tokens
        torch.testing.assert_close(
            chat.recording.attention.pattern(2),
            alone.recording.attention.pattern(2),
            atol=1e-5,
            rtol=1e-4,
        )


def test_a_batch_with_both_thinking_modes_needs_explicit_sampling(lab):
    with pytest.raises(ValueError, match="pass sampling="):
        lab.chat_batch([ASKED, [*TALK, {"role": "assistant", "content": "It is"}]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": -1}, "budget is -1"),
        ({"budget": True}, "budget is True"),
        ({"budget": 2.5}, r"budget is 2\.5"),
        ({"stop": [""]}, "not empty"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5: expected an integer"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
    ],
)
def test_invalid_chat_options_are_refused(lab, options, message):
    with pytest.raises(ValueError, match=message):
        lab.chat(ASKED, **options)


def test_chats_in_several_threads_equal_sequential_chats(lab):
    def talk(out, seed):
        hot = Sampling(temperature=1.5)
        out[seed] = lab.chat(ASKED, sampling=hot, seed=seed, max_new_tokens=12).token_ids

    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=talk, args=(found, seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone: dict[int, list[int]] = {}
    for seed in range(4):
        talk(alone, seed)
    assert found == alone


# Opening


def test_a_lab_wraps_a_transformers_model_in_memory(tiny_tokenizer):
    hf = hf_random("experts")
    lab = Lab.from_transformers(hf, tiny_tokenizer, name="mine")
    ids = [3, 4, 5]
    with torch.no_grad():
        expected = hf(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(lab.record(ids).logits, expected, atol=1e-5, rtol=1e-5)
    assert lab.name == "mine"


def test_a_lab_loads_from_a_folder(tmp_path, tiny_tokenizer):
    model = from_transformers(hf_random("dense"))
    save_checkpoint(model, tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    lab = qwen3lab.load(tmp_path, device="cpu")
    assert lab.record([1, 2]).logits.shape == (2, 97)


def test_a_lab_shows_its_name_and_active_parameters(lab):
    text = repr(lab)
    assert text.startswith("Lab(small: ")
    assert f"{CONFIG.n_active_params:,} active" in text


@pytest.fixture
def overflowing():
    """A lab in which the embedding of `+`, which is tied to its unembedding, is NaN."""
    lab = qwen3lab.load("tiny-moe", device="cpu")
    [plus] = lab.token_ids("+")
    with torch.no_grad():
        lab.model.embed.weight[plus] = torch.nan
    return lab


def test_a_recording_that_is_not_finite_names_the_first_hook_and_token(overflowing):
    with pytest.warns(UserWarning, match=r"blocks.0.attn.hook_rot_q is NaN at token 1 \(float32\)"):
        overflowing.record("3+2*7-1=?")
    with pytest.warns(UserWarning, match=r"hook_unembed is NaN at token 0 of prompt 0"):
        overflowing.record_batch(["3=?", "3*2+1=?"])


def test_a_recording_on_disk_that_is_not_finite_names_the_first_hook_once(overflowing, tmp_path):
    with pytest.warns(UserWarning) as warned:
        overflowing.record_to_disk(["3=?", "3*2+1=?"], tmp_path / "run", progress=False)
    assert [str(each.message).partition(" (")[0] for each in warned] == [
        "blocks.0.attn.hook_rot_q is NaN at token 3 of prompt 1"
    ]


def test_a_value_that_overflows_the_stored_dtype_alone_is_named(tiny_lab):
    large = {"blocks.5.hook_mlp_out": lambda value, name: value + 1e6}
    tiny_lab.record("3+2=?", edits=large, capture="blocks.5.hook_mlp_out")
    with pytest.warns(
        UserWarning, match=r"hook_mlp_out is infinite at token 0 \(float16\), .*5504"
    ):
        tiny_lab.record("3+2=?", edits=large, capture="blocks.5.hook_mlp_out", dtype="float16")


def test_logits_that_rule_tokens_out_are_no_reason_to_warn(tiny_lab):
    edits = {"hook_unembed": lambda value, name: value.index_fill(-1, torch.arange(9), -torch.inf)}
    assert tiny_lab.record("3+2=?", edits=edits).logits.isneginf().any()


# Copies


def test_a_deep_copy_has_weights_of_its_own_and_the_same_numbers():
    lab = qwen3lab.load("tiny-moe", device="cpu")
    expected = lab.record("3+2=?").logits
    copied = copy.deepcopy(lab)
    with torch.no_grad():
        lab.model.embed.weight.zero_()
    assert torch.equal(copied.record("3+2=?").logits, expected)
    assert copied.lock is not lab.lock
    assert copied.chat("3+2=?", seed=0, max_new_tokens=4).token_ids


def test_a_shallow_copy_shares_model_and_lock(lab):
    copied = copy.copy(lab)
    assert copied.model is lab.model and copied.lock is lab.lock


def test_a_lab_is_not_pickled_and_a_streamed_one_not_copied():
    lab = qwen3lab.load("tiny-moe", device="cpu", memory="40MB")
    with pytest.raises(LabError, match=r"tiny-moe cannot be pickled.*call qwen3lab\.load in"):
        pickle.dumps(lab)
    with pytest.raises(LabError, match=r"tiny-moe is streamed from disk, .* load it again"):
        copy.deepcopy(lab)


def test_attention_can_be_left_out_of_a_recording(tiny_lab, tmp_path):
    whole, less = (tiny_lab.record("3+2*7-1=?", attention=each) for each in (True, False))
    layers = range(tiny_lab.config.n_layers)
    names = {f"blocks.{layer}.attn.hook_rot_{x}" for layer in layers for x in "qk"}
    assert set(whole.capture) - set(less.capture) == names and less.attention.layers == ()
    assert all(torch.equal(less.raw(name), whole.raw(name)) for name in less.capture)
    with pytest.raises(RecordingError, match="was not recorded: record again"):
        less.attention[0, 0]
    asked = tiny_lab.record("3+2=?", attention=False, capture="blocks.1.attn.hook_rot_q")
    assert "blocks.1.attn.hook_rot_q" in asked.capture
    (on_disk,) = tiny_lab.record_to_disk(["3+2*7-1=?"], tmp_path, attention=False, progress=False)
    assert on_disk.capture == less.capture
    with pytest.raises(ValueError, match="attention"):
        tiny_lab.record("3+2=?", attention="no")
