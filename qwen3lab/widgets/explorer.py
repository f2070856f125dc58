"""The explorer: ask a question, watch the reply come, and look inside the run."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from IPython.display import display

from qwen3lab.chat import token_texts
from qwen3lab.generate import Sampling
from qwen3lab.lab import Lab
from qwen3lab.reply import Chat, ChatStep
from qwen3lab.widgets.compute import chips_of, streamed_chips
from qwen3lab.widgets.errors import sentence, shows_errors
from qwen3lab.widgets.questions import questions_for
from qwen3lab.widgets.state import ExplorerState
from qwen3lab.widgets.view import View
from qwen3lab.widgets.worker import Throttle, Worker

SECONDS_BETWEEN_UPDATES = 0.08


class Explorer:
    """Asks a model in a notebook, and shows its reply, routing, attention and entropy.

    The last expression of a cell shows it, and asks the first question at once. Model runs
    happen in a thread of their own, so the notebook stays usable and Stop works.

    Args:
        lab: the model.
        question: asked first; a question that the model was made for if None.
        thinking: whether it thinks first.
        budget: thinking tokens before the early stop; None for no limit.
        max_new_tokens: longest reply.

    Attributes:
        state: everything that is shown, to read or to set: `explorer.state.layer = 2`.
    """

    shown: ClassVar[dict[str, "Explorer"]] = {}

    def __init__(
        self,
        lab: Lab,
        *,
        question: str | None = None,
        thinking: bool = True,
        budget: int | None = None,
        max_new_tokens: int = 1024,
    ) -> None:
        self.lab, self.max_new_tokens = lab, max_new_tokens
        self.examples = questions_for(lab.name)
        layers = lab.config.moe_layers
        self.state = ExplorerState(
            question=self.examples[0] if question is None else question,
            thinking=thinking,
            budget=budget,
            layer=lab.config.n_layers // 2,
            routing_layer=layers[len(layers) // 2] if layers else 0,
        )
        self.worker: Worker[Chat] = Worker()
        self.view: View | None = None

    def run(self) -> Chat:
        """Ask the question in the box and wait for the reply; interrupting keeps what came.

        Raises:
            ValueError: what the model cannot be asked; the explorer shows it too.
        """
        self.start()
        chat = self.wait()
        assert chat is not None
        return chat

    def wait(self) -> Chat | None:
        """The reply of the run that is going on, or of the last one; None before the first."""
        return self.worker.wait()

    @shows_errors
    def start(self) -> None:
        """Ask the question in the box, in the background; a run that goes on is stopped."""
        state = self.state
        self.worker.stop()
        with state.hold_trait_notifications():
            state.error = ""
            state.token = -1
            state.chips = ()
            state.run += 1
            state.asked, state.asked_thinking = state.question, state.thinking
            state.asked_budget = state.budget
            state.status = "running"
        self.worker.start(self._job())

    @shows_errors
    def stop(self) -> None:
        """Stop the run after its next token; what was written stays."""
        if self.worker.is_busy:
            self.state.status = "stopping"
            self.worker.stop()

    def close(self) -> None:
        """Stop, and take the explorer out of the page."""
        self.worker.stop()
        if self.view is not None:
            self.view.close()
            self.view = None

    def _ipython_display_(self) -> None:
        predecessor = self.shown.get(self.lab.name)
        if predecessor is self and self.view is not None:
            self.view.close()
        elif predecessor is not None:
            predecessor.close()
        self.shown[self.lab.name] = self
        self.view = View(self.lab.name, self.lab.config, self.state, self.examples)
        self.view.controls.connect(run=self.start, stop=self.stop)
        display(self.view.root)
        if self.state.run == 0:
            self.start()

    def _job(self) -> Callable[[threading.Event], Chat]:
        run, question, options = self.state.run, self.state.question, self._options()

        def job(cancel: threading.Event) -> Chat:
            try:
                chat = self._ask(run, question, options, cancel)
            except Exception as error:
                self._finish(run, error=sentence(error))
                raise
            self._finish(run, chat)
            return chat

        return job

    def _options(self) -> dict[str, Any]:
        state = self.state
        published = Sampling.published(thinking=state.thinking)
        sampled = replace(published, temperature=state.temperature)
        return {
            "thinking": state.thinking,
            "budget": state.budget if state.thinking else None,
            "sampling": Sampling.greedy() if state.greedy else sampled,
            "seed": state.seed,
            "max_new_tokens": self.max_new_tokens,
        }

    def _ask(
        self, run: int, question: str, options: dict[str, Any], cancel: threading.Event
    ) -> Chat:
        if not question.strip():
            raise ValueError(f"the question is empty: type one, such as “{self.examples[0]}”")
        steps: list[ChatStep] = []
        throttle = Throttle(SECONDS_BETWEEN_UPDATES)

        def on_step(step: ChatStep) -> None:
            steps.append(step)
            if throttle.ready() and run == self.state.run:
                texts = token_texts(self.lab.tokenizer, [s.token_id for s in steps])
                self.state.chips = streamed_chips(steps, texts)

        return self.lab.chat(question, record=True, on_step=on_step, cancel=cancel, **options)

    def _finish(self, run: int, chat: Chat | None = None, *, error: str = "") -> None:
        """Show what a run gave; nothing of it if another has been started since."""
        if run != self.state.run:
            return
        if chat is not None:
            self.state.chips = chips_of(chat)
            self.state.chat = chat
        self.state.error = error or self.state.error
        self.state.status = "idle"
