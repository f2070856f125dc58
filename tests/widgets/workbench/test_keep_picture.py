"""The picture that a saved notebook shows without a kernel."""

import base64
import re
import struct
import zlib
from html.parser import HTMLParser
from typing import ClassVar

import numpy as np
import pytest
import torch

from qwen3lab.figures.scales import LINEAR, ColourScale
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.keep import static_picture
from qwen3lab.widgets.workbench.keep.png import map_png
from qwen3lab.widgets.workbench.keep.static_picture import picture_html
from tests.fake_lab import MOE, record
from tests.widgets.workbench.benches import panel

EVIL = "<img src=x onerror=alert(1)>"


def chunks(png: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG, each with a correct checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + data
        )
        found[kind] = data
        at += 12 + size
    return found


def test_a_map_becomes_a_picture_of_one_pixel_for_each_cell() -> None:
    values = torch.tensor([[0.0, torch.nan, 1.0], [0.5, 0.25, 0.0]])
    found = chunks(map_png(values, ColourScale(LINEAR, 0.0, 1.0), "Greys_r"))
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (3, 2, 8, 3, 0, 0, 0)
    rows = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(2, 4)[:, 1:]
    colours = np.frombuffer(found[b"PLTE"], np.uint8).reshape(-1, 3)
    assert found[b"tRNS"] == b"\0" and rows[0, 1] == 0, "a cell of NaN is transparent"
    grey = colours[rows].astype(int)
    assert grey[0, 0].tolist() == [0, 0, 0] and grey[0, 2].tolist() == [255, 255, 255]
    assert grey[1, 1, 0] < grey[1, 0, 0] < 255


class Elements(HTMLParser):
    """Elements and attributes of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name == "src"]


def test_texts_of_tokens_questions_and_notes_are_escaped() -> None:
    bench = Workbench(record(MOE, ["a", EVIL, "b"], {}))
    bench.state.asked = EVIL
    bench.state.token = 1
    bench.note(EVIL)
    found = Elements(picture_html(bench.state, bench.state.recording, "q3-kept-x"))
    assert [source[:22] for source in found.sources] == ["data:image/png;base64,"]
    assert "onerror" not in found.names


def levels_of(text: str, n: int) -> np.ndarray:
    """The bytes of the picture's map: 0 for no value, 1 to 255 for the colours."""
    (source,) = Elements(text).sources
    found = chunks(base64.b64decode(source.removeprefix("data:image/png;base64,")))
    return np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(n, n + 1)[:, 1:]


def test_the_picture_has_the_colour_scale_that_was_chosen() -> None:
    bench = Workbench(record(MOE, ["a", "b", "c", "d"], {}))
    weights = bench.state.recording.attention[bench.state.layer, bench.state.head].numpy()
    below = np.tril_indices(4)
    for colours, place, said in (
        ("automatic", lambda w: w, ""),
        ("square root", np.sqrt, "; colours: square root"),
        ("linear, clipped at 50%", None, "; colours: linear, clipped at the 50% quantile"),
    ):
        bench.state.colours = colours
        text = picture_html(bench.state, bench.state.recording, "q3-kept-x")
        top = np.quantile(weights[weights > 0], 0.5)
        places = place(weights) if place else np.minimum(weights / top, 1)
        assert levels_of(text, 4)[below].tolist() == (1 + 254 * places[below]).round().tolist()
        assert f"keys to the right{said}<br>" in text


def test_the_tokens_of_the_picture_are_shaded_on_the_chosen_scale(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    chat = bench.run()
    bench.state.colours = "square root"
    text = picture_html(bench.state, bench.state.recording, "q3-kept-x")
    surprisal = -chat.logprobs[:2]
    shares = (surprisal / -chat.logprobs.min()).sqrt().tolist()
    first = chat.spans["prompt"][1]
    for at, share in enumerate(shares, start=first):
        (style,) = re.findall(rf'<span style="([^"]*)" title="token {at}"', text)
        assert f"rgba(230, 159, 0, {share:.2f})" in style or (share == 0 and "rgba" not in style)
    assert "shaded by surprisal (nats); colours: square root" in text


class Handle:
    """Stands in for a display in a notebook."""

    shown: ClassVar[list[str]] = []

    def display(self, found: object) -> None:
        self.shown.append("")

    def update(self, found: object) -> None:
        self.shown.append(str(getattr(found, "data", "")))


@pytest.fixture
def shown(monkeypatch) -> list[str]:
    """What the notebook is given as the picture."""
    Handle.shown = []
    monkeypatch.setattr(static_picture, "get_ipython", object)
    monkeypatch.setattr(static_picture, "DisplayHandle", Handle)
    monkeypatch.setattr(static_picture, "SECONDS_OF_REST", 0.01)
    return Handle.shown


def settle(bench: Workbench) -> None:
    """Wait until the picture is made."""
    timer = panel(bench).picture.timer
    assert timer is not None
    timer.join()


def test_the_picture_follows_run_and_picks_and_stays_when_the_bench_is_closed(
    shown, tiny_lab
) -> None:
    bench = Workbench(tiny_lab, question="3+4=?", thinking=False)
    picture = panel(bench).picture
    bench.wait()
    settle(bench)
    assert shown[0] == "" and "3+4=?" in shown[-1] and "Attention of layer 3, head 0" in shown[-1]
    bench.state.layer, bench.state.token = 1, 2
    settle(bench)
    assert "Attention of layer 1, head 0" in shown[-1] and "Token 2 “" in shown[-1]
    bench.state.colours = "logarithm"
    settle(bench)
    assert "colours: logarithm" in shown[-1]
    assert picture.name in picture.hider.value and picture.name in shown[-1]
    n = len(shown)
    bench.close()
    picture.draw()
    assert len(shown) == n
