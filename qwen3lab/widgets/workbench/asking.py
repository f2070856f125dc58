"""Asks a model for the workbench: settings become options, and each new token is shown."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from qwen3lab.generation.options import OnStep
from qwen3lab.generation.reply import Chat, ChatStep
from qwen3lab.generation.sampling import Sampling
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.widgets.components.transcript import Chip
from qwen3lab.widgets.components.worker import Throttle
from qwen3lab.widgets.explorers.chat_compute import chip
from qwen3lab.widgets.workbench.recorded import ChatModel
from qwen3lab.widgets.workbench.state import WorkbenchState
from qwen3lab.widgets.workbench.timing import SECONDS_BETWEEN_UPDATES


class Asker:
    """Asks a model, and puts each new token into the state.

    Args:
        lab: the model.
        state: has the settings, and gets the tokens.
        lock: held while the state of a run is changed.
        max_new_tokens: maximum length of a reply, in tokens.
    """

    def __init__(
        self, lab: ChatModel, state: WorkbenchState, lock: Any, max_new_tokens: int
    ) -> None:
        self.lab, self.state, self.lock = lab, state, lock
        self.max_new_tokens = max_new_tokens
        state.observe(self._follow_mode, ["thinking"])

    def options(self) -> dict[str, Any]:
        """Options of `reply`. The budget holds in both modes: a model may think unasked."""
        state = self.state
        is_published = state.temperature == self.lab.suggested.temperatures[state.thinking]
        return {
            "thinking": state.thinking,
            "budget": state.budget,
            "temperature": 0.0 if state.greedy else None if is_published else state.temperature,
            "seed": state.seed,
            "max_new_tokens": self.max_new_tokens,
        }

    def reply(self, question: str, *, temperature: float | None, **options: Any) -> Chat:
        """A reply, sampled as published for its mode, at a temperature.

        0 is greedy, and None the published temperature, which differs between the modes.
        """
        return reply_of(self.lab, question, temperature=temperature, **options)

    def sampling(self, question: str, temperature: float | None, *, thinking: bool) -> Sampling:
        """The sampling of `reply`."""
        return sampling_of(self.lab, question, temperature, thinking=thinking)

    def _follow_mode(self, change: Any) -> None:
        """Take the temperature published for the new mode, unless another one was chosen."""
        published = self.lab.suggested.temperatures
        if self.state.temperature == published[change["old"]] and published[change["new"]]:
            self.state.temperature = published[change["new"]]

    def ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        """The reply of a run; each new token is shown, and the seconds per token are noted."""

        def write(on_step: OnStep) -> Chat:
            return self.reply(question, on_step=on_step, cancel=cancel, **options)

        return self.follow(run, write)

    def follow(
        self, run: int, write: Callable[[OnStep], Chat], kept: Sequence[Chip] | None = None
    ) -> Chat:
        """The reply that `write` makes; each new token is shown.

        Args:
            run: number of the run.
            write: makes the reply, and calls what it is given with every token.
            kept: the tokens before the first one, in a branch, whose first token is chosen.
        """
        chips: list[Chip] = [*(kept or ())]
        chosen = -1 if kept is None else len(kept)
        throttle, begun = Throttle(SECONDS_BETWEEN_UPDATES), time.monotonic()

        def on_step(step: ChatStep) -> None:
            (text,) = token_texts(self.lab.tokenizer, [step.token_id])
            chips.append(chip(step, text, chosen=len(chips) == chosen))
            if throttle.ready():
                self.stream(run, chips)

        try:
            chat = write(on_step)
        finally:
            self.stream(run, chips)
        with self.lock:
            if run == self.state.run:
                self.state.pace = (time.monotonic() - begun) / max(1, len(chips) - max(0, chosen))
        return chat

    def stream(self, run: int, chips: list[Chip]) -> None:
        """Show the tokens of a run so far, unless a newer one has started."""
        with self.lock:
            if run == self.state.run:
                self.state.chips = tuple(chips)


def reply_of(lab: ChatModel, question: str, *, temperature: float | None, **options: Any) -> Chat:
    """A reply of a model; `temperature` as in `Asker.reply`."""
    sampling = sampling_of(lab, question, temperature, thinking=options["thinking"])
    return lab.chat(question, sampling=sampling, **options)


def sampling_of(
    lab: ChatModel, question: str, temperature: float | None, *, thinking: bool
) -> Sampling:
    """The sampling of a reply; `temperature` as in `Asker.reply`."""
    if temperature == 0:
        return Sampling.greedy()
    published = lab.chat_sampling(question, thinking=thinking)
    return published if temperature is None else replace(published, temperature=temperature)


def first_state(lab: ChatModel, max_new_tokens: int, **values: Any) -> WorkbenchState:
    """The state before the first run: the settings that fit the model, and picks in the middle."""
    config, suggested = lab.config, lab.suggested
    layers = config.moe_layers
    temperature = suggested.temperatures[values["thinking"]]
    return WorkbenchState(
        config,
        longest_budget=max_new_tokens,
        greedy=suggested.sampling is not None or temperature == 0,
        layer=config.n_layers // 2,
        routing_layer=layers[len(layers) // 2] if layers else 0,
        **({"temperature": temperature} if temperature else {}),
        **values,
    )
