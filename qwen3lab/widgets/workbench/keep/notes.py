"""Short notes on tokens, heads and experts, which are kept with a view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.explorers.state import ExplorerState

Kind = Literal["token", "head", "expert"]
KINDS: tuple[Kind, ...] = ("token", "head", "expert")
"""What a note can be on."""

MAX_CHARACTERS = 500
"""Longest note: it stands in the card of the picked token."""


@dataclass(frozen=True)
class Note:
    """A note on one token, head or expert.

    Attributes:
        kind: "token", "head" or "expert".
        place: number of the token; or layer and head; or layer and expert.
        text: of the note.
        about: text of the token, so that the note is shown for this token alone; else empty.
    """

    kind: Kind
    place: tuple[int, ...]
    text: str
    about: str = ""

    @property
    def name(self) -> str:
        """What the note is on, such as "layer 2, head 3"."""
        if self.kind == "token":
            return tr("token {position}", position=self.place[0])
        layer, number = self.place
        if self.kind == "head":
            return tr("layer {layer}, head {head}", layer=layer, head=number)
        return tr("layer {layer}, expert {expert}", layer=layer, expert=number)

    def fits(self, recording: Recording | None) -> bool:
        """True if the recording has this head, this expert, or this token with the same text."""
        if self.kind != "token" or recording is None:
            return self.kind != "token"
        (token,) = self.place
        return token < len(recording) and recording.tokens[token] == self.about


def check_note(note: object, config: Qwen3Config) -> Note:
    """The note, if the model has what it is on.

    Raises:
        ValueError: it is no note, its text is empty or too long, or there is no such place.
    """
    if not isinstance(note, Note):
        raise ValueError(tr("{note!r} is no note: give a Note", note=str(note)[:40]))
    if not note.text.strip() or len(note.text) > MAX_CHARACTERS:
        raise ValueError(
            tr(
                "a note has 1 to {max_characters} characters, and this one has {n}",
                max_characters=MAX_CHARACTERS,
                n=len(note.text),
            )
        )
    if not _exists(note, config):
        raise ValueError(
            tr(
                "a note is on {kind} {place}, which does not exist",
                kind=tr(note.kind),
                place=list(note.place),
            )
        )
    return note


def place_of(kind: str, state: ExplorerState) -> tuple[int, ...] | None:
    """The picked token, head or expert; None if none is picked."""
    if kind == "token":
        return (state.token,) if state.token >= 0 else None
    if kind == "head":
        return state.layer, state.head
    expert = getattr(state, "expert", -1)
    return (state.routing_layer, expert) if expert >= 0 else None


def note_at(notes: Sequence[Note], kind: str, state: ExplorerState) -> Note | None:
    """The note on the picked part of a kind; None without one."""
    place = place_of(kind, state)
    found = [n for n in notes if (n.kind, n.place) == (kind, place) and n.fits(state.recording)]
    return found[0] if found else None


def with_note(
    notes: Sequence[Note], kind: Kind, text: str, state: ExplorerState
) -> tuple[Note, ...]:
    """The notes with one on the picked part, in place of an earlier one; without it if empty.

    Raises:
        ValueError: nothing of this kind is picked.
    """
    place = place_of(kind, state)
    if place is None or (kind == "token" and state.recording is None):
        raise ValueError(
            tr("no {kind} is picked: pick one, and then write a note on it", kind=tr(kind))
        )
    old = note_at(notes, kind, state)
    others = tuple(note for note in notes if note is not old)
    if not text.strip():
        return others
    about = state.recording.tokens[place[0]] if kind == "token" else ""
    return (*others, Note(kind, place, text.strip(), about))


def token_notes_of(notes: Sequence[Note], recording: Recording | None) -> dict[str, str]:
    """Texts of the notes on a recording's tokens, by the token's number as text."""
    found = [note for note in notes if note.kind == "token" and note.fits(recording)]
    return {str(note.place[0]): note.text for note in found}


def _exists(note: Note, config: Qwen3Config) -> bool:
    if len(note.place) != (1 if note.kind == "token" else 2) or min(note.place) < 0:
        return False
    if note.kind == "token":
        return True
    layer, number = note.place
    if note.kind == "head":
        return layer < config.n_layers and number < config.n_heads
    return layer in config.moe_layers and number < config.n_experts
