"""Text and tokens: the tokenizer, the chat template, and prompts as token ids."""

from qwen3lab.text.chat_template import Message, as_messages, render, render_ids, thinking_mode
from qwen3lab.text.prompt import Prompt, prompt_ids
from qwen3lab.text.tokenizer import TextStream, open_tokenizer, token_texts

__all__ = [
    "Message",
    "Prompt",
    "TextStream",
    "as_messages",
    "open_tokenizer",
    "prompt_ids",
    "render",
    "render_ids",
    "thinking_mode",
    "token_texts",
]
