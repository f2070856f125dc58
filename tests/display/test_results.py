"""Results have a short display; it escapes hostile text and works for empty results."""

from dataclasses import replace

import pytest
import torch

from qwen3lab.analysis.attention import head_profile
from qwen3lab.analysis.budgets import BudgetCurve, BudgetPoint, Lengths
from qwen3lab.analysis.circuits import Pairs
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.expert_output import Extremes, Writing
from qwen3lab.analysis.proportions import Share
from qwen3lab.analysis.specialisation import Information, Interval
from qwen3lab.analysis.thinking_text import Looks
from qwen3lab.analysis.uncertainty import uncertainty
from qwen3lab.experiments.controls import Comparison
from qwen3lab.experiments.fidelity import Fidelity
from qwen3lab.experiments.knockout import KnockOut
from qwen3lab.generation.reply import Chat, Generation
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking.convergence import Convergence
from qwen3lab.thinking.importance import Importance
from qwen3lab.thinking.pieces import Piece
from tests.display.test_display import HOSTILE, is_harmless
from tests.fake_lab import DENSE, MOE, record
from tests.figures.test_patching import BY_TOKEN, ablated

EMPTY, NAN = torch.zeros(0), float("nan")
CHAT = Chat(
    prompt_ids=[1, 2],
    token_ids=[3, 4, 5],
    tokens=[HOSTILE, "b", "c"],
    text=HOSTILE,
    stop="budget",
    logprobs=torch.tensor([-1.0, -2.0, -0.5]),
    entropy=torch.tensor([0.25, 1.5, 0.5]),
    forced=torch.tensor([False, False, True]),
    recording=None,
    messages=[{"role": "system", "content": "Be <b>x</b>."}, {"role": "user", "content": "2+2=?"}],
    thinking=f"two and two {HOSTILE}",
    answer="4 <h1>",
    thinking_tokens=1234,
    answer_tokens=1,
    spans={"prompt": (0, 2), "thinking": (2, 4), "answer": (4, 5)},
)
POINT = BudgetPoint(None, Share(7, 12), Share(0, 12), 0.0, 2.0, 4.3e7)


def hostile_recording(config=MOE, tokens=(HOSTILE, "b")) -> Recording:
    return replace(record(config, list(tokens), {}), model_name=HOSTILE)


def piece(text: str) -> Piece:
    return Piece(text=text, start=3, end=5, kept=2)


RESULTS = [
    CHAT,
    Generation(*(getattr(CHAT, name) for name in Generation.__dataclass_fields__)),
    hostile_recording(),
    hostile_recording().attention,
    hostile_recording().attention[3, 0],
    hostile_recording().routing,
    hostile_recording().routing.layer(3),
    head_profile(hostile_recording(), progress=False),
    uncertainty(CHAT),
    BudgetCurve(HOSTILE, 10, (replace(POINT, budget=40),), POINT),
    POINT,
    Lengths(HOSTILE, (3, 9), 1),
    Pairs((HOSTILE,), ("b",), (0.5,)),
    Writing(2, 5, 7, ((HOSTILE, 1.0),), ((HOSTILE, -1.0),)),
    Extremes((1, 3), torch.tensor([[1.0, 2.0], [3.0, 99.0]]), ((3, 1),)),
    Looks((HOSTILE, "rest"), torch.full((2, 4, 2), 0.5), (1, 3)),
    Share(7, 12),
    Information(0.5, (0.1, 0.2)),
    Interval(*[torch.ones(2, 3)] * 3),
    Fidelity(5, 0.1, 0.2, 0.9, 0.01, torch.tensor([0.5, 1.0])),
    KnockOut((3,), (HOSTILE,), torch.ones(1), torch.ones(1, 2, 1), torch.full((1, 2), 0.5)),
    Comparison((3,), 0.1, {HOSTILE: 1.0}, {HOSTILE: 0.5}, ((1,),), (0.1,), {HOSTILE: (0.2,)}),
    Convergence((0, 2), (None, piece(HOSTILE)), ((HOSTILE,), ("4",)), None, "4", 2),
    Importance(
        "leave out", (piece(HOSTILE),), ({HOSTILE: 1.0},), ({"4": 1.0},), (0.5,), (1.0,), (3,), 3
    ),
    replace(BY_TOKEN, metric=HOSTILE, tokens=("3", HOSTILE), model_name=HOSTILE),
    replace(ablated(), metric=HOSTILE),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_is_one_short_line_in_a_terminal_and_harmless_in_a_notebook(result):
    line, html = repr(result), result._repr_html_()
    assert line.isprintable() and len(line) < 600
    assert "tensor(" not in line + html
    assert is_harmless(html)


def test_a_chat_shows_question_folded_thinking_answer_stop_reason_and_token_counts():
    html = CHAT._repr_html_()
    order = ["system", "2+2=?", "Thinking · 1,234 tokens", "two and two", "Answer", "4 &lt;h1&gt;"]
    places = [html.index(part) for part in order]
    assert places == sorted(places)
    folded = html[html.index("Thinking ·") : html.index("Answer")]
    assert html.count("<details") == 2 and "two and two" in folded and "</details>" in folded
    assert "Stop: thinking budget reached" in html and "1,234 thinking + 1 answer token" in html
    assert repr(CHAT) == "Chat: 2+2=? → 4 <h1> (1,234 thinking, 1 answer token; stop: budget)"


def test_a_chat_without_thinking_or_answer_says_so():
    bare = replace(CHAT, thinking="", answer="", thinking_tokens=0, answer_tokens=0, stop="length")
    html = bare._repr_html_()
    assert "No answer: the reply ended before it." in html and "Thinking ·" not in html
    assert "no answer (0 answer tokens; stop: length)" in repr(bare)
    assert "No text." in replace(RESULTS[1], text="", token_ids=[])._repr_html_()


def test_a_lab_shows_its_size_but_not_its_weights(tiny_lab):
    html = tiny_lab._repr_html_()
    assert f"{tiny_lab.config.n_params:,}" in html and "key/value" in html and "cpu" in html
    named = Lab(tiny_lab.model, tiny_lab.tokenizer, HOSTILE)
    assert repr(named).isprintable() and is_harmless(named._repr_html_())


def test_a_recording_shows_its_text_and_spans():
    html = replace(hostile_recording(), spans={"answer": (1, 2)})._repr_html_()
    assert "tokens 1 to 2" in html and "experts in layers" in html and "1, 3" in html
    assert "experts in layers" not in hostile_recording(DENSE)._repr_html_()


def test_tables_name_the_layer_of_each_row():
    looks = RESULTS[15]._repr_html_()
    assert "layer 1, head 0" in looks and "0.5" in looks
    assert "no thinking" in RESULTS[9]._repr_html_() and "0.583" in RESULTS[9]._repr_html_()


@pytest.mark.parametrize(
    "result",
    [
        uncertainty(replace(CHAT, tokens=[], entropy=EMPTY, logprobs=EMPTY, forced=EMPTY.bool())),
        Pairs((), (), ()),
        BudgetCurve("m", 1, (), None),
        Lengths("", (), 2),
        Looks((), torch.zeros(0, 0, 0)),
        Extremes((), torch.zeros(0, 4), ()),
        KnockOut((), (), EMPTY, torch.zeros(0, 4, 0), torch.zeros(0, 4)),
        Comparison((3,), 0.0, {}, {}, (), (), {}),
        Importance("resample", (), (), (), (), (), (), 0),
        Importance(
            "resample", (piece("a"),), ({},), ({},), (float("nan"),), (float("nan"),), (0,), 3
        ),
        Information(0.0, ()),
        Share(0, 0),
        RoutingCorpus(MOE),
        record(DENSE, ["a"], {}).routing,
        record(MOE, ["a"], {}).routing.layer(1),
    ],
    ids=lambda result: type(result).__name__,
)
def test_an_empty_result_is_displayed_without_an_error(result):
    assert repr(result).isprintable()
    assert "nan" not in result._repr_html_().lower()
