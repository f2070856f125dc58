"""Finds a text in the conversation, and jumps to the largest values, for the text view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwen3lab.generation.reply import Chat
from qwen3lab.translation import later, tr
from qwen3lab.widgets.components.error_display import sentence
from qwen3lab.widgets.explorers.find_compute import hits, nearest, place_name, ranked
from qwen3lab.widgets.explorers.text_compute import Shades
from qwen3lab.widgets.workbench.parts.part import AskingBench, Part
from qwen3lab.widgets.workbench.shading import shades_of, what_is_shaded

NO_RUN = later("there is no text yet: run a question first")


@dataclass
class Ranking:
    """The tokens by decreasing value of a quantity, and how far a person has gone through them."""

    key: tuple[object, ...]
    tokens: Sequence[int]
    shades: Shades
    rank: int = 0

    @property
    def picked(self) -> int:
        """The token that was picked last."""
        return self.tokens[self.rank - 1] if self.rank else -1


class FindPart(Part):
    """Picks the tokens that are searched, and those with the largest values."""

    name = "text"

    def __init__(self, bench: AskingBench) -> None:
        super().__init__(bench)
        self.ranking: Ranking | None = None
        self.state.observe(lambda _: self._search(picks=True), ["search"])
        self.state.observe(self._pick, ["hit"])
        self.state.observe(lambda _: self._leave(), ["token"])

    def go(self, step: int = 1) -> None:
        """Pick the next place of the search, or with -1 the previous one; around the ends."""
        state = self.state
        if not state.hits:
            return
        at = state.hit
        if at >= 0 and state.hits[at][0] == state.token:
            at = (at + step) % len(state.hits)
        else:
            at = nearest(state.hits, state.token, step)
        state.hit = -1  # The same place again is a pick, too.
        state.hit = at

    def clear(self) -> None:
        """Search nothing."""
        self.state.search = ""

    def jump(self) -> None:
        """Pick the token with the largest value of the quantity; again, the next largest one."""
        try:
            self._jump()
        except Exception as error:
            self.state.pick_error = sentence(error)

    def started(self) -> None:
        """A new text comes: no place of the old one is picked."""
        super().started()
        self.ranking, self.state.jumped = None, ""
        self.state.hit, self.state.hits = -1, ()

    def finished(self, chat: Chat | None, *, stopped: bool) -> None:
        """Search the new text, too."""
        self._search(picks=False)

    def _search(self, *, picks: bool) -> None:
        state, recording = self.state, self.state.shown
        state.hit = -1
        state.hits = () if recording is None else hits(recording.tokens, state.search)
        if picks and state.hits:
            state.hit = nearest(state.hits, state.token - 1, 1)  # A picked token may be one.

    def _pick(self, change: Any) -> None:
        if change["new"] >= 0 and self.state.shown is not None:
            self.state.token = self.state.hits[change["new"]][0]

    def _jump(self) -> None:
        state, recording = self.state, self.state.shown
        if recording is None:
            raise ValueError(tr(NO_RUN))
        key, ranking = (id(recording), *what_is_shaded(state)), self.ranking
        if ranking is None or ranking.key != key or ranking.picked != state.token:
            shades = shades_of(recording, state, state.token)
            if isinstance(shades, str):
                raise ValueError(shades)
            ranking = Ranking(key, ranked(shades.values), shades)
        if not ranking.tokens:
            raise ValueError(tr("no token has a value: {title}", title=ranking.shades.title))
        ranking.rank = ranking.rank % len(ranking.tokens) + 1
        self.ranking, token = ranking, ranking.picked
        state.token = token
        value = float(ranking.shades.values[token])
        state.jumped = place_name(ranking.rank, ranking.shades.title, value)

    def _leave(self) -> None:
        """Another token was picked: what the jump said is over."""
        if self.ranking is None or self.ranking.picked != self.state.token:
            self.state.jumped = ""
