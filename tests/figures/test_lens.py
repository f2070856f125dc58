"""The lens map holds the lens' numbers and words, escaped."""

from dataclasses import replace

import pytest
import torch

from qwen3lab import figures, lenses
from qwen3lab.figures.lens import _fitting
from qwen3lab.text.tokenizer import token_texts
from tests.lenses.small import IDS, small_lab


@pytest.fixture(scope="module")
def lens(tiny_tokenizer):
    lab = small_lab(tiny_tokenizer)
    return lenses.logit_lens(lab, lab.record(IDS, capture=lenses.NEEDED))


def test_the_colour_is_the_probability_or_the_rank_of_the_answer(lens):
    (map_,) = figures.lens_map(lens, 20).data
    logits = torch.stack([lens.logits(layer) for layer in range(3)])
    torch.testing.assert_close(torch.tensor(map_.z), logits.softmax(-1)[..., 20])
    (map_,) = figures.lens_map(lens, 20, colour="rank").data
    ranks = (logits > logits[..., [20]]).sum(-1)
    torch.testing.assert_close(10 ** torch.tensor(map_.z) - 1, ranks.float(), atol=1e-2, rtol=1e-4)
    for row, values in enumerate(ranks.tolist()):
        for column, rank in enumerate(values):
            assert f": {rank:,}<br>" in map_.customdata[row][column]


def test_without_an_answer_it_is_that_of_the_most_probable_token(lens):
    figure = figures.lens_map(lens)
    logits = torch.stack([lens.logits(layer) for layer in range(3)])
    torch.testing.assert_close(torch.tensor(figure.data[0].z), logits.softmax(-1).amax(-1))
    assert list(figure.data[0].y) == ["0", "1", "2"]
    assert figure.layout.title.text.endswith("· small")


def test_cells_name_the_most_probable_token_and_bold_is_the_answer(lens):
    ids = [int(lens.logits(layer)[0].argmax()) for layer in range(3)]
    texts = [figures.lens_map(lens, ids[0]).data[0].text[layer][0] for layer in range(3)]
    assert texts[0].startswith("<b>") and texts[0].endswith("</b>")
    tokens = token_texts(lens.lab.tokenizer, ids)
    assert [figures.lens_map(lens).data[0].text[layer][0] for layer in range(3)] == [
        figures.theme.short_text(token, width=12) for token in tokens
    ]


def test_hover_text_has_the_five_most_probable_tokens(lens):
    (map_,) = figures.lens_map(lens).data
    lines = map_.customdata[1][2].split("<br>")
    best = lens.logits(1)[2].softmax(-1).topk(5)
    assert [float(line.split(" ")[0]) for line in lines] == pytest.approx(
        best.values.tolist(), abs=6e-4
    )
    for line, token in zip(lines, best.indices.tolist(), strict=True):
        (text,) = token_texts(lens.lab.tokenizer, [token])
        assert line.split(" ", 1)[1] == figures.theme.short_text(text, width=20)


def test_text_of_the_model_is_escaped(lens):
    bad = "<b>$x</b>"
    tokens = [bad, *lens.recording.tokens[1:]]
    rec = replace(lens.recording, tokens=tokens, model_name=bad)
    tokenizer = BadTokenizer()
    lab = lens.lab.__copy__()
    lab.tokenizer = tokenizer
    figure = figures.lens_map(replace(lens, lab=lab, recording=rec), 20)
    written = figure.to_json()
    for raw in (bad, "<script", "$x"):
        assert raw not in written.replace("\\u003c", "<").replace("\\u003e", ">")


class BadTokenizer:
    """Every token is markup."""

    def decode(self, ids, **_):
        return "<script>$x</script>"


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("say", 3, "say"),
        ("says", 3, "sa…"),
        ("鸟成长", 6, "鸟成长"),
        ("鸟成长", 4, "鸟…"),
        ("says", 1, ""),
    ],
)
def test_a_word_fits_its_cell_and_a_wide_letter_takes_two_places(text, room, shown):
    assert _fitting(text, room) == shown


def test_many_tokens_have_no_words_and_are_cut(lens):
    lab = lens.lab
    ids = [3 + n % 40 for n in range(100)]
    long = lenses.logit_lens(lab, lab.record(ids, capture=lenses.NEEDED))
    assert set(figures.lens_map(long).data[0].text[0]) == {""}
    longer = replace(long, positions=tuple(range(100)) * 6)
    figure = figures.lens_map(longer)
    assert len(figure.data[0].z[0]) == 512
    assert "the first 512 of 600 tokens" in figure.layout.title.subtitle.text


def test_rows_of_heads_have_names(lens):
    rec = lens.lab.record(IDS, capture=lenses.needed("result"))
    figure = figures.lens_map(lenses.logit_lens(lens.lab, rec, hooks="result"), colour="entropy")
    assert list(figure.data[0].y)[:2] == ["head 0.0", "head 0.1"]


def test_what_does_not_exist_is_refused(lens):
    with pytest.raises(ValueError, match="there is no colour 'red': choose from probability"):
        figures.lens_map(lens, 20, colour="red")
    with pytest.raises(ValueError, match="give answer="):
        figures.lens_map(lens, colour="rank")
    with pytest.raises(ValueError, match="token 1536 does not exist"):
        figures.lens_map(lens, 1536)
