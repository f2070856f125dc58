"""What the scripts leave in a page, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from qwen3lab.widgets.components.copy_button import CopyButton
from qwen3lab.widgets.components.saver import Saver
from qwen3lab.widgets.components.transcript import Transcript
from tests.notebooks.browser import browser

pytestmark = pytest.mark.browser
IMPORT = """const made = async (code) => {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  return (await import(url)).default();
};"""
ALIKE = "async (codes) => { %s const [a, b] = await Promise.all(codes.map(made)); return a === b }"

CLOSED = """async ([code, hasComm]) => {
  %s
  class Base { dispose() { this.isDisposed = true } }
  class Handler extends Base { onClose = () => {}; onMsg = () => {} }
  const [closed, open, base] = [new Handler(), new Handler(), new Base()];
  const traits = { reply: { run: 0, chips: [] } };
  if (hasComm) traits.layout = { comm: { jsServicesComm: closed } };
  const model = { get: (name) => traits[name], on() {}, off() {}, send() {} };
  const widget = await made(code);
  widget.initialize({ model });
  const once = Handler.prototype.dispose;
  widget.initialize({ model });
  closed.dispose();
  base.dispose();
  const kept = ({ onClose, onMsg }) => [onClose, onMsg].filter(Boolean).length;
  return {
    disposed: [closed.isDisposed, open.isDisposed ?? false, base.isDisposed],
    kept: [kept(closed), kept(open)],
    others: Object.hasOwn(base, "onClose"),
    again: Handler.prototype.dispose !== once,
  };
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium"), width=900, height=700) as tabs:
        yield tabs.new_page()


def test_widgets_of_one_kind_share_the_code_that_the_first_has_run(page: Page) -> None:
    copy, save = str(CopyButton._esm), str(Saver._esm)
    assert page.evaluate(ALIKE % IMPORT, [copy, copy])
    assert not page.evaluate(ALIKE % IMPORT, [copy, save])


def test_a_widget_in_another_language_has_code_of_its_own(
    page: Page, request: pytest.FixtureRequest
) -> None:
    english = str(CopyButton._esm)
    request.getfixturevalue("chinese")
    chinese = str(CopyButton._esm)
    assert not page.evaluate(ALIKE % IMPORT, [english, chinese])


def test_a_closed_comm_lets_go_of_its_widget_and_an_open_one_does_not(page: Page) -> None:
    found = page.evaluate(CLOSED % IMPORT, [str(Transcript._esm), True])
    assert found["disposed"] == [True, False, True]
    assert found["kept"] == [0, 2]
    assert not found["others"] and not found["again"]


def test_a_front_end_without_such_comms_is_left_alone(page: Page) -> None:
    assert page.evaluate(CLOSED % IMPORT, [str(Transcript._esm), False])["kept"] == [2, 2]
