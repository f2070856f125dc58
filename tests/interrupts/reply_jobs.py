"""Rows of the table: replies, alone, in a batch, recorded, streamed, captured."""

from typing import Any

from qwen3lab import Recording, Sampling
from qwen3lab.generation.reply import Chat, Generation
from qwen3lab.lab import Lab
from tests.interrupts.state import plain
from tests.interrupts.table import NOTHING, QUESTION, Job, World

REPLY = (
    "the tokens so far come back with the stop “interrupted” and equal the start of the whole "
    "reply; what was streamed is their text, their recording loads after it was saved. "
    "KeyboardInterrupt only while no token is there"
)


def check_reply(world: World, whole: Generation, value: Generation | None) -> None:
    """A reply that was cut short holds all that was shown, and is a start of the whole one."""
    if value is None:
        assert not world.shown, f"{len(world.shown)} tokens were shown, and no reply came back"
        return
    check_start(world, whole, value)
    if not world.shown:
        return
    shown = {part: _joined(world, part) for part in ("thinking", "answer")}
    if isinstance(value, Chat):
        assert shown == {"thinking": value.thinking, "answer": value.answer}
    else:
        assert shown == {"thinking": "", "answer": value.text.strip()}


def _joined(world: World, part: str) -> str:
    return "".join(step.text for step in world.shown if step.part == part).strip()


def check_start(world: World, whole: Generation, value: Generation) -> None:
    """The tokens, numbers and recording of a reply are the first ones of the whole reply."""
    n = len(value.token_ids)
    assert value.token_ids == whole.token_ids[:n]
    for name in ("logprobs", "entropy", "forced"):
        assert plain(getattr(value, name)) == plain(getattr(whole, name)[:n]), name
    assert value.stop == "interrupted" or (n, value.stop) == (len(whole.token_ids), whole.stop)
    if value.recording is not None:
        _check_recording(world, whole, value)


def _check_recording(world: World, whole: Generation, value: Generation) -> None:
    recording, wanted = value.recording, whole.recording
    assert recording is not None and wanted is not None
    ids, n = [*value.prompt_ids, *value.token_ids], len(recording)
    # The last token may not have run through the model yet.
    assert n >= len(ids) - 1 and recording.token_ids.tolist() == ids[:n]
    path = world.folder / "chat.safetensors"
    recording.save(path)
    opened = Recording.load(path)
    for name in recording.capture:
        assert plain(opened.raw(name)) == plain(recording.raw(name)), name
        assert plain(opened.raw(name)) == plain(wanted.raw(name)[:n]), name
    path.unlink()


def _chat(world: World, lab: Lab, **options: Any) -> Generation:
    world.shown.clear()
    asked: dict[str, Any] = {"seed": 1, "budget": 8, "max_new_tokens": 24, **options}
    return lab.chat(QUESTION, on_step=world.shown.append, **asked)


def _chats(world: World) -> list[Any]:
    return world.lab.chat_batch([QUESTION, "1+1=?"], seed=2, max_new_tokens=12, record=True)


def _check_chats(world: World, whole: list[Any], value: list[Any] | None) -> None:
    for one, other in zip(whole, value or [], strict=False):
        check_start(world, one, other)


def _generated(world: World) -> Generation:
    world.shown.clear()
    return world.lab.generate("3+4", max_new_tokens=12, record=True, on_step=world.shown.append)


def _captured(world: World) -> Generation:
    world.shown.clear()
    return world.captured.generate(
        [4, 5],
        max_new_tokens=24,
        sampling=Sampling.greedy(),
        record=True,
        on_step=world.shown.append,
    )


REPLY_JOBS = [
    Job("generate", REPLY, NOTHING, _generated, kept=check_reply),
    Job("chat", REPLY, NOTHING, lambda world: _chat(world, world.lab), kept=check_reply, share=3),
    Job(
        "recorded chat",
        REPLY,
        NOTHING,
        lambda world: _chat(world, world.lab, record=True),
        kept=check_reply,
        share=4,
    ),
    Job(
        "streamed chat",
        f"{REPLY}; text held back because of a stop string comes with the last step",
        NOTHING,
        lambda world: _chat(world, world.lab, stop=["④④", "\n\n\n"], thinking=False),
        kept=check_reply,
        share=4,
    ),
    Job("chat_batch", REPLY, NOTHING, _chats, kept=_check_chats),
    Job(
        "chat of a streamed model",
        REPLY,
        NOTHING,
        lambda world: _chat(world, world.streamed, max_new_tokens=4),
        kept=check_reply,
        labs=("lab", "streamed"),
    ),
    Job(
        "captured steps",
        REPLY,
        NOTHING,
        _captured,
        kept=check_reply,
        share=3,
        labs=("lab", "captured"),
    ),
]
