"""The attention explorer without a kernel: tests set widget values and read them."""

import threading

import ipywidgets as w
import pytest
import torch
from traitlets import TraitError

from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.analysis.map_windows import looked_at_by, looks_at, window
from qwen3lab.errors import RecordingError
from qwen3lab.recording.recording import Recording
from qwen3lab.widgets import AttentionExplorer
from qwen3lab.widgets.explorers import attention_maps
from qwen3lab.widgets.explorers.attention_compute import frame_on_wall, head_at, pooling_note
from qwen3lab.widgets.workbench.parts import heads
from qwen3lab.widgets.workbench.state import ATTENDED, ATTENDS
from tests.analysis.test_map_windows import recorded
from tests.fake_lab import FakeLab
from tests.widgets.workbench.benches import attention, panel, text


@pytest.fixture(scope="module")
def recording():
    return recorded()


@pytest.fixture
def explorer(recording):
    """A displayed explorer of a recording, with measured heads."""
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    explorer.wait()
    return explorer


def test_a_recording_is_shown_without_a_run(explorer, recording):
    view = attention(explorer)
    assert view.heads.wall.heatmap.title == "Attention of all heads"
    assert view.map.heatmap.title == "Attention of layer 1, head 0"
    expected = window(recording, 1, 0).values
    torch.testing.assert_close(view.map.heatmap.values, expected, equal_nan=True)
    assert len(text(explorer).text.text["tokens"]) == 40
    assert explorer.state.status == "idle" and explorer.state.error == ""


def test_clicking_a_thumbnail_opens_its_head(explorer, recording):
    view = attention(explorer)
    for layer in (0, 1):
        for head in range(4):
            frame = frame_on_wall(recording, layer, head)
            (row, column), last = frame[:2], frame[2:]
            assert head_at(recording, row, column) == head_at(recording, *last) == (layer, head)
            view.heads.wall.selected = [row, column]
            assert (explorer.state.layer, explorer.state.head) == (layer, head)
            assert view.map.heatmap.title == f"Attention of layer {layer}, head {head}"
            assert view.heads.wall.framed == frame
    rows, columns = view.heads.wall.heatmap.values.shape
    assert head_at(recording, rows - 1, columns - 1) == (1, 3)


def test_a_zoomed_window_has_exact_weights_and_can_be_reset(explorer, recording):
    view = attention(explorer)
    view.map.zoomed = [10, 30, 5, 25]
    expected = window(recording, 1, 0, rows=(10, 30), columns=(5, 25)).values
    torch.testing.assert_close(view.map.heatmap.values, expected, equal_nan=True)
    assert view.map.map["rows"]["first"] == 10 and view.map.map["columns"]["first"] == 5
    view.reset.click()
    assert view.map.heatmap.values.shape == (40, 40)


def test_a_token_shades_the_text_by_a_row_or_a_column_of_the_map(explorer, recording):
    view = text(explorer)
    explorer.state.quantity = ATTENDS
    explorer.state.token = 12

    def is_shaded_by(values):
        return view.text.values == values.numpy().tobytes()

    assert is_shaded_by(looks_at(recording, 1, 0, 12))
    assert view.text.shaded == view.text.picked == 12
    assert attention(explorer).map.marked == [12, -1]
    text(explorer).quantity.value = ATTENDED
    assert is_shaded_by(looked_at_by(recording, 1, 0, 12))
    view.pickers.head.value = 3
    assert is_shaded_by(looked_at_by(recording, 1, 3, 12))


def test_pointing_at_a_token_shades_by_it_and_picks_nothing(explorer, recording):
    view = text(explorer)
    explorer.state.quantity = ATTENDS
    explorer.state.token = 12
    view.text.token = 25
    assert view.text.values == looks_at(recording, 1, 0, 25).numpy().tobytes()
    assert explorer.state.token == 12 == view.text.picked and view.text.shaded == 25
    view.text.token = -1
    assert view.text.values == looks_at(recording, 1, 0, 12).numpy().tobytes()


def test_a_table_row_opens_its_head_and_picking_a_head_selects_its_row(explorer, recording):
    view, scores = attention(explorer), head_profile(recording)
    assert view.table_box.layout.display == "none"
    view.pane.value = "table"
    assert view.table_box.layout.display == "" and view.heads.wall.layout.display == "none"
    listed = view.table.table.df
    assert list(zip(listed["layer"], listed["head"], strict=True)) == [
        (layer, head) for layer in (0, 1) for head in range(4)
    ]
    assert listed["previous"].tolist() == scores.previous.flatten().tolist()
    view.table.table.selected_rows = [6]
    assert (explorer.state.layer, explorer.state.head) == (1, 2)
    assert "Likely kind: " in view.map.caption
    view.pickers.head.value = 1
    assert view.table.table.selected_rows == [5]


def pause_measurement(monkeypatch):
    """Make every block of the head measurement wait for an event; return it, too."""
    resume, begun = threading.Event(), threading.Event()
    plain = heads.head_profile

    def slow(recording, *, on_block, **options):
        def on_each(done, of):
            begun.set()
            resume.wait(10)
            on_block(done, of)

        return plain(recording, block=8, on_block=on_each, **options)

    monkeypatch.setattr(heads, "head_profile", slow)
    return begun, resume


def test_the_head_measurement_can_be_stopped_and_started_again(recording, monkeypatch):
    begun, resume = pause_measurement(monkeypatch)
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    view = attention(explorer)
    view.pane.value = "table"
    assert begun.wait(10)
    assert view.measure.description == "Stop measuring" and view.done.layout.display == ""
    view.measure.click()
    resume.set()
    explorer.wait()
    assert explorer.state.scores is None and view.table.layout.display == "none"
    assert view.measure.description == "Measure all heads" and view.done.layout.display == "none"
    view.measure.click()
    explorer.wait()
    assert explorer.state.scores is not None and view.table.layout.display == ""
    assert view.measure.layout.display == "none" and explorer.state.error == ""


def test_closing_the_explorer_stops_the_measurement(recording, monkeypatch):
    begun, resume = pause_measurement(monkeypatch)
    explorer = AttentionExplorer(recording)
    assert begun.wait(10)
    explorer.close()
    resume.set()
    explorer.wait()
    assert explorer.state.scores is None


def test_a_large_map_shows_a_preview_until_it_is_rendered(monkeypatch):
    monkeypatch.setattr(attention_maps, "MAX_SYNCHRONOUS_WEIGHTS", 1_000_000)
    monkeypatch.setattr(attention_maps, "PREVIEW_SIDE", 100)
    recording = recorded(1500)
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    view, shapes = attention(explorer), []
    view.map.observe(lambda change: shapes.append(change["new"]["shape"]), "map")
    view.pickers.head.value = 2
    assert shapes[0] == [100, 100]
    explorer.wait()
    assert shapes == [[100, 100], [750, 750]]
    expected = window(recording, 1, 2).values
    torch.testing.assert_close(view.map.heatmap.values, expected, equal_nan=True)
    assert "2 queries × 2 keys" in view.note.value
    view.map.zoomed = [100, 400, 100, 400]
    view.map.zoomed = [-1, -1, -1, -1]
    assert shapes[2:] == [[300, 300], [750, 750]], (
        "a small window needs no preview, and the full map is cached"
    )


def test_a_preview_says_so():
    found = window(recorded(1500), 0, 0, max_side=100, sampled=True)
    assert pooling_note(found) == (
        "preview: one query in 15, largest weight of 15 keys; the full map follows"
    )


def test_only_the_latest_requested_map_is_shown(monkeypatch):
    monkeypatch.setattr(attention_maps, "MAX_SYNCHRONOUS_WEIGHTS", 0)
    explorer = AttentionExplorer(recorded(600))
    explorer._ipython_display_()
    for head in (1, 2, 3):
        explorer.state.head = head
    explorer.wait()
    assert attention(explorer).map.heatmap.title == "Attention of layer 1, head 3"
    assert pooling_note(window(recorded(600), 1, 3)) == "", "it is the full map"
    assert attention(explorer).map.heatmap.values.shape == (600, 600)


def test_the_map_of_a_long_recording_is_pooled_and_says_so():
    explorer = AttentionExplorer(recorded(1500))
    explorer._ipython_display_()
    explorer.wait()
    view = attention(explorer)
    assert view.map.heatmap.values.shape == (750, 750)
    assert "each cell: largest weight of 2 queries × 2 keys" in view.note.value
    view.pooling.value = "mean"
    assert "each cell: mean weight" in view.note.value
    view.map.zoomed = [100, 400, 100, 400]
    assert view.map.heatmap.values.shape == (300, 300)
    assert "drag over a part" in view.note.value
    answers = []
    view.map.send = lambda content: answers.append(content["text"])
    view.map.answer({"kind": "value", "row": 200, "column": 10})
    expected = explorer.state.recording.attention[1, 0][300, 110]
    assert answers == [f"attention weight {float(expected):.4f}"]


def test_the_explorer_of_a_lab_shows_the_reply():
    lab = FakeLab()
    explorer = AttentionExplorer(lab, question="Hi?")
    explorer._ipython_display_()
    chat = explorer.wait()
    view = attention(explorer)
    assert explorer.state.recording is chat.recording
    parts = {part for _, part, _ in text(explorer).text.text["tokens"]}
    assert parts == {"", "prompt", "thinking", "answer"}
    assert view.map.heatmap is not None
    assert panel(explorer).controls.question.value == "Hi?"


def test_token_texts_are_never_html(recording):
    hostile = Recording(
        recording.token_ids,
        ["<script>alert(1)</script>", "\\ \"'&", *recording.tokens[2:]],
        recording.config,
        "<b>name</b>",
        recording.activations,
    )
    explorer = AttentionExplorer(hostile)
    explorer._ipython_display_()
    view = attention(explorer)
    # The browser inserts these as text, so they are sent unescaped.
    assert text(explorer).text.text["tokens"][0][0] == "<script>alert(1)</script>"
    assert view.map.map["rows"]["labels"][0] == "<script>alert(1)</script>"
    body = panel(explorer).root.children[-1]
    heading = body.children[0].children[0].value
    assert "&lt;b&gt;name&lt;/b&gt;" in heading and "<b>name</b>" not in heading


def test_a_missing_head_and_a_missing_model_show_an_error(explorer):
    with pytest.raises(TraitError, match="head 9 does not exist: each layer has heads 0 to 3"):
        explorer.state.head = 9
    assert "head 9 does not exist" in panel(explorer).stage_alert.value
    explorer.state.head = 2
    assert panel(explorer).stage_alert.value == ""
    explorer.start()
    with pytest.raises(ValueError, match="this workbench shows a recording"):
        explorer.wait()
    assert "create it with a lab" in panel(explorer).alert.value


def test_a_recording_without_attention_raises_an_error(recording):
    bare = Recording(recording.token_ids, recording.tokens, recording.config, "bare", {})
    with pytest.raises(RecordingError, match="was not recorded"):
        AttentionExplorer(bare)


def test_a_window_past_the_end_of_a_pooled_map_is_clipped():
    """1501 tokens in blocks of two: the last block ends at 1502."""
    recording = recorded(1501)
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    explorer.wait()
    view = attention(explorer)
    view.map.zoomed = [1400, 1502, 1400, 1502]
    assert explorer.state.window == (1400, 1501, 1400, 1501)
    expected = recording.attention[1, 0][1400:, 1400:]
    found = view.map.heatmap.values
    assert found.shape == (101, 101)
    torch.testing.assert_close(found.nan_to_num(0.0), expected)


def test_the_same_window_and_the_same_thumbnail_can_be_picked_again(explorer, recording):
    view, place = attention(explorer), frame_on_wall(recording, 0, 3)[:2]
    windows = []
    explorer.state.observe(lambda change: windows.append(change["new"]), "window")
    for _ in range(2):
        view.map.set_state({"zoomed": [10, 30, 5, 25]})
        assert explorer.state.window == (10, 30, 5, 25) and view.map.zoomed == []
        view.reset.click()
        view.heads.wall.set_state({"selected": place})
        assert (explorer.state.layer, explorer.state.head) == (0, 3)
        assert view.heads.wall.selected == [-1, -1] and view.heads.wall.framed[:2] == place
        explorer.state.head = 1
    assert windows == [(10, 30, 5, 25), (-1, -1, -1, -1)] * 2, "resetting the trait is not a pick"


def test_no_heads_are_measured_if_the_explorer_closes_during_a_run():
    lab = FakeLab(pause_at=2)
    explorer = AttentionExplorer(lab, question="Hi?")
    explorer._ipython_display_()
    assert lab.paused.wait(timeout=20)
    explorer.close()
    lab.go_on.set()
    assert explorer.wait().stop == "interrupted"
    assert explorer.heads.profile_worker.future is None


def test_closing_closes_every_widget(recording):
    before = {*w.widgets.widget._instances}
    explorer = AttentionExplorer(recording)
    explorer._ipython_display_()
    explorer.wait()
    for tab in ("text", "thinking", "why", "raw"):
        explorer.state.tab = tab
    assert len({*w.widgets.widget._instances} - before) > 100
    explorer.close()
    assert {*w.widgets.widget._instances} == before


def test_picking_another_head_keeps_the_error_of_the_run(explorer):
    explorer.start()
    with pytest.raises(ValueError, match="this workbench shows a recording"):
        explorer.wait()
    attention(explorer).pickers.head.value = 3
    assert "create it with a lab" in panel(explorer).alert.value
