"""Writes the reply on from an alternative of one of its tokens, and keeps the branches."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.generation.branch import reply_index
from qwen3lab.generation.options import OnStep
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.rendered_logits import logits_hook
from qwen3lab.text.prompt import checked as checked_ids
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.explorers.alternatives_compute import branch_name, names
from qwen3lab.widgets.explorers.find_state import ORIGINAL, Branch
from qwen3lab.widgets.explorers.given_reply import chips_of
from qwen3lab.widgets.workbench.changes import edits_of
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part

NO_MODEL = later("there is no model to write on with: create the workbench with a lab")
NO_REPLY = later("there is no finished reply to write on: run a question first")


@dataclass(frozen=True)
class Pending:
    """A branch that is being written."""

    run: int
    branch: Branch


class BranchesPart(Part):
    """Replies that go on from another token than the one that was written.

    A branch is a run of its own with the settings of the run that it comes from: all views show it.
    `state.branches` has the original and its branches until another question is asked.
    """

    name = "branches"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.pending: Pending | None = None
        self.keeps = False
        self.state.observe(self._show, ["branch"])

    def write(self, position: int, token_id: int) -> None:
        """Write the reply on from a token, with another one in its place, in the background.

        Args:
            position: of the token to replace, in the conversation.
            token_id: the token to write there.

        Raises:
            ValueError: there is no model or no finished reply, or the position or the token does
                not exist.
        """
        with self.lock:
            chat = self.state.current
            if not self.bench.asks:
                raise ValueError(tr(NO_MODEL))
            if chat is None or self.state.status != "idle":
                raise ValueError(tr(NO_REPLY))
            index = reply_index(chat, position)
            checked_ids([token_id], self.bench.config)
            self._begin(chat, index, token_id)

    def try_to_write(self, position: int, token_id: int) -> None:
        """Like `write`; what it refuses is shown in the workbench."""
        try:
            self.write(position, token_id)
        except ValueError as error:
            self.state.pick_error = sentence(error)

    def hooks(self) -> Sequence[str]:
        """What the probabilities of the alternatives are computed from."""
        return (logits_hook(self.bench.config),)

    def started(self) -> None:
        """Another question has no branches yet."""
        super().started()
        if not self.keeps:
            self.pending, self.state.branches, self.state.branch = None, (), 0

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """List a branch that was written, and pick its chosen token."""
        pending, state = self.pending, self.state
        if chat is None or pending is None or pending.run != state.run:
            return
        self.pending = None
        branch = Branch(pending.branch.name, chat, pending.branch.position, pending.branch.parent)
        state.status = "idle"
        state.branches = (*state.branches, branch)
        state.branch = len(state.branches) - 1
        state.token = branch.position

    def _begin(self, chat: Chat, index: int, token_id: int) -> None:
        state, position = self.state, index + len(chat.prompt_ids)
        if not state.branches:
            state.branches = (Branch(ORIGINAL, chat),)
        chosen, replaced = names(
            [token_id, chat.token_ids[index]], state.recording, self.lab.tokenizer
        )
        name = branch_name(position, chosen, replaced, state.branch)
        options = self._options()
        self.pending = Pending(state.run + 1, Branch(name, chat, position, state.branch))
        refused = state.refused
        self.keeps = True
        try:
            job = self._job(chat, index, token_id, options)
            self.bench.begin(job, chips_of(chat)[:index])
        finally:
            self.keeps = False
        state.refused = refused

    def _options(self) -> dict[str, Any]:
        """The options of the run, with the thinking tokens that were granted during it."""
        options = self.bench.options_of_run() | {"budget": self.state.asked_budget}
        sampling = self.bench.asker.sampling(
            self.state.asked, options.pop("temperature"), thinking=options.pop("thinking")
        )
        return options | {"sampling": sampling}

    def _job(self, chat: Chat, index: int, token_id: int, options: dict[str, Any]) -> Any:
        position, changes = index + len(chat.prompt_ids), self.state.asked_changes

        def job(run: int, cancel: threading.Event) -> Chat:
            def write(on_step: OnStep) -> Chat:
                edits = edits_of(self.lab, changes)
                return self.lab.branch(
                    chat,
                    position,
                    token_id,
                    on_step=on_step,
                    cancel=cancel,
                    **options,
                    **edits,
                )

            try:
                return self.bench.asker.follow(run, write, chips_of(chat)[:index])
            except Exception as error:
                return self._return_to(run, chat, sentence(error))

        return job

    def _return_to(self, run: int, chat: Chat, error: str) -> Chat:
        """Show the reply again that a branch could not be written from."""
        with self.lock:
            if run == self.state.run:
                self.pending = None
                self._show_reply(chat)
                self.state.status, self.state.error = "idle", error
        return chat

    def _show_reply(self, chat: Chat) -> None:
        self.keeps = True
        try:
            self.bench.show_reply(chat)
        finally:
            self.keeps = False

    def _show(self, change: Any) -> None:
        """Show the branch that was chosen; the pick stays up to where it leaves the other one."""
        state = self.state
        if not state.branches:
            return
        chat, before = state.branches[change["new"]].chat, state.current
        if chat is before:
            return
        token = state.token
        with self.lock:
            self._show_reply(chat)
        if token >= 0 and before is not None:
            state.token = min(token, _first_difference(before, chat))


def _first_difference(one: Chat, other: Chat) -> int:
    """The first position where two replies to one question differ; the last one of both if none."""
    texts = [[*each.prompt_ids, *each.token_ids] for each in (one, other)]
    pairs = enumerate(zip(*texts, strict=False))
    differs = (at for at, (left, right) in pairs if left != right)
    return next(differs, min(map(len, texts)) - 1)
