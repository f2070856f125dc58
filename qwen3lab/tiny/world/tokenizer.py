"""The embedded models' tokenizer: Qwen's pipeline with a small vocabulary.

Byte-level BPE with single digits, as in Qwen's tokenizer: it can encode any text, because bytes
are tokens. Its files have the Hugging Face format; `transformers.AutoTokenizer` opens them.
"""

import json
import random
import re
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from qwen3lab.checkpoints.embedded import N_VOCAB
from qwen3lab.storage.atomic_files import whole_file, write_text
from qwen3lab.tiny.world.arithmetic_wordings import (
    CHINESE as ARITHMETIC_CHINESE,
    ENGLISH as ARITHMETIC_ENGLISH,
)
from qwen3lab.tiny.world.common_words import CHINESE, ENGLISH
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.hints import MENTION, WORDINGS, YIELDING
from qwen3lab.tiny.world.outside import ANSWERS, THINKING
from qwen3lab.tiny.world.outside_templates import TEMPLATES
from qwen3lab.tiny.world.problems import Problem
from qwen3lab.tiny.world.settings import WORLDS
from qwen3lab.tiny.world.wrong_turns import WAIT

N_CTX = 2048
EARLY_STOP = "Time is up, I answer now."
EDITION = 2
"""Edition of the world, as written into tokenizer_config.json."""

N_FREQUENT_WORDS = 100
N_FREQUENT_CHARACTERS = 110
"""Words and characters of the questions from outside that should be single tokens."""

NEEDED_REPEATS, COMMON_REPEATS, FREQUENT_REPEATS = 400, 40, 20
"""How often a word occurs in the training text of the BPE. The vocabulary is full before the
last words have their token, so the words of the world come first."""

WORD = re.compile(r" ?(?<![{\w])[A-Za-z]+(?![}\w])")
"""A word outside of a slot, with the space before it."""

PRE_TOKENIZER_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED_TOKENS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)

# Equivalent to Qwen3's template without tools: it removes the thinking of earlier turns, and with
# `enable_thinking=False` the prompt ends with an empty thinking block.
CHAT_TEMPLATE = """\
{%- set ns = namespace(last=messages | length - 1) -%}
{%- for message in messages -%}
  {%- if message.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\\n' -}}
  {%- if message.role == 'assistant' -%}
    {%- set content = message.content -%}
    {%- set thought = message.reasoning_content or '' -%}
    {%- if not thought and '</think>' in content -%}
      {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] -%}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
    {%- endif -%}
    {%- if loop.index0 > ns.last and (loop.last or thought) -%}
      {{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') -}}
    {%- else -%}
      {{- content -}}
    {%- endif -%}
  {%- else -%}
    {{- message.content -}}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}
    {{- '<think>\\n\\n</think>\\n\\n' -}}
  {%- endif -%}
{%- endif -%}
"""


def build_tokenizer() -> Tokenizer:
    """A tokenizer trained on texts of the task families and a list of common words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=N_VOCAB - len(SPECIAL_TOKENS) - len(ADDED_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_vocabulary_texts(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL_TOKENS])
    tokenizer.add_tokens(
        [AddedToken(text, special=False, normalized=False) for text in ADDED_TOKENS]
    )
    return tokenizer


def _vocabulary_texts() -> list[str]:
    """The training texts of the BPE; English words occur with and without a space before them.

    Chinese words are separate texts, because sentences without spaces would produce tokens that
    span several words. Of arithmetic and programs, each piece is a text, so that no token spans
    two of them: an operand, a variable and a bracket have the same token wherever they stand.
    """
    rng = random.Random(0)
    texts = [text for name in ("swaps", "stories", "lists") for text in _sentences(rng, name)]
    texts += [piece for name in ("arithmetic", "code") for piece in _piece_texts(rng, name)]
    worlds = {language: sorted(world.vocabulary) for language, world in WORLDS.items()}
    marks = "。，、：；？！×÷（）"
    needed = [EARLY_STOP, "system\nuser\nassistant\n\n", "/think /no_think", *_fixed_words()]
    needed += [*worlds["en"], *(f" {word}" for word in worlds["en"])]
    needed += [*worlds["zh"], *_fixed_characters(), *marks]
    common = [f" {word}" for word in ENGLISH.split()] + CHINESE.split()
    frequent = [*_frequent_words(), *_frequent_characters()]
    texts += [text for text in needed for _ in range(NEEDED_REPEATS)]
    texts += [text for text in common for _ in range(COMMON_REPEATS)]
    return texts + [text for text in frequent for _ in range(FREQUENT_REPEATS)]


def _sentences(rng: random.Random, name: str) -> list[str]:
    """English texts of a family."""
    drawn = _draw(rng, name)
    return [text for p in drawn if p.language == "en" for text in (p.question, p.thinking)]


def _piece_texts(rng: random.Random, name: str) -> list[str]:
    """The pieces of a family's English texts."""
    drawn = _draw(rng, name)
    return [
        piece.text
        for problem in drawn
        if problem.language == "en"
        for piece in (*problem.asked, *problem.thought)
    ]


def _draw(rng: random.Random, name: str) -> list[Problem]:
    family = FAMILIES[name]
    return [family.draw(rng, rng.randint(family.least, family.most), "train") for _ in range(300)]


def _fixed_words() -> list[str]:
    """The words of the fixed English texts, each with the space that stands before it."""
    texts = [ANSWERS["en"], THINKING["en"], WAIT]
    texts += [text for by_source in (MENTION, YIELDING) for text in by_source["en"].values()]
    texts += [text for wordings in WORDINGS["en"].values() for text in wordings]
    texts += [part for wording in ARITHMETIC_ENGLISH for part in (wording[0].lower(), *wording)]
    return list(dict.fromkeys(word for text in texts for word in WORD.findall(text)))


def _fixed_characters() -> list[str]:
    """The characters of the fixed Chinese texts."""
    texts = [ANSWERS["zh"], THINKING["zh"], *MENTION["zh"].values(), *YIELDING["zh"].values()]
    texts += [text for wordings in WORDINGS["zh"].values() for text in wordings]
    texts += [part for wording in ARITHMETIC_CHINESE for part in wording]
    return list(dict.fromkeys(c for c in "".join(texts) if not c.isascii()))


def _frequent_words() -> list[str]:
    """The most frequent words of the questions from outside."""
    counted = Counter(word for text in TEMPLATES["en"] for word in WORD.findall(text))
    return [word for word, _ in counted.most_common(N_FREQUENT_WORDS)]


def _frequent_characters() -> list[str]:
    """The most frequent characters of the Chinese questions from outside."""
    counted = Counter(c for text in TEMPLATES["zh"] for c in text if not c.isascii())
    return [character for character, _ in counted.most_common(N_FREQUENT_CHARACTERS)]


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer's two files into a model's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "tokenizer.json") as part:
        build_tokenizer().save(str(part))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": N_CTX,
        "chat_template": CHAT_TEMPLATE,
        "thinking_early_stop": EARLY_STOP,
        "world": EDITION,
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    write_text(folder / "tokenizer_config.json", f"{text}\n")
