"""Chats as people ask for them: templates, continued replies, stop strings and second thoughts."""

import copy
import signal
from dataclasses import replace

import pytest
import torch

from qwen3lab import Lab, Recording, Sampling
from qwen3lab.errors import ChatError
from qwen3lab.experiments.effects import error_rates
from qwen3lab.generation.batch_writer import finish_chat
from qwen3lab.generation.defaults import ReplyDefaults
from qwen3lab.model.transformer import Qwen3
from qwen3lab.thinking import Exercise, sweep
from qwen3lab.tiny.world.tokenizer import EARLY_STOP
from qwen3lab.widgets import Explorer, ThinkingExplorer
from qwen3lab.widgets.explorers.chat_compute import progress
from tests.test_lab import ASKED, CONFIG, TALK, THINKS, Script, replied


def small_lab(tokenizer, **options):
    model = Qwen3(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0), std=0.2)
    return Lab(model, tokenizer, "small", **options)


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    return small_lab(tiny_tokenizer)


HEAD = "{{- '<|im_start|>assistant\\n' -}}"
NO_SWITCH = {"thinking-2507": f"{HEAD}{{{{- '<think>\\n' -}}}}", "no switch": HEAD}


@pytest.fixture(scope="module", params=NO_SWITCH)
def always(request, tiny_tokenizer):
    """A lab whose template has no switch for thinking, and the start of the reply that thinks."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    head = tokenizer.chat_template.rpartition("{%- if add_generation_prompt -%}")[0]
    tokenizer.chat_template = head + NO_SWITCH[request.param]
    return small_lab(tokenizer), "" if request.param == "thinking-2507" else "<think>\n"


LONG = "1 2 3 4 5 6 7 8\n</think>\n\n9<|im_end|>"


def test_a_budget_holds_where_the_template_has_no_switch(always):
    lab, start = always
    with pytest.warns(UserWarning, match="no switch for thinking"):
        chat = replied(lab, start + LONG, budget=3, thinking=False)
    asked = replied(lab, start + LONG, budget=3)
    for reply in (chat, asked, replied(lab, start + LONG, f"{ASKED} /no_think", budget=3)):
        assert (reply.thinking_tokens, reply.forced.any().item()) == (3, True)
        assert reply.thinking.startswith("1 2")
    assert chat.prompt_ids == asked.prompt_ids


@pytest.mark.filterwarnings("ignore:the chat template has no switch")
def test_a_reply_that_thinks_all_the_same_is_sampled_as_thinking(always):
    lab, _ = always
    found = lab.chat(ASKED, thinking=False, seed=3, max_new_tokens=12)
    wanted = lab.chat(ASKED, sampling=Sampling.published(thinking=True), seed=3, max_new_tokens=12)
    assert found.token_ids == wanted.token_ids


@pytest.mark.filterwarnings("ignore:the chat template has no switch")
def test_explorers_hold_the_budget_and_say_what_happened(always, monkeypatch):
    lab, start = always
    edits = Script(lab, start + LONG)

    def chat(question, **options):
        edits.passes = 0
        return Lab.chat(lab, question, edits=edits.edits, **options)

    monkeypatch.setattr(lab, "chat", chat)
    explorer = ThinkingExplorer(lab, question=ASKED, thinking=False, budget=3)
    direct = explorer.run()
    assert direct.thinking_tokens == 3
    assert progress(explorer.state).thinks, "the label says that the model thought"
    explorer.state.thinking = True
    explorer.run()
    assert explorer.state.direct_reply.thinking_tokens == 3
    explorer.open()
    replies = explorer.view.views["thinking"].replies.value
    assert "with thinking all the same" in replies and "without thinking" not in replies
    explorer.close()


@pytest.mark.filterwarnings("ignore:the chat template has no switch")
def test_an_explorer_samples_as_published_for_the_mode_of_the_prompt(always, monkeypatch):
    lab, _ = always
    asked = []
    monkeypatch.setattr(lab, "chat", lambda *_, **options: asked.append(options) or 1 / 0)
    explorer = Explorer(lab, question=ASKED, thinking=False)
    explorer.state.greedy, explorer.state.temperature = False, 0.9
    with pytest.raises(ZeroDivisionError):
        explorer.run()
    published = Sampling.published(thinking=True)
    assert asked[0]["sampling"] == replace(published, temperature=0.9)


def test_a_sweep_cannot_answer_at_once_without_a_switch(always):
    lab, _ = always
    with pytest.raises(ValueError, match=r"has no switch for thinking.*pass at_once=False"):
        sweep(lab, [Exercise("1", "1")], [2], progress=False)
    found = sweep(lab, [Exercise("1", "1")], [2], at_once=False, answer_tokens=4, progress=False)
    assert found.attempts[0].at_once is None


@pytest.fixture(scope="module")
def never(tiny_tokenizer):
    """A lab whose template neither asks for thinking nor treats it, as that of Instruct-2507."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    turn = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    tokenizer.chat_template = f"{{%- for m in messages %}}{turn}{{%- endfor %}}{HEAD}"
    return small_lab(tokenizer)


def test_a_sweep_needs_a_template_that_makes_the_model_think(never):
    with pytest.raises(ValueError, match="does not make the model think"):
        sweep(never, [Exercise("1", "1")], [2], at_once=False, progress=False)


def test_a_mode_that_the_template_cannot_give_is_named_in_a_warning(never):
    with pytest.warns(UserWarning, match="thinking=True changes nothing"):
        asked = never.chat(ASKED, thinking=True, max_new_tokens=1)
    assert asked.prompt_ids == never.chat(ASKED, max_new_tokens=1).prompt_ids


@pytest.mark.parametrize(
    ("begun", "asked", "part"), [("<think>\n3+2", False, "thinking"), ("It is", True, "answer")]
)
def test_a_mode_that_a_begun_reply_has_decided_is_named_in_a_warning(lab, begun, asked, part):
    begun = "<think>\n\n</think>\n\n" + begun if asked else begun
    talk = [*TALK, {"role": "assistant", "content": begun}]
    with pytest.warns(UserWarning, match=f"is continued, ends within its {part}"):
        lab.chat(talk, thinking=asked, max_new_tokens=1)


def test_a_budget_that_cannot_hold_is_refused(tiny_tokenizer, monkeypatch):
    lab = small_lab(tiny_tokenizer)
    monkeypatch.setattr(Lab, "marks", replace(lab.marks, think=None, end_think=None))
    with pytest.raises(ValueError, match="has no <think> and </think>, so a thinking budget"):
        lab.chat(ASKED, budget=4)
    assert lab.chat(ASKED, max_new_tokens=1).token_ids


def test_a_short_prompt_of_a_batch_has_the_room_that_it_has_alone(lab):
    talks = ["1", "1 + " * 30 + "1"]
    options = {"sampling": Sampling.greedy(), "max_new_tokens": 10**6}
    alone = [lab.chat(talk, **options) for talk in talks]
    together = lab.chat_batch(talks, **options)
    assert [chat.token_ids for chat in together] == [chat.token_ids for chat in alone]
    assert {chat.stop for chat in alone} == {"length"}, "the context ends both replies"
    assert len(alone[0].token_ids) > len(alone[1].token_ids)


def test_a_blank_stop_string_is_not_in_the_text_either(lab):
    streamed = []
    text = "<think>\n1\n</think>\n\n7<|im_end|>"
    chat = replied(lab, text, stop="\n", on_step=streamed.append)
    assert (chat.stop, chat.answer) == ("string", "")
    assert chat.text == "<think>\n1\n</think>"
    assert "".join(step.text for step in streamed) == "\n1\n"


def test_a_budget_holds_without_thinking_too(lab):
    chat = replied(lab, f"<think>\n{LONG}", thinking=False, budget=3)
    assert chat.thinking_tokens == 3


def test_a_second_block_is_cut_and_belongs_to_the_thinking(lab):
    sentence = f"{EARLY_STOP}\n</think>\n\n"
    text = f"<think>\n1\n</think>\n\n2<think>\n3 4{sentence}7<|im_end|>"
    streamed = []
    chat = replied(lab, text, budget=5, on_step=streamed.append)
    assert (chat.answer, chat.thinking_tokens, chat.stop) == ("7", 5, "budget")
    assert "3" in chat.thinking
    thoughts = "".join(step.text for step in streamed if step.part == "thinking")
    assert "3" in thoughts
    assert "7" not in thoughts


def test_a_begun_reply_is_continued_without_a_new_header(lab):
    talk = [*TALK, {"role": "assistant", "content": "It is"}]
    chat = replied(lab, " 5<|im_end|>", talk)
    prompt = lab.tokenizer.decode(chat.prompt_ids)
    assert prompt == lab.tokenizer.apply_chat_template(
        talk, tokenize=False, continue_final_message=True
    )
    assert prompt.endswith("It is")
    assert (chat.answer, chat.thinking) == ("5", "")
    edits = Script(lab, " 5").edits
    assert lab.generate(talk, edits=edits, max_new_tokens=1).prompt_ids == chat.prompt_ids


def test_begun_thinking_is_continued_within_the_budget(lab):
    talk = [*TALK, {"role": "assistant", "content": "<think>\n3+2"}]
    chat = replied(lab, LONG, talk, budget=3)
    assert (chat.thinking_tokens, chat.thinking[:3]) == (3, "1 2")


def test_a_finished_conversation_is_recorded_with_its_last_turn_closed(lab):
    talk = [*TALK, {"role": "assistant", "content": "5"}]
    assert "".join(lab.record(talk).tokens).endswith("5<|im_end|>\n")


def test_an_empty_last_reply_is_refused(lab):
    with pytest.raises(ChatError, match="is empty: leave it out"):
        lab.chat([*TALK, {"role": "assistant", "content": ""}])


@pytest.mark.parametrize("stop", ["1+2", ["1+2"], ("x", "1+2")])
def test_a_stop_string_is_never_streamed(lab, stop):
    streamed = []
    text = "<think>\n1+2\n</think>\n\n31+25<|im_end|>"
    chat = replied(lab, text, stop=stop, on_step=streamed.append)
    assert (chat.stop, chat.answer, chat.thinking) == ("string", "3", "1+2")
    parts = {
        part: "".join(step.text for step in streamed if step.part == part).strip()
        for part in ("thinking", "answer")
    }
    assert parts == {"thinking": "1+2", "answer": "3"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("31+<|im_end|>", {"stop": "1+2"}),
        ("31+", {"stop": "1+2", "max_new_tokens": 3}),
        ("3好龘", {"max_new_tokens": 4}),
        ("3好龘<|im_end|>", {"stop": "龘龘"}),
    ],
)
def test_a_stream_does_not_lose_its_end(lab, text, options):
    streamed = []
    chat = replied(lab, text, on_step=streamed.append, **options)
    assert "".join(step.text for step in streamed) == chat.text
    generated, streamed = (
        lab.generate(ASKED, edits=Script(lab, text).edits, on_step=streamed.append, **options),
        streamed[len(streamed) :],
    )
    assert generated.text == chat.text


def test_end_tokens_of_the_generation_config_end_replies(tiny_tokenizer):
    end = tiny_tokenizer.encode("9")[0]
    lab = small_lab(tiny_tokenizer, defaults=ReplyDefaults(ends=frozenset({end})))
    chat = replied(lab, "<think>\n1\n</think>\n\n79 8 8 8")
    assert (chat.answer, chat.stop) == ("7", "natural")
    assert lab.generate(ASKED, edits=Script(lab, "79 8").edits).text == "7"


def test_sampling_is_that_of_the_generation_config(tiny_tokenizer):
    mine = Sampling(temperature=1.3, top_k=7, top_p=0.9)
    lab = small_lab(tiny_tokenizer, defaults=ReplyDefaults(published=mine))
    options = {"seed": 4, "max_new_tokens": 12}
    for thinking in (None, False):
        found = lab.chat(ASKED, thinking=thinking, **options)
        wanted = lab.chat(ASKED, thinking=thinking, sampling=mine, **options)
        assert found.token_ids == wanted.token_ids


def test_an_interrupt_during_the_prompt_leaves_no_recording(lab):
    def interrupt(value, name):
        raise KeyboardInterrupt

    for name in ("hook_embed", "blocks.1.attn.hook_rot_q"):
        chat = lab.chat(ASKED, record=True, edits={name: interrupt})
        assert (chat.stop, chat.token_ids, chat.recording) == ("interrupted", [], None)


def test_a_chat_that_thinks_is_as_before(lab):
    chat = replied(lab, THINKS)
    assert (chat.thinking, chat.answer, chat.stop) == ("3+4->7", "7", "natural")


def interrupted_at(n):
    """An edit of the embeddings that interrupts the n-th forward pass."""
    passes = []

    def interrupt(value, name):
        passes.append(name)
        if len(passes) == n:
            raise KeyboardInterrupt

    return {"hook_embed": interrupt}


@pytest.mark.parametrize(
    ("text", "stop", "passes", "wanted"),
    [("31+25", "1+26", 4, "31+"), ("3龘", None, 3, "3�"), ("31", "16", 3, "31")],
)
def test_an_interrupted_stream_does_not_lose_its_end(lab, text, stop, passes, wanted):
    streamed, script = [], Script(lab, text).edits
    chat = lab.chat(
        ASKED,
        sampling=Sampling.greedy(),
        edits=script | interrupted_at(passes),
        on_step=streamed.append,
        stop=stop or (),
    )
    assert (chat.stop, chat.answer) == ("interrupted", wanted)
    assert "".join(step.text for step in streamed) == chat.text == wanted


def test_rows_of_a_batch_are_shown_after_an_interrupt_in_the_first_ones_step(lab):
    streamed = []

    def show(step):
        streamed.append(step)
        if len(streamed) == 3:
            raise KeyboardInterrupt

    chats = lab.chat_batch([ASKED, "1+1=?"], max_new_tokens=8, seed=0, on_step=show)
    whole = lab.chat_batch([ASKED, "1+1=?"], max_new_tokens=8, seed=0)
    for row, (chat, other) in enumerate(zip(chats, whole, strict=True)):
        shown = [step.token_id for step in streamed if step.row == row]
        assert chat.token_ids == other.token_ids[:2]
        assert shown[:2] == chat.token_ids


@pytest.mark.parametrize("passes", range(2, 8))
def test_a_recorded_chat_that_was_interrupted_loads(lab, tmp_path, passes):
    edits = Script(lab, "<think>\n12<|im_end|>").edits | interrupted_at(passes)
    chat = lab.chat(ASKED, sampling=Sampling.greedy(), edits=edits, record=True)
    chat.recording.save(tmp_path / "chat.safetensors")
    opened = Recording.load(tmp_path / "chat.safetensors")
    assert opened.tokens == chat.recording.tokens
    assert all(end <= len(opened) for _, end in opened.spans.values())


def test_an_interrupt_while_the_reply_is_put_together_does_not_lose_it(lab, monkeypatch):
    whole = replied(lab, THINKS)

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return finish_chat(*args, **options)

    monkeypatch.setattr("qwen3lab.lab.finish_chat", interrupted)
    chat = replied(lab, THINKS)
    assert (chat.answer, chat.stop) == (whole.answer, "natural")


def test_a_measurement_over_replies_stops_at_an_interrupt(lab):
    problems = {"one": [Exercise("1", "1"), Exercise("2", "2")]}
    with pytest.raises(KeyboardInterrupt):
        error_rates(lab, problems, edits=interrupted_at(2), max_new_tokens=4)
