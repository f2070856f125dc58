"""Opens an explorer on a model without a browser, uses its controls, and prints what it took.

Run as a module: explorer, model folder, most tokens of a reply, bytes of memory that it may use.
"""

import contextlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import qwen3lab
from qwen3lab import widgets


def errors_of(explorer: widgets.Workbench) -> Iterator[str]:
    """What the explorer shows as an error."""
    state: Any = explorer.state
    shown = (state.error, state.drawing_error, state.pick_error, state.problem)
    yield from (text for text in shown if text)


def use(explorer: Any, config: Any) -> Iterator[str]:
    """Pick the last token, layer, head and expert as a person would; yields the errors shown."""
    state = explorer.state
    explorer._ipython_display_()
    chat = explorer.wait()
    yield from errors_of(explorer)
    if chat is None:
        return
    explains = state.tab == "why"  # Nothing predicts the first token.
    picks: list[dict[str, Any]] = [
        {"token": len(chat.recording) - 1},
        {"layer": config.n_layers - 1, "head": config.n_heads - 1},
        {"layer": 0, "head": 0, "token": int(explains)},
    ]
    if config.is_moe:
        picks.append({"routing_layer": config.moe_layers[-1]})
        experts = chat.recording.routing.layer(config.moe_layers[-1]).experts
        picks.append({"expert": int(experts[-1, 0])})
    if explains:
        # Near the prompt: each head is taken away in a run of all tokens before it.
        near = chat.spans["prompt"][1] + 1
        picks.append({"token": near, "part": ("head", config.n_layers - 1, 0)})
    for pick in picks:
        for name, value in pick.items():
            setattr(state, name, value)
        explorer.wait()
        yield from errors_of(explorer)
    actions = ["write", "switch", "switch_all_on", "measure", "take_away", "steer", "open_part"]
    if getattr(state, "steps", ()):  # A model of random weights does not think.
        actions += ["ask_everywhere", "think_more"]
    for action in actions:
        if hasattr(explorer, action):
            getattr(explorer, action)()
            explorer.wait()
            yield from (f"{action}: {text}" for text in errors_of(explorer))


def main(name: str, folder: str, max_new_tokens: str, max_bytes: str) -> None:
    """Use the explorer of this name on the model of this folder."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(max_bytes), int(max_bytes)))
    started = time.monotonic()
    lab = qwen3lab.load(folder, device="cpu")
    explorer = getattr(widgets, name)(lab, max_new_tokens=int(max_new_tokens))
    with contextlib.redirect_stdout(None):  # Displayed outside of a notebook, it prints itself.
        errors = list(dict.fromkeys(use(explorer, lab.config)))
    chat = explorer.state.chat
    measured = {
        "errors": errors,
        "tokens": len(chat.recording) if chat else 0,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
