"""What people click in a workbench, one kind of click after another."""

from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page

from qwen3lab.config.qwen3_config import Qwen3Config
from tests.notebooks.measuring.page import TimedPage

ATTENDS = "attention from the picked token"


@dataclass(frozen=True)
class Click:
    """One kind of click.

    Attributes:
        tab: the tab that is open.
        what: what is picked.
        target: the element, of the click's number.
        prepare: code for the kernel before each click, from its number; `bench` is the workbench.
        has_goal: False for a click that starts work of the model.
    """

    tab: str
    what: str
    target: Callable[[Page, int], Locator]
    prepare: Callable[[int], str]
    has_goal: bool = True

    @property
    def name(self) -> str:
        """The tab and what is picked."""
        return f"{self.tab}: {self.what}"


def clicks_of(config: Qwen3Config) -> list[Click]:
    """The clicks to measure. Each shows what was not shown before, so that no cache answers."""
    found = [
        Click("text", "token", _chip, _at(config, quantity="surprisal (nats)")),
        Click("text", "token, attention shades", _chip, _at(config, quantity=ATTENDS)),
        Click("text", "layer, attention shades", _next("layer"), _at(config, quantity=ATTENDS)),
        Click("text", "head, attention shades", _next("head"), _at(config, quantity=ATTENDS)),
        *_of_heads(config),
    ]
    if config.is_moe:
        found += [
            Click("routing", "token", _chip, _at(config)),
            Click("routing", "layer", _next("layer"), _at(config)),
            Click("routing", "expert", _next("expert"), _at(config)),
        ]
    found += [
        Click("thinking", "token", _chip, _at(config)),
        Click("raw", "token", _chip, _at(config)),
        Click("why", "token", _chip, _at(config), has_goal=False),
    ]
    return found


def _of_heads(config: Qwen3Config) -> list[Click]:
    """Clicks in the attention view, with thumbnails and with scores."""
    found = [Click("attention", "token", _chip, _at(config, pane="thumbnails"))]
    for pane in ("thumbnails", "scores"):
        for what in ("layer", "head"):
            prepare = _at(config, pane=pane)
            found.append(Click("attention", f"{what}, {pane}", _next(what), prepare))
    return found


def _at(config: Qwen3Config, **values: str) -> Callable[[int], str]:
    """Code that picks another layer, head and expert for each click, and leaves room for a step."""

    def prepare(i: int) -> str:
        layer, head = i % (config.n_layers - 1), i % (config.n_heads - 1)
        lines = [f"bench.state.{name} = {value!r}" for name, value in values.items()]
        lines += [f"bench.state.layer, bench.state.head = {layer}, {head}"]
        if config.is_moe:
            routed = config.moe_layers[i % (len(config.moe_layers) - 1)]
            expert = i % (config.n_experts - 1)
            lines += [f"bench.state.routing_layer, bench.state.expert = {routed}, {expert}"]
        return "\n".join([*lines, "bench.wait()"])

    return prepare


def _chip(page: Page, i: int) -> Locator:
    """A token of the reply."""
    chips = page.locator(".q3-transcript .q3-chip:not(.q3-mark)")
    return chips.nth(2 * i % max(1, chips.count()))


def _next(what: str) -> Callable[[Page, int], Locator]:
    def button(page: Page, i: int) -> Locator:
        return page.locator(f'button[title="Next {what}"]:visible').first

    return button


def repeat(page: TimedPage, click: Click, repeats: int) -> list:
    """The costs of a click, after one that is not counted."""
    page.execute(f"bench.state.tab = {click.tab!r}")
    page.settle(400)
    costs = []
    for i in range(repeats + 1):
        page.execute(click.prepare(i))
        page.settle()
        costs.append(page.click(click.target(page.page, i)))
    return costs[1:]
