"""`Lab`: a model with its tokenizer, and the methods that record it and generate with it."""

import copy
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from qwen3lab.acceleration.compiled_decoder import CompiledDecoder
from qwen3lab.acceleration.cuda_graph_decoder import CudaGraphDecoder, decoder_for
from qwen3lab.adapters import Adapters, SwitchableAdapter
from qwen3lab.arguments import Count, argument, checked
from qwen3lab.checkpoints.embedded import edition_of, is_embedded
from qwen3lab.checkpoints.given_adapters import AnyAdapters, base_and_adapter
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import device_of, dtype_of
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display import Summary, one_line
from qwen3lab.errors import LabError
from qwen3lab.generation.batch_writer import (
    OpenReply,
    finish_chat,
    finish_generation,
    open_chats,
    open_generation,
)
from qwen3lab.generation.branch import reopen
from qwen3lab.generation.decoding import AFTER_BLOCKS, Decoder, reads_last_only
from qwen3lab.generation.defaults import ReplyDefaults
from qwen3lab.generation.options import (
    CHAT_DEFAULTS,
    CONTROL_DEFAULTS,
    DISK_DEFAULTS,
    RECORD_DEFAULTS,
    REPLY_DEFAULTS,
    ChatOptions,
    ControlOptions,
    DiskOptions,
    RecordOptions,
    ReplyOptions,
    accepts,
)
from qwen3lab.generation.reply import Chat, Generation
from qwen3lab.generation.reply_writer import (
    ReplyWriter,
    chained,
    edits_of_run,
    listed_names,
    recorder_of,
)
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.suggested import Suggested, suggest
from qwen3lab.generation.thinking_control import Marks, marks_of, stop_strings
from qwen3lab.hooks.edits import Edits
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.loading import find_described, from_transformers, open_checkpoint
from qwen3lab.model.batching import pad_left
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.recording.layerwise import Job, record_to_disk
from qwen3lab.recording.non_finite import NonFiniteWarning
from qwen3lab.recording.pooled import Classification, classification, last_states
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import OutputHead, keeps_logits, stream_hook
from qwen3lab.text.chat_template import Message, as_messages, mode_note, thinking_mode
from qwen3lab.text.prompt import Prompt, as_prompts, checked as checked_ids, prompt_ids
from qwen3lab.text.tokenizer import encode_text, open_tokenizer, token_texts
from qwen3lab.translation import tr

CONTINUATION_TOKENS = 256
"""Maximum length of a continuation of plain text unless one is given."""


def load(
    name: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    memory: str | int | None = None,
    quantise: str | None = None,
    adapter: AnyAdapters | None = None,
    source: str | None = None,
    shared: str | Path | None = None,
) -> "Lab":
    """Open an embedded model ("tiny-moe"), a local folder, or a model of the Hugging Face hub.

    Args:
        name: which model; a folder if one of that name exists, else an id such as
            "Qwen/Qwen3-0.6B"; or a GGUF file, by its path or as "owner/name:Q4_K_M".
        device: where to run; a GPU if there is one, else the CPU.
        dtype: such as "float32"; None means the checkpoint's own dtype. On a CPU it means float32,
            but for a model of at least 100 million parameters that is stored in bfloat16, if the
            processor multiplies bfloat16 faster.
        revision: branch, tag or commit on the hub; an early state of an embedded model, such
            as "step500", or an earlier edition, such as "v1" (`tiny.revisions` lists them).
        memory: memory that the model may take, such as "24GB". It is loaded whole if that fits
            beside a recording, or else packed as a quantised checkpoint stores it. Else what does
            not fit is read during the forward pass, expert by expert where a prompt uses few, from
            the host's memory if the device is a GPU and the host holds the weights, or from disk;
            the most used weights are kept. `lab.placed` says what was picked, and why. A pass takes
            as long as reading takes, so run many prompts at once (`record_batch`,
            `record_to_disk`).
        quantise: "int8" or "int4": the matrices of the blocks take about a half or a quarter of
            bfloat16's memory (needs the `quantised` extra). `experiments.fidelity` measures what
            that changes. The CPU then computes in bfloat16. "auto", with `memory`, quantises only
            where the model does not fit whole: to int8 if that fits, else to int4. "keep" leaves
            the matrices of a quantised checkpoint or GGUF file packed as they are stored.
        adapter: a folder or hub id of a LoRA adapter that peft saved; it is added to the weights.
            Several are added up, with strengths by folder or id, such as {"a": 0.5, "b": 1}. A
            folder or id of an adapter can also be the name, if it names its base model.
            `lab.adapters` keeps adapters apart from the weights instead.
        source: "huggingface" or "modelscope", where ids are fetched from; None means ModelScope if
            USE_MODELSCOPE_HUB=1 is set in the environment, else the Hugging Face hub.
        shared: a folder where the weights are kept as one file that all processes of this machine
            map, so that a class on a server holds them once; on a CPU, for a model that is loaded
            whole. None means the folder that QWEN3LAB_SHARED_WEIGHTS names, if it is set.

    Raises:
        CheckpointError: no such model, its files are incomplete or damaged, or the memory is
            too small for the embeddings and the weights in use.
        DtypeError: an unknown dtype.
        DeviceError: a device that this machine does not have.

    Example:
        >>> import qwen3lab
        >>> qwen3lab.load("tiny-moe", device="cpu", dtype="float32")
        Lab(tiny-moe: 2,865,152 parameters, 1,095,680 active, cpu, float32)
    """
    dtype = dtype_of(dtype)
    # Before the weights, which are large: what cannot run or chat is refused before the download.
    device = device_of(default_device() if device is None else device)
    base, adapter = base_and_adapter(name, adapter, revision=revision, source=source)
    described = find_described(base, revision=revision if base is name else None, source=source)
    tokenizer = open_tokenizer(described)
    defaults = ReplyDefaults.from_folder(described)
    checkpoint = open_checkpoint(
        base,
        device=device,
        dtype=dtype,
        revision=revision if base is name else None,
        memory=memory,
        quantise=quantise,
        adapter=adapter,
        pick=True,
        source=source,
        shared=shared,
    )
    added, n_experts = checkpoint.adapters, checkpoint.config.n_experts
    return Lab(
        checkpoint.model,
        tokenizer,
        " + ".join([checkpoint.name, *(each.label for each in added)]),
        defaults=defaults,
        stored_as=checkpoint.stored_as,
        adapter="; ".join(each.described(n_experts) for each in added),
        placed=checkpoint.placed,
    )


def default_device() -> str:
    """A GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class Lab:
    """A model and its tokenizer, ready to record, generate and chat.

    The model runs for one thread at a time; other threads wait for the lock.

    Attributes:
        model: the forward pass.
        tokenizer: of `transformers`.
        name: the name given to `load`.
        defaults: end tokens and sampling of the model's `generation_config.json`.
        placed: how `load(memory=)` holds the weights, and why; empty without a limit of memory.
        adapter: name, rank, alpha and modules of the adapters; empty if there are none. Its
            recordings say the same.
        lock: held while the model runs.
    """

    def __init__(
        self,
        model: Qwen3,
        tokenizer: Any,
        name: str = "model",
        *,
        defaults: ReplyDefaults | None = None,
        stored_as: str = "",
        placed: str = "",
        adapter: str = "",
    ) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.defaults, self.placed = defaults or ReplyDefaults(), placed
        self.adapter, self._decoded_from = adapter, stored_as
        self._base: Lab | None = None
        self._adapters: dict[str, SwitchableAdapter] = {}
        self.lock = threading.RLock()
        self._decoder: Decoder = decoder_for(self.model)

    @classmethod
    def from_transformers(cls, hf_model: Any, hf_tokenizer: Any, *, name: str = "") -> "Lab":
        """A lab with copies of the weights of a `transformers` model in memory."""
        model = from_transformers(hf_model)
        called = name or getattr(hf_model.config, "_name_or_path", "") or "model"
        settings = getattr(hf_model, "generation_config", None)
        defaults = ReplyDefaults.from_fields(settings.to_diff_dict() if settings else {})
        return cls(model, hf_tokenizer, called, defaults=defaults)

    def __repr__(self) -> str:
        size = tr("{n:,} parameters", n=self.config.n_params)
        experts = tr(", {n:,} active", n=self.config.n_active_params) if self.config.is_moe else ""
        where = f"{self.model.device}, {self.weights}"
        if self._runs_in_bfloat16_on_a_cpu():
            where += tr(' (dtype="float32" for more digits)')
        if not self.config.has_unembedding:
            where += tr(", a classifier") if self.config.labels else tr(", without unembedding")
        found = quantisation_of(self.model)
        if self._decoded_from:
            verb = tr("kept") if found is not None and found.kind == "kept" else tr("decoded from")
            where += f", {verb} {self._decoded_from}"
        if self.adapter:
            where += f", {self.adapter}"
        if found is not None and (found.error or found.kind != "kept"):
            where += tr(", relative weight error {error:.1%}", error=found.error)
        if self.model.blocks.is_streamed:
            kept = self.model.blocks.kept_bytes / 1e9
            where += tr(", streamed, {kept:.1f} GB of the weights kept in memory", kept=kept)
        if self.placed:
            where += f"; {self.placed}"
        return tr(
            "Lab({name}: {size}{experts}, {where})",
            name=one_line(self.name),
            size=size,
            experts=experts,
            where=where,
        )

    def _repr_html_(self) -> str | None:
        config = self.config
        experts = (
            tr(
                "{n_experts}, top {n_experts_per_token}",
                n_experts=config.n_experts,
                n_experts_per_token=config.n_experts_per_token,
            )
            if config.is_moe
            else ""
        )
        facts = {
            tr("parameters"): f"{config.n_params:,}",
            tr("active"): f"{config.n_active_params:,}" if config.is_moe else "",
            tr("layers"): str(config.n_layers),
            tr("heads"): tr(
                "{n_heads} ({n_kv_heads} key/value)",
                n_heads=config.n_heads,
                n_kv_heads=config.n_kv_heads,
            ),
            tr("experts"): experts,
            tr("context"): tr("{n:,} tokens", n=config.n_ctx),
            tr("weights"): self.weights,
            "adapters": self.adapter,
            tr("device"): str(self.model.device),
        }
        question = self.suggested.questions[0]
        note = tr(
            'lab.chat("{question}") asks it a question; lab.record("{question}") records a run',
            question=question,
        )
        if self._runs_in_bfloat16_on_a_cpu():
            note += tr(
                '; load(..., dtype="float32") computes with more digits, in twice the memory'
            )
        if self.placed:
            note += f". {self.placed[0].upper()}{self.placed[1:]}"
        return Summary(self.name, {k: v for k, v in facts.items() if v}, note=note).html()

    def _runs_in_bfloat16_on_a_cpu(self) -> bool:
        is_half = self.model.dtype == torch.bfloat16 and self.model.device.type == "cpu"
        return is_half and quantisation_of(self.model) is None

    def __copy__(self) -> "Lab":
        shared = object.__new__(type(self))
        shared.__dict__ |= self.__dict__
        return shared

    def __deepcopy__(self, memo: dict[int, Any]) -> "Lab":
        """A lab with copies of the weights, and a lock of its own.

        Raises:
            LabError: the model is streamed from disk.
        """
        if self.model.blocks.is_streamed:
            raise LabError(
                tr(
                    "{name} is streamed from disk, and its open files and cache cannot be "
                    "copied: load it again",
                    name=self.name,
                )
            )
        copied = memo[id(self)] = object.__new__(type(self))
        for name, value in vars(self).items():
            if name not in ("lock", "_decoder"):
                setattr(copied, name, copy.deepcopy(value, memo))
        copied.lock = threading.RLock()
        copied._decoder = decoder_for(copied.model)
        if isinstance(self._decoder, CompiledDecoder):
            copied.compile()
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise LabError(
            tr(
                "{name} cannot be pickled, because its lock belongs to this process: "
                "call qwen3lab.load in the other process",
                name=self.name,
            )
        )

    @property
    def stored_as(self) -> str:
        """The format of weights that were decoded, and the adapters; empty if there are none."""
        return "; ".join(filter(None, (self._decoded_from, self.adapter)))

    @property
    def adapters(self) -> "Adapters[Lab]":
        """LoRA adapters that are kept apart from the weights, to compare with and without them.

        `adapters.add(name, folder)` reads one; `adapters.on(name)` is a lab with it, which shares
        the weights, the lock and the adapters of this one. A model that is streamed or quantised
        takes them, too.
        """
        base = self._base or self
        return Adapters(base._adapters, base.model, base._with_adapter)

    def _with_adapter(self, model: Qwen3, label: str, adapter: str) -> "Lab":
        """A lab of the same weights, of a model that has adapters beside them."""
        shared = copy.copy(self)
        shared.model, shared.name, shared._base = model, f"{self.name} + {label}", self
        shared.adapter = "; ".join(filter(None, (self.adapter, adapter)))
        shared._decoder = decoder_for(model)
        if isinstance(self._decoder, CompiledDecoder):
            shared.compile()
        return shared

    @property
    def weights(self) -> str:
        """Dtype and quantisation of the weights: "bfloat16", or "bfloat16, int4"."""
        found = quantisation_of(self.model)
        return str(self.model.dtype).removeprefix("torch.") + (f", {found.kind}" if found else "")

    @property
    def marks(self) -> Marks:
        """The token ids that structure a reply: those that end it, `<think>` and `</think>`."""
        return marks_of(self.tokenizer, self.defaults.ends)

    @property
    def suggested(self) -> Suggested:
        """Questions, lengths, budgets and numbers of samples that fit this model and its device."""
        return suggest(
            self.config,
            self.defaults,
            name=self.name,
            edition=edition_of(self.tokenizer) if is_embedded(self.tokenizer) else None,
            device=self.model.device.type,
            is_streamed=self.model.blocks.is_streamed,
        )

    @property
    def config(self) -> Qwen3Config:
        """The model's sizes."""
        return self.model.config

    @property
    def decoder(self) -> Decoder:
        """Runs the passes that write replies: captured on a GPU, compiled after `compile`."""
        return self._decoder

    def compile(self) -> None:
        """Compile decoding steps with `torch.compile` from now on, on a CPU.

        It pays for many or long replies: the first one, and the first recorded one, take a minute
        or more for the compilation. `qwen3lab bench --suite compiled` measures the gain. Numbers
        change by rounding. Prefill, and passes with edits, run as before. With a model in memory
        on a CUDA GPU this does nothing: there, decoding steps are captured as CUDA graphs after the
        first 16.

        Raises:
            CompileError: torch's C++ compiler is missing.
            ValueError: the model is streamed from disk, or quantised.
        """
        if isinstance(self._decoder, CudaGraphDecoder):
            return
        if self.model.blocks.is_streamed or quantisation_of(self.model):
            raise ValueError(
                tr(
                    "{name} is streamed or quantised, and only whole weights in memory can "
                    "be compiled: load it without memory= and quantise=",
                    name=self.name,
                )
            )
        self._decoder = CompiledDecoder(self.model)

    @accepts(RecordOptions, RECORD_DEFAULTS)
    def record(self, prompt: Prompt, **options: Unpack[RecordOptions]) -> Recording:
        """Run a prompt once and keep its logits, attention, routing, and what `capture` names.

        Args:
            prompt: text, chat messages or token ids.
            {options}

        Raises:
            ValueError: an empty prompt, an unknown token, or a prompt longer than the context.
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
        o: dict[str, Any] = dict(options)
        return self._record([self.token_ids(prompt, thinking=o["thinking"])], o)[0]

    @accepts(RecordOptions, RECORD_DEFAULTS)
    def record_batch(
        self, prompts: Sequence[Prompt], **options: Unpack[RecordOptions]
    ) -> list[Recording]:
        """Record several prompts in one pass, each as if it ran alone.

        Args:
            prompts: each is text, chat messages or token ids.
            {options}

        Raises:
            ValueError: as in `record`.
            HookError: as in `record`.
        """
        o: dict[str, Any] = dict(options)
        rows = [self.token_ids(each, thinking=o["thinking"]) for each in as_prompts(prompts)]
        return self._record(rows, o) if rows else []

    def _record(self, rows: list[list[int]], o: Mapping[str, Any]) -> list[Recording]:
        edits = edits_of_run(self.config, o["edits"], [len(row) for row in rows])
        for_logits = self._for_logits(edits)
        names = [for_logits, *listed_names(o["capture"])]
        recorder = recorder_of(self.config, names, edits, o["dtype"], attention=o["attention"])
        if for_logits != "hook_unembed" and for_logits not in listed_names(o["capture"]):
            recorder.exact = (for_logits,)
        tap = chained(edits, recorder)
        ids, mask = pad_left(rows, self.model.device)
        with self.lock:
            padded = None if bool(mask.all()) else mask
            without_grad(self.model)(ids, mask=padded, tap=tap, last_only=reads_last_only(tap))
        longest = ids.shape[1]
        cuts = recorder.cut([(longest - len(row), longest) for row in rows])
        self._warn_non_finite(cuts)
        return [self._recording(row, kept) for row, kept in zip(rows, cuts, strict=True)]

    def _warn_non_finite(self, cuts: Sequence[Mapping[str, Tensor]]) -> None:
        warning = NonFiniteWarning(self.config, len(cuts))
        for row, kept in enumerate(cuts):
            warning.look(kept, row)

    @accepts(DiskOptions, DISK_DEFAULTS)
    def record_to_disk(
        self, prompts: Sequence[Prompt], folder: str | Path, **options: Unpack[DiskOptions]
    ) -> list[Recording]:
        """Record prompts into a folder, layer by layer.

        The activations of one layer are in memory at a time, and a streamed model's weights are
        read once for all prompts. After an interrupt the same call continues with the next layer;
        once the recording is complete, the call opens it.

        Args:
            prompts: each is text, chat messages or token ids.
            folder: for the files; made if it does not exist.
            {options}

        Raises:
            RecordingError: the folder holds another recording, or one of other weights; the disk is
                too small, or a file cannot be written.
            ValueError: an empty prompt, an unknown token, or a prompt longer than the context.
        """
        o: dict[str, Any] = dict(options)
        folder = argument(str | Path, "folder", folder)
        rows = [self.token_ids(each, thinking=o["thinking"]) for each in as_prompts(prompts)]
        if not rows:
            return []
        has_logits = self.config.has_unembedding
        for_logits = "hook_unembed" if o["dtype"] and has_logits else self._for_logits(None)
        wanted = [for_logits, *listed_names(o["capture"])]
        names = recorder_of(self.config, wanted, None, attention=o["attention"]).names
        job = Job(Path(folder).expanduser(), rows, list(names), o["dtype"], self.name)
        with self.lock:
            found = record_to_disk(self.model, job, progress=o["progress"])
        return [self._recording(row, kept) for row, kept in zip(rows, found, strict=True)]

    @accepts(ReplyOptions, REPLY_DEFAULTS)
    def generate(self, prompt: Prompt, **options: Unpack[ReplyOptions]) -> Generation:
        """Continue a prompt, greedily unless `sampling` is given.

        Args:
            prompt: text (not rendered as a chat), chat messages, or token ids.
            {options}

        Raises:
            ValueError: an empty prompt, or no room in the context.
            HeadlessError: the model has no unembedding, as an embedding model.
        """
        self.config.require_unembedding()
        o: dict[str, Any] = dict(options)
        o["stop"] = stop_strings(o["stop"])
        if o["max_new_tokens"] is None:
            o["max_new_tokens"] = self.defaults.max_new_tokens or CONTINUATION_TOKENS
        ids = self.token_ids(prompt, continue_reply=True)
        reply = open_generation(self.tokenizer, self.marks, ids, stop=o["stop"])
        with HeldInterrupts(at_once=False, keep=True) as held:
            [recording] = self._write([reply], o["sampling"] or Sampling.greedy(), o, held)
            return finish_generation(reply, self.tokenizer, recording, o["stop"])

    @accepts(ChatOptions, CHAT_DEFAULTS)
    def chat(self, messages: str | Sequence[Message], **options: Unpack[ChatOptions]) -> Chat:
        """Reply to a question or a conversation.

        Args:
            messages: a question, or messages with "role" and "content"; a last message of the
                assistant is continued.
            {options}

        Raises:
            ValueError: malformed messages, a negative budget, or no room in the context.

        Example:
            >>> import qwen3lab
            >>> lab = qwen3lab.load("tiny-moe")
            >>> chat = lab.chat("3+2*7-1=?", budget=64, seed=0)
            >>> chat.answer, chat.stop
            ('34', 'natural')
        """
        return self._chat([messages], dict(options))[0]

    @accepts(ChatOptions, CHAT_DEFAULTS)
    def chat_batch(
        self,
        conversations: Sequence[str | Sequence[Message]],
        *,
        batch: Count | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[Chat]:
        """Reply to several conversations at once; conversation `i` draws with `seed + i`.

        A reply that ends makes room for the next conversation. With edits, which count the
        positions of a batch, one batch follows the other.

        Args:
            conversations: each is a question, or messages with "role" and "content".
            batch: number of replies that are generated at once, which bounds the memory; None
                means 32, for a large model on a CPU 16, and on a GPU or with edits all.
            {options}

        Raises:
            ValueError: malformed messages, a negative budget, or no room in the context.
        """
        return self._chat(as_prompts(conversations), dict(options), batch=batch)

    def _chat(
        self, conversations: list[Any], o: dict[str, Any], *, batch: int | None = None
    ) -> list[Chat]:
        self.config.require_unembedding()
        _check_budget(o["budget"])
        if o["max_new_tokens"] is None:
            o["max_new_tokens"] = self.suggested.max_new_tokens
        o["stop"], thinking = stop_strings(o["stop"]), o["thinking"]
        talks = [as_messages(talk) for talk in conversations]
        prompts = [self.token_ids(t, thinking=thinking, continue_reply=True) for t in talks]
        modes = [thinking_mode(self.tokenizer, talk, thinking) for talk in talks]
        for note in {mode_note(t, thinking, m) for t, m in zip(talks, modes, strict=True)}:
            if note is not None:
                warnings.warn(note, stacklevel=4)
        samplings = {self.defaults.sampling(thinking=mode) for mode in modes}
        if len(samplings) > 1 and o["sampling"] is None:
            raise ValueError(
                tr(
                    "some conversations think and some do not, and the published sampling "
                    "differs: pass sampling=..., or run them in two batches"
                )
            )
        if not talks:
            return []
        marks = self.marks
        if marks.think is None and (o["budget"] is not None or o["extend"] is not None):
            raise ValueError(
                f"the tokenizer of {self.name} has no <think> and </think>, so a thinking budget "
                "or extension has no effect: leave it out"
            )
        replies = open_chats(
            self.tokenizer,
            marks,
            prompts,
            budget=o["budget"],
            stop=o["stop"],
            extension=o["extend"],
            steering=o["steering"],
        )
        with HeldInterrupts(at_once=False, keep=True) as held:
            sampling = o["sampling"] or samplings.pop()
            recordings = self._write(replies, sampling, o, held, batch=batch)
            return [
                finish_chat(reply, talk, self.tokenizer, recording, o["stop"], thinking_asked=mode)
                for reply, talk, recording, mode in zip(
                    replies, talks, recordings, modes, strict=True
                )
            ]

    @accepts(ControlOptions, CONTROL_DEFAULTS)
    def branch(
        self, chat: Chat, position: int, token_id: int, **options: Unpack[ControlOptions]
    ) -> Chat:
        """Write a reply on from one of its tokens, with another token in its place.

        The tokens before it are kept as they are, not tokenised again, with their probabilities.
        The chosen token is marked as forced, and is listed in `chosen`. Pass the options of the
        chat to write on with the same settings: the budget and `max_new_tokens` are those of the
        whole reply, the kept tokens included. Sampling goes on after the random numbers of the kept
        tokens, so that with the seed of the chat, the token that was written gives the same reply,
        but for rounding. Without options, the reply is sampled as published, from a random seed.

        Args:
            chat: the reply; it does not change.
            position: of the token to replace, in the whole conversation and its recording.
            token_id: the token to write there.
            {options}

        Raises:
            ValueError: the position is not in the reply, the token does not exist, or no room in
                the context.

        Example:
            >>> import qwen3lab
            >>> from qwen3lab.generation import Sampling
            >>> lab = qwen3lab.load("tiny-moe")
            >>> options = {"sampling": Sampling.greedy(), "max_new_tokens": 32}
            >>> chat = lab.chat("3+4=?", thinking=False, **options)
            >>> first = chat.spans["answer"][0]
            >>> other = lab.branch(chat, first, lab.token_ids("9")[0], **options)
            >>> chat.answer, other.answer
            ('7', '9')
        """
        self.config.require_unembedding()
        o: dict[str, Any] = dict(options)
        _check_budget(o["budget"])
        if o["max_new_tokens"] is None:
            o["max_new_tokens"] = self.suggested.max_new_tokens
        o["stop"] = stop_strings(o["stop"])
        checked_ids([token_id], self.config)
        [reply] = open_chats(
            self.tokenizer,
            self.marks,
            [list(chat.prompt_ids)],
            budget=o["budget"],
            stop=o["stop"],
            extension=o["extend"],
            steering=o["steering"],
        )
        reopen(reply, chat, position, token_id)
        thinks = bool(chat.thinking) if chat.thinking_asked is None else chat.thinking_asked
        with HeldInterrupts(at_once=False, keep=True) as held:
            sampling = o["sampling"] or self.defaults.sampling(thinking=thinks)
            [recording] = self._write([reply], sampling, o, held)
            return finish_chat(
                reply,
                chat.messages,
                self.tokenizer,
                recording,
                o["stop"],
                thinking_asked=chat.thinking_asked,
            )

    def chat_sampling(
        self, messages: str | Sequence[Message], *, thinking: bool | None = None
    ) -> Sampling:
        """The sampling that `chat` uses for a conversation unless one is given.

        Args:
            messages: a question, or messages.
            thinking: as in `chat`; what counts is whether the prompt lets the model think.
        """
        mode = thinking_mode(self.tokenizer, as_messages(messages), thinking)
        return self.defaults.sampling(thinking=mode)

    @checked
    def embed(
        self, texts: Sequence[str], *, instruction: str | None = None, at_once: Count = 16
    ) -> Float[Tensor, "text d_model"]:
        """Embeddings of texts as Qwen3-Embedding defines them; their dot products are cosines.

        The final normalised stream at the last token of each text, divided by its length. The
        tokenizer adds its special tokens; that of Qwen3-Embedding ends each text with one.

        Args:
            texts: to embed.
            instruction: the task that queries are embedded for, such as "Given a web search query,
                retrieve relevant passages that answer the query"; documents have none.
            at_once: texts in a pass.

        Returns:
            A row of length 1 for each text, float32.

        Raises:
            ValueError: one text in place of a list, an empty text, or one longer than the context.
        """
        if isinstance(texts, str):
            raise ValueError(tr("embed takes a list of texts: put the text in a list, [text]"))
        start = "" if instruction is None else f"Instruct: {instruction}\nQuery:"
        rows = [self._ids_with_ends(start + text) for text in texts]
        with self.lock:
            return F.normalize(last_states(self.model, rows, at_once=at_once), dim=-1)

    def classify(self, prompt: Prompt) -> Classification:
        """The scores of a classifier (`Qwen3ForSequenceClassification`) for a prompt.

        Args:
            prompt: text (with the tokenizer's special tokens), chat messages or token ids.

        Raises:
            ValueError: the model is no classifier, an empty prompt, or one longer than the context.
        """
        if not self.config.labels:
            raise ValueError(
                tr(
                    "{name} is no classifier: expected a model such as "
                    "Qwen3ForSequenceClassification of transformers saves",
                    name=self.name,
                )
            )
        ids = self._ids_with_ends(prompt) if isinstance(prompt, str) else self.token_ids(prompt)
        with self.lock:
            return classification(self.model, ids)

    def _ids_with_ends(self, text: str) -> list[int]:
        """The ids of a text, with the special tokens that the tokenizer adds."""
        return checked_ids(encode_text(self.tokenizer, text, special=True), self.config)

    def token_ids(
        self, prompt: Prompt, *, thinking: bool | None = None, continue_reply: bool = False
    ) -> list[int]:
        """A prompt as the token ids that the model receives; see `text.prompt_ids`."""
        return prompt_ids(
            self.tokenizer,
            self.config,
            prompt,
            thinking=thinking,
            continue_reply=continue_reply,
        )

    def _for_logits(self, edits: Edits | None) -> str:
        """The hook to record for `Recording.logits`: they, or the stream that they come from.

        Where an edit changes what comes after the stream, the logits cannot be computed from it.
        """
        edited = edits.edits if edits else ()
        is_direct = keeps_logits(self.config) or any(name in AFTER_BLOCKS for name in edited)
        is_direct = is_direct and self.config.has_unembedding
        return "hook_unembed" if is_direct else stream_hook(self.config)

    def _recording(self, ids: list[int], activations: Mapping[str, Tensor]) -> Recording:
        tokens = token_texts(self.tokenizer, ids)
        head = OutputHead.of(self.model) if self.config.has_unembedding else None
        return Recording(
            torch.tensor(ids),
            tokens,
            self.config,
            self.name,
            activations,
            head=head,
            adapter=self.adapter,
        )

    def _write(
        self,
        replies: list[OpenReply],
        sampling: Sampling,
        o: Mapping[str, Any],
        held: HeldInterrupts,
        *,
        batch: int | None = None,
    ) -> list[Recording | None]:
        """Write the replies; returns the recording of each, where they were asked for."""
        writer = ReplyWriter(self.model, self.decoder, self.lock)
        found = writer.write(replies, sampling, o, held, batch=batch)
        return [None if kept is None else self._recording(*kept) for kept in found]


def _check_budget(budget: object) -> None:
    if budget is not None and not (_is_whole(budget) and budget >= 0):
        raise ValueError(
            tr("the thinking budget is {budget!r}: expected 0 or more, or None", budget=budget)
        )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
