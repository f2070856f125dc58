"""One notebook of the course in the browser, from "Run All" to the page of its session."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ElementHandle

from tests.notebooks.browser import Book, opened
from tests.notebooks.course_run import findings, in_page
from tests.notebooks.course_run.answers import exercises_of, tries
from tests.notebooks.jupyter_server import Server

MINUTES = 20
"""A notebook that runs longer has failed."""

SETTLE = 600
"""Milliseconds until a figure that was scrolled into the window has been drawn."""

MOST_PICTURES = 6
"""Of one output that is higher than the window."""


@dataclass(frozen=True)
class Setting:
    """How the student looks at the course.

    Attributes:
        language: "zh" or "en".
        width: of the window, in pixels.
        height: of the window, in pixels.
        theme: "light" or "dark".
    """

    language: str = "zh"
    width: int = 1366
    height: int = 768
    theme: str = "light"

    @property
    def name(self) -> str:
        """Name of the folder of a run with this setting."""
        return f"{self.language}-{self.width}x{self.height}-{self.theme}"

    def place(self, notebook: str) -> str:
        """A notebook's path in the working copy."""
        return f"{'zh/' if self.language == 'zh' else ''}{notebook}.ipynb"

    def session(self, notebook: str) -> str:
        """The path of the session's page with the quiz."""
        folder = "guide/zh/course" if self.language == "zh" else "guide/course"
        return f"{folder}/session-{int(notebook[:2])}.md"


@dataclass
class Seen:
    """One thing that was looked at.

    Attributes:
        cell: place of the cell in the notebook; None for a page of the guide.
        what: "output", a tab's name, "wrong", "hint 1" to "hint 3", "right" or "quiz".
        source: the first line of the cell.
        seconds: from "Run All", or from running the cell, until its output was there.
        ended: from "Run All" until the cell had ended.
        pictures: names of the screenshots.
        findings: what is wrong with it.
    """

    cell: int | None
    what: str
    source: str = ""
    seconds: float | None = None
    ended: float | None = None
    pictures: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


@dataclass
class Walk:
    """A notebook that is gone through; `seen` grows while it is.

    Attributes:
        book: the notebook in the browser.
        setting: language, size and theme.
        notebook: its name without an ending.
        folder: for the screenshots.
        seen: what was looked at.
    """

    book: Book
    setting: Setting
    notebook: str
    folder: Path
    seen: list[Seen] = field(default_factory=list)

    def run_all(self) -> float:
        """Run all cells and look at each output; gives the seconds until the kernel was idle."""
        page, start = self.book.page, time.monotonic()
        page.evaluate(in_page.WATCH)
        page.wait_for_function(in_page.ENDED, timeout=MINUTES * 60_000)
        seconds = time.monotonic() - start
        times = {each["place"]: each for each in page.evaluate("window.courseRun.cells")}
        for place, cell in enumerate(self.cells()):
            if cell["outputs"]:
                seen = self._look(place, cell, "output", cell["source"])
                seen.seconds, seen.ended = times[place]["output"], times[place]["end"]
                self._tabs(place, cell)
        return round(seconds, 1)

    def try_exercises(self) -> None:
        """Give each exercise a wrong answer, ask for its hints, and give the right answer."""
        sources = [each["source"] if each["type"] == "code" else "" for each in self.cells()]
        for place, name in exercises_of(self.notebook, sources).items():
            for what, source in tries(name, sources[place]):
                start = time.monotonic()
                self.book.page.evaluate(in_page.RUN, [place, source])
                cell = self.cells()[place]
                seen = self._look(place, cell, what, source)
                seen.seconds = round(time.monotonic() - start, 1)
                said = cell["outputs"][-1]["text"] if cell["outputs"] else ""
                seen.findings += findings.of_verdict(what, said)

    def cells(self) -> list[dict[str, Any]]:
        """Kind, source and outputs of all cells as they are now."""
        return self.book.page.evaluate(in_page.CELLS)

    def _tabs(self, place: int, cell: dict[str, Any]) -> None:
        """Look at each tab of a widget."""
        node = self._node(place)
        for name in [tab.inner_text() for tab in node.query_selector_all("[role=tab]")]:
            tabs = [
                tab for tab in node.query_selector_all("[role=tab]") if tab.inner_text() == name
            ]
            if tabs and tabs[0].is_visible():
                tabs[0].click()
                self.book.page.wait_for_timeout(SETTLE)
                self.book.page.wait_for_function(in_page.ENDED, timeout=MINUTES * 60_000)
                self._look(place, cell, f"tab {name}", cell["source"])

    def _look(self, place: int, cell: dict[str, Any], what: str, source: str) -> Seen:
        page = self.book.page
        page.evaluate(in_page.SHOW, place)
        page.mouse.move(self.setting.width - 2, self.setting.height - 2)
        page.wait_for_timeout(SETTLE)
        node = self._node(place)
        found = findings.of_kinds([(each["kind"], each["text"]) for each in cell["outputs"]])
        read = page.evaluate(in_page.OUTPUT, node)
        found += findings.of_output(read, self.setting.language, source)
        seen = Seen(place, what, source.strip().partition("\n")[0], findings=found)
        output = node.query_selector(".jp-Cell-outputWrapper") or node
        seen.pictures = list(self._pictures(output, f"{place:03}-{what.replace(' ', '-')}"))
        self.seen.append(seen)
        return seen

    def _node(self, place: int) -> ElementHandle:
        node = self.book.page.evaluate_handle(in_page.CELL, place).as_element()
        assert node is not None, f"cell {place} is not in the page"
        return node

    def _pictures(self, node: ElementHandle, name: str) -> Iterator[str]:
        """Screenshots of a thing, one window after the other."""
        page = self.book.page
        for number in range(MOST_PICTURES):
            page.evaluate(in_page.SCROLL, [node, number])
            clip = page.evaluate(in_page.CLIP, node)
            if clip is None or (number and clip["above"] <= number - 1):
                return
            page.wait_for_timeout(80)
            picture = f"{name}-{number}.png" if number else f"{name}.png"
            page.screenshot(path=self.folder / picture, clip=clip["box"])
            yield picture
            if clip["whole"]:
                return


def walk(context: BrowserContext, server: Server, setting: Setting, notebook: str, folder: Path):
    """Go through one notebook; gives its report, and writes the screenshots to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    console: list[str] = []
    with opened(context, server, setting.place(notebook)) as book:
        book.page.on(
            "console", lambda said: said.type == "error" and console.append(said.text[:300])
        )
        set_up(book, setting)
        walked = Walk(book, setting, notebook, folder)
        seconds = walked.run_all()
        walked.try_exercises()
        of_page = [f"request to another host: {url}" for url in book.external_requests]
        of_page += [f"error in the page: {text}" for text in book.page_errors]
    of_page += [f"error in the console: {text}" for text in dict.fromkeys(console)]
    quiz = look_at_quiz(context, server, setting, notebook, folder)
    return {
        **asdict(setting),
        "notebook": notebook,
        "seconds": seconds,
        "page": of_page,
        "seen": [asdict(each) for each in (*walked.seen, quiz)],
    }


def set_up(book: Book, setting: Setting) -> None:
    """Size, theme, and the list of files out of the way."""
    book.page.set_viewport_size({"width": setting.width, "height": setting.height})
    theme = f"JupyterLab {setting.theme.title()}"
    change = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
    book.page.evaluate(change, theme)
    book.page.locator(f'body[data-jp-theme-name="{theme}"]').wait_for(state="attached")
    if book.page.locator("#jp-left-stack").is_visible():
        book.command("application:toggle-left-area")


def look_at_quiz(
    context: BrowserContext, server: Server, setting: Setting, notebook: str, folder: Path
) -> Seen:
    """The page of the session, as JupyterLab shows it."""
    page = context.new_page()
    page.goto(server.page(setting.session(notebook)))
    root = page.locator(".jp-RenderedMarkdown").first
    root.locator("h2").first.wait_for()
    page.set_viewport_size({"width": setting.width, "height": setting.height})
    page.wait_for_timeout(SETTLE)
    heading = root.locator("h2", has_text="测验" if setting.language == "zh" else "Quiz")
    heading.scroll_into_view_if_needed()
    read = page.evaluate(in_page.PAGE, root.element_handle())
    seen = Seen(None, "quiz", setting.session(notebook), pictures=["quiz.png"])
    seen.findings = findings.of_output(read, setting.language, "")
    questions = root.locator("h2:has-text('测验') + ol > li, h2:has-text('Quiz') + ol > li").count()
    seen.findings += [] if questions >= 4 else [f"the quiz has {questions} questions"]
    page.screenshot(path=folder / "quiz.png")
    page.close()
    return seen
