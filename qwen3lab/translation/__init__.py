"""The language of what is shown: messages are written in English and looked up in a catalogue.

A message that is shown stands in `tr("...")`; values are named placeholders, filled in after the
lookup. Keys, states and file formats stay in English.
"""

from qwen3lab.translation.chosen import language, set_language
from qwen3lab.translation.messages import later, tr, tr_count, words

__all__ = ["language", "later", "set_language", "tr", "tr_count", "words"]
