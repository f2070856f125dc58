from collections import Counter

from qwen3lab import tiny


def test_rows_have_the_labels_of_the_texts_and_the_same_labels_shuffled(tiny_tokenizer):
    rows = tiny.corpus_rows(tiny_tokenizer, n=3, seed=5)
    texts = {tuple(text.token_ids): text for text in tiny.texts(tiny_tokenizer, n=3, seed=5)}
    assert len(rows) == len(texts) == 3 * len(tiny.FAMILIES)
    for row in rows:
        text = texts[tuple(row["text"])]
        assert (row["family"], row["role"]) == (text.family, [each.role for each in text.labels])
        assert Counter(row["shuffled role"]) == Counter(row["role"])
    shuffled = [row["shuffled family"] for row in rows]
    assert Counter(shuffled) == Counter(row["family"] for row in rows)
    assert shuffled != [row["family"] for row in rows]
    assert tiny.corpus_rows(tiny_tokenizer, n=3, seed=5) == rows
