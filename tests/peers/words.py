"""A tokenizer of numbered words, for libraries that open none without one."""

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast


def word_tokenizer(n_words):
    vocabulary = {f"t{number}": number for number in range(n_words)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t1")),
        unk_token="t1",
        pad_token="t0",
        eos_token="t2",
        bos_token="t3",
    )
