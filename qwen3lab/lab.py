"""The object that people hold: a model, its tokenizer, and what can be done with them."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qwen3lab.acceleration.compiled_decoder import CompiledDecoder
from qwen3lab.acceleration.cuda_graph_decoder import CudaGraphDecoder, writer
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import dtype_of
from qwen3lab.generation.batch_writer import (
    OnStep,
    OpenReply,
    finish_chat,
    finish_generation,
    write,
)
from qwen3lab.generation.decoding import Decoder
from qwen3lab.generation.reply import Chat, Generation
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.thinking_control import (
    Extension,
    ReplyGuide,
    Steering,
    marks_of,
    stop_check,
)
from qwen3lab.hooks.edits import AnyEdits, Edits
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.hooks.taps import NOTHING, Chain, Tap
from qwen3lab.loading import from_transformers, open_checkpoint
from qwen3lab.model.batching import pad_left
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.recording.layerwise import Job, record_to_disk
from qwen3lab.recording.recorder import ATTENTION, MAPS, ROUTING, Recorder
from qwen3lab.recording.recording import Recording
from qwen3lab.streaming.streamed_model import StreamedBlocks
from qwen3lab.text.chat_template import Message, as_messages, thinking_mode
from qwen3lab.text.prompt import Prompt, prompt_ids
from qwen3lab.text.tokenizer import TextStream, open_tokenizer, token_texts

HookNames = str | Iterable[str]
"""Hooks to record: an exact name, a glob, "all", or several of them."""


def load(
    name: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
) -> "Lab":
    """Open an embedded model ("tiny-moe"), a local folder, or a model of the hub.

    Args:
        name: which model; a folder if one of that name exists, else an id such as
            "Qwen/Qwen3-0.6B".
        device: where to run; a GPU if there is one, else the CPU.
        dtype: such as "bfloat16"; None takes float32 on a CPU and the checkpoint's own
            dtype elsewhere.
        revision: branch, tag or commit on the hub; an early state of an embedded model, such
            as "step500" (`tiny.revisions` lists them).
        memory: for weights, such as "8GB", where they do not all fit: what is needed most is
            kept, and the rest is read from the disk when it is needed, expert by expert where
            a prompt needs few. A prompt takes as long as reading takes, so run many at once
            (`record_batch`).
        quantise: "int8" or "int4": matrices inside of the blocks in half or a quarter of
            bfloat16's memory, about, for models that nearly fit (the `quantised` extra). What
            it changes, `analysis.fidelity` measures. The CPU then computes in bfloat16.

    Raises:
        CheckpointError: no such model, its files are incomplete or damaged, or the memory is
            too little for the embeddings and the pieces at hand.

    Example:
        >>> import qwen3lab
        >>> qwen3lab.load("tiny-moe", device="cpu", dtype="float32")
        Lab(tiny-moe: 2,865,152 parameters, 1,095,680 active, cpu, float32)
    """
    checkpoint = open_checkpoint(
        name,
        device=device or default_device(),
        dtype=dtype,
        revision=revision,
        memory=memory,
        quantise=quantise,
    )
    return Lab(checkpoint.model, open_tokenizer(checkpoint.folder), checkpoint.name)


def default_device() -> str:
    """A GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Lab:
    """A model and its tokenizer, ready to record, generate and chat.

    Only one run at a time uses the model: a second thread waits for the first.

    Attributes:
        model: the forward pass.
        tokenizer: of `transformers`.
        name: what it was loaded as.
        lock: held while the model runs.
    """

    def __init__(self, model: Qwen3, tokenizer: Any, name: str = "model") -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.lock = threading.RLock()
        self._decoder: Decoder = writer(self.model)

    @classmethod
    def from_transformers(cls, hf_model: Any, hf_tokenizer: Any, *, name: str = "") -> "Lab":
        """A lab around copies of the weights of a `transformers` model in memory."""
        called = name or getattr(hf_model.config, "_name_or_path", "") or "model"
        return cls(from_transformers(hf_model), hf_tokenizer, called)

    def __repr__(self) -> str:
        size = f"{self.config.n_params:,} parameters"
        experts = f", {self.config.n_active_params:,} active" if self.config.is_moe else ""
        where = f"{self.model.device}, {self.weights}"
        if found := quantisation_of(self.model):
            where += f", weights off by {found.error:.1%}"
        if isinstance(self.model.blocks, StreamedBlocks):
            where += f", streamed, {self.model.blocks.kept_bytes / 1e9:.1f} GB of it kept"
        return f"Lab({self.name}: {size}{experts}, {where})"

    @property
    def weights(self) -> str:
        """Their dtype, and how they are quantised if they are: "bfloat16", "bfloat16, int4"."""
        found = quantisation_of(self.model)
        return str(self.model.dtype).removeprefix("torch.") + (f", {found.kind}" if found else "")

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        return self.model.config

    def compile(self) -> None:
        """Write with compiled passes from now on, on a CPU: for many or long replies.

        (On a GPU steps of writing are captured as CUDA graphs from the start, and stay so.) The
        first reply takes a minute or more, in which torch compiles, and so does the first that
        is recorded; what it gains, `qwen3lab bench --suite compiled` measures. Numbers change by
        rounding. Prompts, and whatever edits change, run as before.

        Raises:
            CompileError: the compiler that torch needs is missing.
            ValueError: the model is streamed from the disk, or quantised.
        """
        if isinstance(self._decoder, CudaGraphDecoder):
            return
        if isinstance(self.model.blocks, StreamedBlocks) or quantisation_of(self.model):
            raise ValueError(
                f"{self.name} is streamed or quantised, and only whole weights are compiled: load "
                "it without memory= and quantise="
            )
        self._decoder = CompiledDecoder(self.model)

    @property
    def decoder(self) -> Decoder:
        """What runs the passes that write: captured on a GPU, compiled after `compile`."""
        return self._decoder

    def record(
        self,
        prompt: Prompt,
        *,
        capture: HookNames = (),
        edits: AnyEdits | None = None,
        thinking: bool | None = None,
        dtype: str | None = None,
    ) -> Recording:
        """Run a prompt once and keep its logits, attention, routing, and what `capture` names.

        Args:
            prompt: text, chat messages or token ids.
            capture: more hooks to keep: exact names, globs, or "all".
            edits: hook names or globs to functions that replace activations, an intervention
                such as those of `interventions.rerouting`, or several, to act in their order.
            thinking: for chat messages, whether the reply would think.
            dtype: of what is kept, such as "bfloat16" for half of the memory; as it ran if None.

        Raises:
            ValueError: an empty prompt, an unknown token, or one longer than the context.
            HookError: a hook that the model does not have, or an edit that does not fit.

        Example:
            >>> import qwen3lab
            >>> lab = qwen3lab.load("tiny-moe")
            >>> rec = lab.record("3+4=?", capture="blocks.*.hook_resid_post")
            >>> rec.tokens
            ['3', '+', '4', '=?']
            >>> rec["blocks.3.hook_resid_post"].shape  # token, d_model
            torch.Size([4, 128])
        """
        options: dict[str, Any] = {"capture": capture, "edits": edits, "dtype": dtype}
        return self.record_batch([prompt], thinking=thinking, **options)[0]

    def record_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        capture: HookNames = (),
        edits: AnyEdits | None = None,
        thinking: bool | None = None,
        dtype: str | None = None,
    ) -> list[Recording]:
        """Record several prompts in one pass, each as if it ran alone; see `record`."""
        if not prompts:
            return []
        rows = [self.token_ids(prompt, thinking=thinking) for prompt in prompts]
        asked = [capture] if isinstance(capture, str) else list(capture)
        edited = self._edits(edits, [len(row) for row in rows])
        recorder = self._recorder(["hook_unembed", *asked], edited, dtype)
        ids, mask = pad_left(rows, self.model.device)
        with self.lock, torch.no_grad():
            padded = None if bool(mask.all()) else mask
            self.model(ids, mask=padded, tap=_chained(edited, recorder))
        longest = ids.shape[1]
        cuts = recorder.cut([(longest - len(row), longest) for row in rows])
        return [self._recording(row, kept) for row, kept in zip(rows, cuts, strict=True)]

    def record_to_disk(
        self,
        prompts: Sequence[Prompt],
        folder: str | Path,
        *,
        capture: HookNames = (),
        thinking: bool | None = None,
        dtype: str | None = None,
        progress: bool = True,
    ) -> list[Recording]:
        """Record prompts straight into a folder, layer by layer; see `record` for the options.

        One layer's activations are in memory at a time, and a streamed model's weights are read
        once for all prompts. After an interrupt the same call goes on where it stood; once it is
        complete, it opens what is there.

        Raises:
            RecordingError: the folder holds another recording, or one of other weights; its disk
                has too little room, or a file cannot be written.
            ValueError: an empty prompt, an unknown token, or one longer than the context.
        """
        if not prompts:
            return []
        rows = [self.token_ids(prompt, thinking=thinking) for prompt in prompts]
        asked = [capture] if isinstance(capture, str) else list(capture)
        names = list(self._recorder(["hook_unembed", *asked], None).pieces)
        job = Job(Path(folder).expanduser(), rows, names, dtype_of(dtype), self.name)
        with self.lock:
            found = record_to_disk(self.model, job, progress=progress)
        return [self._recording(row, kept) for row, kept in zip(rows, found, strict=True)]

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 256,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        record: bool | HookNames = False,
        edits: AnyEdits | None = None,
        on_step: OnStep | None = None,
        cancel: threading.Event | None = None,
    ) -> Generation:
        """Continue a prompt, greedily unless `sampling` says otherwise.

        Args:
            prompt: text (not rendered as a chat), chat messages, or token ids.
            max_new_tokens: at most; the context's end is a limit too.
            sampling: how tokens are drawn.
            seed: repeats the draw.
            stop: strings that end it; they are not part of the text.
            record: True to record attention and routing, or hook names to add to them.
            edits: as in `record`.
            on_step: called after every token.
            cancel: set it from another thread to stop; what was written is kept.
        """
        marks = replace(marks_of(self.tokenizer), think=None, end_think=None)
        guide = ReplyGuide(marks, stopped=stop_check(self.tokenizer, stop))
        row = OpenReply(self.token_ids(prompt), guide, TextStream(self.tokenizer))
        recordings = self._write(
            [row],
            sampling or Sampling.greedy(),
            seed=seed,
            max_new_tokens=max_new_tokens,
            record=record,
            edits=edits,
            on_step=on_step,
            cancel=cancel,
        )
        return finish_generation(row, self.tokenizer, recordings[0], stop)

    def chat(self, messages: str | Sequence[Message], **options: Any) -> Chat:
        """Reply to a question or a conversation; see `chat_batch` for the options.

        Example:
            >>> import qwen3lab
            >>> lab = qwen3lab.load("tiny-moe")
            >>> chat = lab.chat("3+2*7-1=?", budget=64, seed=0)
            >>> chat.answer, chat.stop
            ('④', 'natural')
        """
        return self.chat_batch([messages], **options)[0]

    def chat_batch(
        self,
        conversations: Sequence[str | Sequence[Message]],
        *,
        thinking: bool | None = None,
        budget: int | None = None,
        extend: Extension | None = None,
        max_new_tokens: int = 1024,
        sampling: Sampling | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        record: bool | HookNames = False,
        edits: AnyEdits | None = None,
        on_step: OnStep | None = None,
        cancel: threading.Event | None = None,
        steering: Steering | None = None,
    ) -> list[Chat]:
        """Reply to several conversations at once.

        Args:
            conversations: a question, or messages with "role" and "content", each.
            thinking: False answers at once; True or None thinks first, unless the last soft
                switch in the conversation is `/no_think`.
            budget: thinking tokens at most; then the early-stop sentence is inserted.
            extend: refuses a `</think>` that comes too early, and inserts a continuation.
            max_new_tokens: at most; the context's end is a limit too.
            sampling: how tokens are drawn; the published defaults of the mode if None.
            seed: repeats the draw; conversation `i` uses `seed + i`.
            stop: strings that end a reply; they are not part of its text.
            record: True to record attention and routing of prompt and reply in the same
                pass, or hook names to add to them.
            edits: as in `record`, in force during the whole reply.
            on_step: called after every token of every reply.
            cancel: set it from another thread to stop; what was written is kept.
            steering: ends the thinking, or allows more of it, from another thread.

        Raises:
            ValueError: malformed messages, a negative budget, or no room in the context.
        """
        if budget is not None and budget < 0:
            raise ValueError(f"the thinking budget is {budget}: expected 0 or more, or None")
        talks = [as_messages(talk) for talk in conversations]
        modes = [thinking_mode(talk, thinking) for talk in talks]
        if len(set(modes)) > 1 and sampling is None:
            raise ValueError(
                "some conversations think and some do not, and the published sampling differs: "
                "pass sampling=..., or run them in two batches"
            )
        marks, stopped = marks_of(self.tokenizer), stop_check(self.tokenizer, stop)
        guided: dict[str, Any] = {"stopped": stopped, "steering": steering, "extension": extend}
        if extend is not None or steering is not None:
            text = (extend or Extension()).text
            guided["continuation"] = self.tokenizer.encode(text, add_special_tokens=False)
        prompts = [
            self.token_ids(talk, thinking=mode) for talk, mode in zip(talks, modes, strict=True)
        ]
        rows = [
            OpenReply(
                prompt_ids,
                ReplyGuide(marks, budget=budget if mode else None, prompt_ids=prompt_ids, **guided),
                TextStream(self.tokenizer),
            )
            for prompt_ids, mode in zip(prompts, modes, strict=True)
        ]
        if not rows:
            return []
        recordings = self._write(
            rows,
            sampling or Sampling.published(thinking=modes[0]),
            seed=seed,
            max_new_tokens=max_new_tokens,
            record=record,
            edits=edits,
            on_step=on_step,
            cancel=cancel,
        )
        return [
            finish_chat(row, talk, self.tokenizer, recording, stop)
            for row, talk, recording in zip(rows, talks, recordings, strict=True)
        ]

    def token_ids(self, prompt: Prompt, *, thinking: bool | None = None) -> list[int]:
        """A prompt as the token ids that the model is given; see `prompts.prompt_ids`."""
        return prompt_ids(self.tokenizer, self.config, prompt, thinking=thinking)

    def _edits(self, edits: AnyEdits | None, lengths: Sequence[int]) -> Edits | None:
        """The edits of one run of prompts of these lengths."""
        padding = [max(lengths) - length for length in lengths]
        return Edits(edits, self.config, padding=padding) if edits else None

    def _recorder(
        self, capture: HookNames, edits: Edits | None, dtype: str | None = None
    ) -> Recorder:
        """A recorder of attention, routing and what is asked for.

        Where an edit changes scores or pattern, the pattern itself is kept: it could not be
        rendered from queries and keys.
        """
        asked = [capture] if isinstance(capture, str) else list(capture)
        edited = edits.edits if edits else ()
        layers = {name.split(".")[1] for name in edited if name.endswith(MAPS)}
        names = [*ATTENTION, *(ROUTING if self.config.is_moe else ()), *asked]
        names += [f"blocks.{layer}.attn.hook_pattern" for layer in layers]
        return Recorder(resolve_hooks(names, self.config), dtype=dtype_of(dtype))

    def _recording(self, ids: list[int], activations: Mapping[str, Tensor]) -> Recording:
        tokens = token_texts(self.tokenizer, ids)
        return Recording(torch.tensor(ids), tokens, self.config, self.name, activations)

    def _write(
        self,
        rows: list[OpenReply],
        sampling: Sampling,
        *,
        seed: int | None,
        max_new_tokens: int,
        record: bool | HookNames,
        edits: AnyEdits | None,
        on_step: OnStep | None,
        cancel: threading.Event | None,
    ) -> list[Recording | None]:
        """Fill the rows; gives the recording of each, where they were asked for."""
        edited = self._edits(edits, [len(row.prompt_ids) for row in rows])
        recorder = None
        if record is not False:
            recorder = self._recorder(() if record is True else record, edited)
        longest = max(len(row.prompt_ids) for row in rows)
        room = self.config.n_ctx - longest
        if max_new_tokens < 1 or room < 1:
            raise ValueError(
                f"no room to write: max_new_tokens is {max_new_tokens}, and the context has "
                f"{max(room, 0)} of {self.config.n_ctx} positions left"
            )
        with self.lock:
            write(
                self.decoder,
                rows,
                sampler=Sampler.in_a_row(sampling, len(rows), seed),
                max_new_tokens=min(max_new_tokens, room),
                tap=_chained(edited, recorder),
                feed_last=recorder is not None,
                on_step=on_step,
                cancel=cancel,
            )
            if recorder is not None:
                # While nobody else writes: what is captured is gathered in the same memory.
                recorder.wait()
        if recorder is None:
            return [None] * len(rows)
        texts = [[*row.prompt_ids, *row.token_ids] for row in rows]
        starts = [longest - len(row.prompt_ids) for row in rows]
        # An interrupt may have come before the last tokens ran.
        ends = [
            min(start + len(text), recorder.n_complete)
            for start, text in zip(starts, texts, strict=True)
        ]
        spans = list(zip(starts, ends, strict=True))
        return [
            self._recording(text[: end - start], kept)
            for text, (start, end), kept in zip(texts, spans, recorder.cut(spans), strict=True)
        ]


def _chained(*taps: Tap | None) -> Tap:
    """Those of the taps that there are, as one."""
    given = [tap for tap in taps if tap]
    if len(given) == 1:
        return given[0]  # Itself: a recorder's passes may be captured or compiled.
    return Chain(*given) if given else NOTHING
