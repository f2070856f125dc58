"""Renders chat templates in a process of its own: `template_process` starts this file.

Reads a conversation and options as a JSON list, one a line, and writes a JSON list: the rendered
text, or null and the reason. transformers renders, as in `apply_chat_template` of the model's
tokenizer; the vocabulary has no part in it, so the tokenizer here has none.
"""

import json
import os
import sys
from typing import Any

MAX_CHARACTERS = 2**24
"""Maximum length of a rendered conversation; the longest context holds fewer."""


def main() -> None:
    """Answer requests until the input ends."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))
    replies, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(tokenizer, line)), file=replies, flush=True)


def _answer(tokenizer: Any, line: str) -> list[str | None]:
    try:
        talk, options = json.loads(line)
        text = tokenizer.apply_chat_template(talk, tokenize=False, **options)
    except Exception as error:  # A template is a program of the model's folder.
        return [None, (str(error) or type(error).__name__)[:2000]]
    if len(text) > MAX_CHARACTERS:
        return [None, f"it renders to {len(text):,} characters"]
    return [text, None]


if __name__ == "__main__":
    del sys.path[0]  # The folder of this file: its modules are not meant to be imported by name.
    main()
