"""The drawer: what its buttons write, what it says, and the code that it shows."""

from qwen3lab.widgets import Workbench
from qwen3lab.widgets.workbench.keep.drawer import KeepDrawer
from tests.fake_lab import MOE, FakeLab, record
from tests.widgets.workbench.benches import panel


def drawer(bench: Workbench) -> KeepDrawer:
    found = panel(bench).keep
    found.open.value = True
    return found


def small() -> Workbench:
    return Workbench(record(MOE, ["a", "b", "c"], {}))


def test_the_drawer_shows_the_code_of_the_picks_of_now() -> None:
    bench = small()
    found = panel(bench).keep
    bench.state.layer = 1
    assert found.card.layout.display == "none" and found.code.value == ""
    found.open.value = True
    bench.state.layer = 3
    assert found.code.value == found.saver.text == bench.code
    assert "bench.state.layer = 3" in found.code.value


def test_each_button_writes_its_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = drawer(small())
    found.name.value = "mine"
    for button in found.buttons:
        button.click()
        assert f"is written in {tmp_path}" in found.said.value
    names = ["mine.csv", "mine.html", "mine.json", "mine.recording.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert Workbench.open_view("mine.json").state.recording.tokens == ["a", "b", "c"]


def test_a_name_with_a_folder_and_a_bench_without_a_run_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = drawer(small())
    for name in ("../mine", "a/b", "", "..", "a\\b"):
        found.name.value = name
        found.buttons[0].click()
        assert "has no folder" in found.said.value
    waiting = KeepDrawer(Workbench(FakeLab()))
    waiting.buttons[1].click()
    assert "there is no finished run to keep" in waiting.said.value
    assert list(tmp_path.iterdir()) == []
