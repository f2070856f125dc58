"""Views in files: what comes back, and what is refused. Notes on tokens, heads and experts."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from traitlets import TraitError

import qwen3lab
from qwen3lab.errors import RecordingError
from qwen3lab.generation.sampling import Sampling
from qwen3lab.widgets import AttentionExplorer, Workbench
from qwen3lab.widgets.workbench.changes import Scale
from qwen3lab.widgets.workbench.keep.notes import Note
from qwen3lab.widgets.workbench.keep.view_file import FORMAT
from qwen3lab.widgets.workbench.state import TABS
from tests.fake_lab import DENSE, MOE, FakeLab, record
from tests.widgets.workbench.benches import panel, text

QUESTION = "lamp 2, book 7, cat 1. book?"
SIX = ["a", "b", "<b>c</b>", "d", "e", "f"]


@pytest.fixture
def kept(tiny_lab, tmp_path) -> Path:
    """The file of a view of a finished run."""
    bench = Workbench(tiny_lab, question=QUESTION, thinking=False)
    bench.run()
    bench.state.layer, bench.state.head, bench.state.token = 2, 3, 9
    bench.state.routing_layer, bench.state.expert = 4, 11
    bench.state.tab = "routing"
    bench.note("why <this>?")
    bench.note("looks back", on="head")
    bench.note("digits", on="expert")
    bench.save(tmp_path / "view.json")
    return tmp_path / "view.json"


@pytest.fixture
def small(tmp_path) -> Path:
    """The file of a view of a recording without a reply."""
    Workbench(record(MOE, SIX, {})).save(tmp_path / "small.json")
    return tmp_path / "small.json"


def changed(path: Path, **fields: object) -> Path:
    """The file with other fields; a dotted name changes a field of a field."""
    found = json.loads(path.read_text("utf-8"))
    for name, value in fields.items():
        *outer, last = name.split("__")
        inner = found
        for each in outer:
            inner = inner[each]
        inner[last] = value
    path.write_text(json.dumps(found), "utf-8")
    return path


def test_a_view_comes_back_with_reply_picks_tab_and_notes(kept, tiny_lab) -> None:
    first = json.loads(kept.read_text("utf-8"))
    bench = Workbench.open_view(kept, lab=tiny_lab)
    state = bench.state
    assert (state.layer, state.head, state.token) == (2, 3, 9)
    assert (state.routing_layer, state.expert, state.tab) == (4, 11, "routing")
    assert state.question == QUESTION and state.thinking is False
    assert [(n.name, n.text) for n in bench.notes] == [
        ("token 9", "why <this>?"),
        ("layer 2, head 3", "looks back"),
        ("layer 4, expert 11", "digits"),
    ]
    again = tiny_lab.chat(QUESTION, thinking=False, record=True)
    assert state.current.text == again.text and state.current.stop == again.stop
    bench.save(kept)
    assert json.loads(kept.read_text("utf-8")) == first


def test_numbers_of_the_reply_come_back_to_the_bit(tiny_lab, tmp_path) -> None:
    chat = tiny_lab.chat("3+4=?", thinking=True, record=True)
    Workbench(tiny_lab, chat=chat).save(tmp_path / "view.json")
    back = Workbench.open_view(tmp_path / "view.json").state.current
    assert torch.equal(back.logprobs, chat.logprobs) and torch.equal(back.entropy, chat.entropy)
    assert torch.equal(back.forced, chat.forced) and back.spans == dict(chat.spans)
    assert back.recording == chat.recording and back.messages == list(chat.messages)


def test_without_a_lab_the_view_is_shown_and_cannot_ask(kept) -> None:
    bench = AttentionExplorer.open_view(kept)
    assert isinstance(bench, AttentionExplorer) and not bench.asks
    assert bench.state.tab == "routing" and len(bench.state.recording.attention.layers) == 6
    panel(bench)
    with pytest.raises(ValueError, match="cannot ask questions"):
        bench.run()


def test_with_a_lab_the_same_question_can_be_asked_again(kept, tiny_lab) -> None:
    bench = Workbench.open_view(kept, lab=tiny_lab)
    before = bench.state.current
    assert bench.run().text == before.text
    assert bench.state.token == 9, "the picked token is found in the new reply"


def test_a_view_of_other_weights_or_sizes_is_refused(kept, small, tiny_lab) -> None:
    dense_lab = qwen3lab.load("tiny-dense", device="cpu")
    with pytest.raises(RecordingError, match=r"is a view of tiny-moe, and the lab has tiny-dense"):
        Workbench.open_view(kept, lab=dense_lab)
    with pytest.raises(RecordingError, match="is a view of fake, and the lab has fake"):
        Workbench.open_view(small, lab=FakeLab(DENSE))
    changed(kept, fingerprint="0" * 64)
    with pytest.raises(RecordingError, match="with other sizes or weights"):
        Workbench.open_view(kept, lab=tiny_lab)


@pytest.fixture
def half_lab() -> qwen3lab.Lab:
    return qwen3lab.load("tiny-moe", device="cpu", dtype="bfloat16")


@pytest.fixture
def half(half_lab, tmp_path) -> tuple[Workbench, Path]:
    """A workbench whose model runs in bfloat16, and its view."""
    bench = Workbench(half_lab, question="3+4=?", thinking=False)
    bench.run()
    bench.save(tmp_path / "half.json")
    return bench, tmp_path / "half.json"


def test_a_view_of_another_dtype_shows_its_recording_and_says_so_until_it_asks_again(
    half, half_lab, tiny_lab
) -> None:
    before, path = half
    bench = Workbench.open_view(path, lab=tiny_lab)
    panel(bench)
    said = "was recorded in bfloat16, and the lab runs in float32"
    assert said in bench.state.error and said in panel(bench).alert.value
    exact, shown = before.state.recording, bench.state.recording
    for hook in exact.capture:
        assert torch.equal(shown.raw(hook), exact.raw(hook)) and (
            shown.raw(hook).dtype == exact.raw(hook).dtype
        )
    assert torch.equal(shown.logits[3:5], exact.logits[3:5]), "as the lab of the run computes them"
    for tab in TABS:
        bench.state.tab = tab
        bench.wait()
        assert bench.state.drawing_error == "" and said in bench.state.error
    bench.run()
    assert bench.state.error == ""
    kinds = {each.dtype for each in bench.state.recording.activations.values()}
    assert torch.float32 in kinds and torch.bfloat16 not in kinds


def test_a_change_after_a_view_of_another_dtype_is_compared_in_the_dtype_of_the_lab(
    half, tiny_lab
) -> None:
    bench = Workbench.open_view(half[1], lab=tiny_lab)
    opened = bench.state.current
    bench.change(Scale("mlp", 4))
    bench.run()
    bench.wait()
    plain = tiny_lab.chat("3+4=?", thinking=False, sampling=Sampling.greedy())
    assert bench.state.baseline is not opened
    torch.testing.assert_close(bench.state.baseline.logprobs, plain.logprobs)


def test_a_view_of_another_dtype_is_saved_again_as_that_of_its_own_model(
    half, half_lab, tiny_lab
) -> None:
    before, path = half
    Workbench.open_view(path, lab=tiny_lab).save(path.with_name("again.json"))
    again = Workbench.open_view(path.with_name("again.json"), lab=half_lab)
    assert again.state.error == ""
    assert again.state.current.text == before.state.current.text


def test_a_view_of_another_dtype_and_of_other_weights_is_refused_with_the_dtype_to_load(
    half, tiny_lab
) -> None:
    _, path = half
    changed(path, fingerprint="0" * 64)
    says = r"in bfloat16, and the lab runs in float32, .*load\(..., dtype='bfloat16'\)"
    with pytest.raises(RecordingError, match=says):
        Workbench.open_view(path, lab=tiny_lab)
    assert Workbench.open_view(path).state.error == ""


def test_a_file_of_a_newer_version_is_refused(small) -> None:
    changed(small, format=FORMAT + 1)
    with pytest.raises(RecordingError, match=f"reads up to {FORMAT}: upgrade qwen3lab"):
        Workbench.open_view(small)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "..", "a\\b", ""])
def test_a_recording_outside_of_the_folder_is_refused(small, name) -> None:
    changed(small, recording=name)
    with pytest.raises(RecordingError, match="names a recording outside of its folder"):
        Workbench.open_view(small)


def test_a_link_out_of_the_folder_is_refused(small, tmp_path) -> None:
    inside = small.parent / "small.recording.safetensors"
    outside = tmp_path / "elsewhere" / inside.name
    outside.parent.mkdir()
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(RecordingError, match="outside of its folder"):
        Workbench.open_view(small)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shown__layer": 4}, "layer 4 does not exist: the model has layers 0 to 3"),
        ({"shown__token": 6}, "token 6 does not exist: the text has tokens 0 to 5"),
        ({"shown__head": "1"}, "head"),
        ({"shown__tab": "elsewhere"}, "tab"),
        ({"shown__recording": 1}, "'recording' is nothing that a view shows"),
        ({"changes": [{"change": "Route", "layer": 0, "expert": 1}]}, "layer 0 has no experts"),
        ({"changes": [{"change": "Steal"}]}, "is no change"),
        ({"notes": [{"kind": "head", "place": [9, 0], "text": "x", "about": ""}]}, "not exist"),
        ({"notes": [{"kind": "token", "place": [2], "text": "x", "about": "z"}]}, "token 2"),
        ({"notes": [{"kind": "tail", "place": [2], "text": "x", "about": "z"}]}, "tail"),
        ({"settings__seed": "0"}, "its settings are not those of a run"),
        ({"settings__max_new_tokens": 0}, "its settings are not those of a run"),
        ({"extra": 1}, "extra"),
    ],
)
def test_an_impossible_view_is_refused_in_one_sentence(small, fields, says) -> None:
    changed(small, **fields)
    with pytest.raises(RecordingError, match=says) as raised:
        Workbench.open_view(small)
    assert "is a damaged view" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b'{"name": "qwen3lab view", "format": 1', "damaged"),
        (b'{"name": "qwen3lab view", "format": NaN}', "NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"name": "other"}', "is no view of a workbench"),
        (pickle.dumps({"name": "qwen3lab view"}), "damaged"),
    ],
)
def test_what_is_no_view_is_refused(tmp_path, content, says) -> None:
    path = tmp_path / "view.json"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=says):
        Workbench.open_view(path)


def test_a_missing_or_another_recording_is_refused(small) -> None:
    beside = small.parent / "small.recording.safetensors"
    record(MOE, [*SIX, "g"], {}).save(beside)
    with pytest.raises(RecordingError, match="is a view of another run"):
        Workbench.open_view(small)
    beside.unlink()
    with pytest.raises(RecordingError, match="does not exist"):
        Workbench.open_view(small)
    with pytest.raises(RecordingError, match="does not exist"):
        Workbench.open_view(small.parent / "none.json")


def test_a_reply_that_does_not_fit_its_recording_is_refused(kept) -> None:
    fields = json.loads(kept.read_text("utf-8"))["reply"]
    for name, value in (
        ("logprobs", fields["logprobs"][1:]),
        ("token_ids", [0, *fields["token_ids"][1:]]),
        ("spans", {"prompt": [0, 999]}),
        ("stop", "bored"),
    ):
        before = kept.read_text("utf-8")
        changed(kept, **{f"reply__{name}": value})
        with pytest.raises(RecordingError, match="is a damaged view"):
            Workbench.open_view(kept)
        kept.write_text(before, "utf-8")


def test_without_a_run_there_is_nothing_to_keep(tmp_path) -> None:
    with pytest.raises(RecordingError, match="there is no finished run to keep"):
        Workbench(FakeLab()).save(tmp_path / "view.json")
    assert list(tmp_path.iterdir()) == []


def test_a_note_is_of_the_picked_part_and_an_empty_one_removes_it() -> None:
    bench = Workbench(record(MOE, SIX, {}))
    with pytest.raises(ValueError, match="no token is picked"):
        bench.note("x")
    with pytest.raises(ValueError, match="no expert is picked"):
        bench.note("x", on="expert")
    bench.state.token = 2
    bench.note(" first ")
    bench.note("second")
    assert bench.notes == (Note("token", (2,), "second", "<b>c</b>"),)
    with pytest.raises(ValueError, match="a note has 1 to 500 characters, and this one has 501"):
        bench.note("x" * 501)
    bench.note("")
    assert bench.notes == ()


@pytest.mark.parametrize(
    "note",
    [
        Note("head", (4, 0), "x"),
        Note("expert", (0, 1), "x"),
        Note("token", (1, 2), "x"),
        Note("head", (0, 0), "  "),
        Note("head", (0, 0), "x" * 501),
        "a text",
    ],
)
def test_an_impossible_note_is_refused_in_the_state(note) -> None:
    bench = Workbench(record(MOE, SIX, {}))
    with pytest.raises(TraitError, match="note"):
        bench.state.notes = (note,)
    assert bench.notes == ()


def test_a_note_on_a_token_of_another_text_is_not_shown() -> None:
    note = Note("token", (2,), "x", "<b>c</b>")
    assert note.fits(record(MOE, SIX, {}))
    assert not note.fits(record(MOE, SIX[:2], {})) and not note.fits(record(MOE, ["z"] * 6, {}))


def test_notes_are_marked_on_the_strip_and_escaped_in_the_card() -> None:
    bench = Workbench(record(MOE, SIX, {}))
    shown = text(bench)
    bench.state.token = 2
    bench.note("<img src=x>")
    assert shown.text.notes == {"2": "<img src=x>"}
    card = panel(bench).noting
    assert "&lt;img src=x&gt;" in card.lines.value and "<img" not in card.lines.value
    assert card.text.value == "<img src=x>"
    bench.state.token = 3
    assert card.text.value == ""
    bench.note("three")
    assert shown.text.notes == {"2": "<img src=x>", "3": "three"}


def test_the_button_writes_the_note_of_the_field() -> None:
    bench = Workbench(record(MOE, SIX, {}))
    card = panel(bench).noting
    card.text.value = "in the head"
    card.on.value = "head"
    card.text.value = "in the head"
    card.write()
    assert bench.notes == (Note("head", (2, 0), "in the head"),)
    card.on.value = "token"
    card.text.value = "nowhere"
    card.write()
    assert "no token is picked" in bench.state.pick_error and len(bench.notes) == 1
