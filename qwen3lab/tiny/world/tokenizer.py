"""The embedded models' tokenizer: Qwen's pipeline with a small vocabulary.

Byte-level BPE with single digits, as in Qwen's tokenizer: it can encode any text, because bytes
are tokens. Its files have the Hugging Face format; `transformers.AutoTokenizer` opens them.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from qwen3lab.checkpoints.embedded import N_VOCAB
from qwen3lab.storage.atomic_files import whole_file, write_text
from qwen3lab.tiny.world.arithmetic import CIRCLED
from qwen3lab.tiny.world.common_words import CHINESE, ENGLISH
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.settings import WORLDS

N_CTX = 2048
EARLY_STOP = "Time is up, I answer now."
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
    span several words.
    """
    rng = random.Random(0)
    problems = [
        family.draw(rng, rng.randint(family.least, family.most), "train")
        for family in FAMILIES.values()
        for _ in range(300)
    ]
    english = [p for p in problems if p.language == "en"]
    texts = [text for p in english for text in (p.question, p.thinking, p.answer)]
    texts += [EARLY_STOP, "system\nuser\nassistant\n\n", "/think /no_think"] * 20
    words = [*ENGLISH.split(), *sorted(WORLDS["en"].vocabulary)]
    texts += [f" {word}" for word in words for _ in range(20)]
    texts += [f"{word[0].upper()}{word[1:]}" for word in words for _ in range(3)]
    texts += [word for word in sorted(WORLDS["en"].vocabulary) for _ in range(20)]
    chinese = [*CHINESE.split(), *sorted(WORLDS["zh"].vocabulary), *"。，、：；？！", *CIRCLED]
    return texts + [text for text in chinese for _ in range(20)]


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
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    write_text(folder / "tokenizer_config.json", f"{text}\n")
