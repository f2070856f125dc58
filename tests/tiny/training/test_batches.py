"""Training batches: complete documents in rows, the same for the same step."""

import torch

from qwen3lab.tiny.training.batches import Packer, packed
from qwen3lab.tiny.world.documents import Document, Writer
from qwen3lab.tiny.world.families import FAMILIES
from tests.tiny.training.test_trainer import STOP, micro


def test_rows_contain_complete_documents_with_the_kind_of_each_token(tiny_tokenizer):
    packer = Packer(Writer(tiny_tokenizer, STOP), micro())
    batch, again = packer.batch(5), packer.batch(5)
    assert torch.equal(batch.token_ids, again.token_ids)
    assert not torch.equal(
        batch.token_ids, packer.batch(6).token_ids[:, : batch.token_ids.shape[1]]
    )
    kinds = set()
    for row, segments in enumerate(batch.segments):
        for number in range(int(segments.max()) + 1):
            in_document = segments == number
            text = tiny_tokenizer.decode(batch.token_ids[row, in_document])
            is_chat = text.startswith("<|im_start|>user\n") and text.endswith("<|im_end|>\n")
            assert is_chat or text.endswith("<|endoftext|>")
            (kind,) = {packer.kinds[k] for k in batch.kinds[row, in_document].tolist()}
            assert is_chat == (not kind.endswith("text"))
            kinds.add(kind.split()[0])
            assert batch.weights[row, in_document][0] == 0
    assert kinds <= {*FAMILIES, "mixed"}
    assert (batch.weights[batch.segments < 0] == 0).all()


def test_documents_are_packed_by_first_fit_decreasing():
    lengths = [3, 9, 4, 6, 12]
    documents = [Document("kind", [1] * n, [1.0] * n) for n in lengths]
    rows = [[len(d.token_ids) for d in row] for row in packed(documents, 10)]
    # By hand: 12 is longer than a row; 9 leaves 1; 6 and 4 fill a row; 3 needs a new row.
    assert rows == [[12], [9], [6, 4], [3]]


def test_the_families_appear_after_the_opening(tiny_tokenizer):
    packer = Packer(Writer(tiny_tokenizer, STOP), micro(opening=10))
    for step in range(10):
        packer.batch(step)
    assert set(packer.kinds) == {"arithmetic text", "lists text"}
    packer.batch(15)
    assert len(packer.kinds) > 3
