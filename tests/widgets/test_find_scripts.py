"""The scripts of the search box and of the alternatives, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from qwen3lab.widgets.components.alternative_list import AlternativeList
from qwen3lab.widgets.components.find_box import FindBox
from qwen3lab.widgets.components.textview import TextView
from tests.notebooks.browser import browser
from tests.widgets.test_scripts import TEXT, render

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium"), width=900, height=700) as tabs:
        yield tabs.new_page()


def test_the_places_of_a_search_are_marked_on_the_page_shown(page: Page) -> None:
    render(page, TextView, text=TEXT, hits=[[2, 5], [9, 11]], picked=-1)
    expect(page.locator(".q3-word-hit")).to_have_text(["a"])
    page.evaluate("model.tell('hits', [[5, 6]])")
    expect(page.locator(".q3-word-hit")).to_have_text(["b"])


def test_the_search_box_searches_what_was_typed_and_then_goes_on(page: Page) -> None:
    render(page, FindBox, text="", found={"hit": -1, "of": 0})
    box, count = page.get_by_label("Find in the text"), page.locator(".q3-find-count")
    step = page.get_by_label("Next place")
    expect(step).to_be_disabled()
    box.press_sequentially("so")
    page.wait_for_function("saved.at(-1)?.text === 'so'")
    expect(count).to_have_text("not found")
    page.evaluate("model.tell('found', { hit: 0, of: 3 })")
    expect(count).to_have_text("1 of 3")
    box.press("Enter")
    box.press("Shift+Enter")
    step.click()
    assert page.evaluate("sent.map(({ step }) => step)") == [1, -1, 1]
    box.press("Escape")
    assert page.evaluate("saved.at(-1).text") == ""
    expect(box).to_have_value("")
    box.press("x")
    box.press("Enter")  # Before the pause: it searches, and goes nowhere.
    assert page.evaluate("saved.at(-1).text") == "x" and page.evaluate("sent.length") == 3


def test_alternatives_are_buttons_and_the_written_one_is_marked(page: Page) -> None:
    rows = [["<b>4</b>", 0.6, "60%", False], ["·3", 0.3, "30%", True]]
    render(page, AlternativeList, alternatives=rows, note="", hint="write on", enabled=True)
    buttons = page.locator(".q3-alternative")
    expect(buttons).to_have_text(["<b>4</b>60%", "·330%"])
    expect(buttons.first).to_have_attribute("aria-label", "“<b>4</b>” 60%: write on")
    expect(buttons.last).to_be_disabled()
    expect(buttons.last).to_have_attribute("aria-current", "true")
    buttons.first.click()
    assert page.evaluate("saved.at(-1).picked") == 0
    render(page, AlternativeList, alternatives=[], note="No logits.", hint="", enabled=True)
    expect(page.locator(".q3-alternatives")).to_have_text("No logits.")
