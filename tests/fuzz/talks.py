"""Conversations as people and programs send them, and what a reply's thinking amounts to."""

from hypothesis import strategies as st

# Pieces of messages: what templates look for, what tokenizers treat as one token, odd characters.
PIECES = [
    "",
    "3+2*7-1=?",
    "Hi",
    " ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "\u2028",
    "\u2029",
    "\x85",
    "\x00",
    "\ufeff",
    "\u200b",
    "④",
    "你好。",
    "é",
    "👩‍👩‍👧",
    "\ud83d",
    "\udc00",
    "<think>",
    "</think>",
    "<think>\n\n</think>\n\n",
    "<think>\nb\n</think>\n\n",
    "/think",
    "/no_think",
    "https://example.org/no_think.html",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "<tool_call>",
    "<tool_response>",
    "</tool_response>",
    "{{ messages }}",
    "{% for m in messages %}",
    "<script>alert(1)</script>",
    "CONTINUE_FINAL_MESSAGE_TAG ",
    "\\boxed{3}",
    "x" * 300,
]
ROLES = ["user", "assistant", "system", "tool"]
CALLS = [
    [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    [{"name": "f", "arguments": '{"a": "é"}'}],
    [{"function": {"name": "g", "arguments": None}}, {"name": "f", "arguments": [1, 2.5]}],
    [{}],
    [None],
    "f()",
    {"name": "f"},
    [],
    None,
]

texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=5).map("".join)
contents = st.one_of(
    texts,
    texts,
    texts,
    texts,
    st.sampled_from([None, 3, [], [{"type": "text", "text": "Hi"}], {"text": "Hi"}, b"Hi"]),
)


@st.composite
def messages(draw):
    """One message, mostly well formed."""
    message = {"role": draw(st.sampled_from(ROLES)), "content": draw(contents)}
    for name, values in (
        ("tool_calls", st.sampled_from(CALLS)),
        ("reasoning_content", texts | st.none()),
        ("name", texts),
    ):
        if draw(st.integers(0, 5)) == 0:
            message[name] = draw(values)
    if draw(st.integers(0, 20)) == 0:
        message["role"] = draw(st.sampled_from(["", "User", "developer", None, 3, "\ud800"]))
    if draw(st.integers(0, 20)) == 0:
        del message[draw(st.sampled_from(sorted(message)))]
    return message


plain_talks = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content}, st.sampled_from(ROLES), texts
    ),
    min_size=1,
    max_size=4,
)
talks = st.one_of(plain_talks, plain_talks, st.lists(messages(), min_size=1, max_size=5))


def thinking_written(tokenizer, prompt_ids, token_ids, forced):
    """Tokens that the model wrote within thinking blocks, without the line break after `<think>`.

    Walks over the ids of the last turn of the prompt and over those of the reply.
    """
    known = tokenizer.get_vocab()
    think, close, newline = known["<think>"], known["</think>"], tokenizer.encode("\n")[0]
    ends = {known[name] for name in ("<|im_end|>", "<|endoftext|>") if name in known}
    inside, count, before = False, 0, None
    for token in prompt_ids:
        inside = token == think or (inside and token != close and token not in ends)
        before = token
    for token, inserted in zip(token_ids, forced, strict=True):
        if token in (think, close):
            inside = token == think
        elif inside and not inserted and token not in ends:
            count += not (token == newline and before == think)
        before = token
    return count
