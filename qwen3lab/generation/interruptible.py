"""Where an interrupt of a reply takes effect: during forward passes, and while a step is shown."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.generation.decoding import Decoder
from qwen3lab.generation.options import OnStep
from qwen3lab.generation.reply import ChatStep
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.model.kv_cache import KVCache


class InterruptibleDecoder:
    """A decoder whose forward passes can be interrupted where interrupts are held back.

    Args:
        decoder: runs the passes.
        held: released during a pass.
    """

    def __init__(self, decoder: Decoder, held: HeldInterrupts) -> None:
        self.decoder, self.held = decoder, held

    def __getattr__(self, name: str) -> Any:
        """Other attributes are those of the decoder, such as the model's blocks."""
        return getattr(self.decoder, name)

    @property
    def device(self) -> torch.device:
        """Device of the forward passes."""
        return self.decoder.device

    def new_cache(self, *, batch: int = 1, capacity: int = 256) -> KVCache:
        """An empty key/value cache for a batch."""
        return self.decoder.new_cache(batch=batch, capacity=capacity)

    def __call__(self, *args: Any, **options: Any) -> Float[Tensor, "batch out vocab"]:
        """Logits of the next token; arguments as in `Qwen3.forward`."""
        self.held.release()
        try:
            return self.decoder(*args, **options)
        finally:
            self.held.hold()


class Streamed:
    """Hands steps to `on_step`, each once, also if an interrupt comes in between.

    Args:
        on_step: gets the steps; None for nobody.
        held: released while `on_step` runs.
    """

    def __init__(self, on_step: OnStep | None, held: HeldInterrupts) -> None:
        self.on_step, self.held = on_step, held
        self._steps: list[ChatStep] = []
        self._n_shown = 0

    def show(self, steps: Sequence[ChatStep]) -> None:
        """Show the steps of one pass; interrupts can come meanwhile."""
        if self.on_step is None:
            return
        self._steps, self._n_shown = list(steps), 0
        while self._n_shown < len(self._steps):
            self.held.release()
            self._n_shown += 1
            self.on_step(self._steps[self._n_shown - 1])
            self.held.hold()

    def add(self, step: ChatStep | None) -> None:
        """Add a step for `show_rest`."""
        if step is not None:
            self._steps.append(step)

    def show_rest(self) -> None:
        """Show what an interrupt left; interrupts are held back."""
        rest, self._steps = self._steps[self._n_shown :], []
        if self.on_step is None:
            return
        for step in rest:
            with suppress(KeyboardInterrupt):  # Raised by `on_step` itself.
                self.on_step(step)
