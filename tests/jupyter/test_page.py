import json
from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from qwen3lab.jupyter import page as module
from qwen3lab.jupyter.page import (
    DATA,
    page_command,
    page_environment,
    page_notebook,
    show_page,
)


def only_cell(text: str) -> str:
    (cell,) = json.loads(text)["cells"]
    return cell["source"]


def test_the_page_of_a_model_shows_its_workbench_at_the_tab():
    assert only_cell(page_notebook("tiny-moe", "routing")).endswith(
        "Workbench(qwen3lab.load('tiny-moe'), tab='routing')"
    )


def test_a_folder_is_named_by_its_whole_path_because_the_kernel_runs_elsewhere(
    tmp_path, monkeypatch
):
    (tmp_path / "it's mine").mkdir()
    monkeypatch.chdir(tmp_path)
    source = only_cell(page_notebook("it's mine", "text"))
    assert repr(str(tmp_path / "it's mine")) in source
    compile(source, "the cell", "exec")


def test_voila_is_started_on_the_notebook_with_the_template_and_the_theme(tmp_path):
    line = page_command(tmp_path / "one.ipynb", dark=True, browser=False, port=9999)
    assert line[1:4] == ["-m", "voila", str(tmp_path / "one.ipynb")]
    assert {"--template=qwen3lab", "--theme=dark", "--no-browser", "--port=9999"} <= set(line)
    assert "--theme=light" in page_command(tmp_path / "one.ipynb")


def test_the_users_own_jupyter_folders_stay_in_effect(monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "/mine")
    assert page_environment()["JUPYTER_PATH"] == f"{DATA}:/mine"
    monkeypatch.delenv("JUPYTER_PATH")
    assert page_environment()["JUPYTER_PATH"] == str(DATA)


def test_the_template_takes_the_addresses_of_another_server_out_of_voilas_own():
    voila = pytest.importorskip("voila")
    theirs = Path(voila.__file__).parents[4] / "share" / "jupyter" / "voila" / "templates"
    block = (theirs / "lab" / "index.html.j2").read_text("utf-8")
    assert "https://cdn" in block, "Voila's own page has no such address: the template can go"
    links = "\n".join(line for line in block.splitlines() if "<link" in line)
    ours = (DATA / "voila" / "templates" / "qwen3lab" / "index.html.j2").read_text("utf-8")
    base = f"{{% block notebook_css %}}{links}{{% endblock %}}"
    loader = DictLoader({"lab/index.html.j2": base, "ours": ours})
    shown = Environment(loader=loader, autoescape=True).get_template("ours").render()
    assert shown.count('rel="stylesheet"') == 2 and "http" not in shown


def test_a_missing_notebook_or_voila_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"is not a notebook: give the path of an \.ipynb file"):
        show_page(notebook=tmp_path / "none.ipynb")
    (tmp_path / "page.txt").touch()
    with pytest.raises(ValueError, match="is not a notebook"):
        show_page(notebook=tmp_path / "page.txt")
    found = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "voila" else found(name))
    with pytest.raises(ImportError, match=r"voila is not installed: run pip install"):
        show_page()


def test_the_server_runs_on_a_notebook_that_is_gone_after_it(monkeypatch):
    seen = []

    def serve(line, variables):
        path = Path(line[3])
        seen.append((path, only_cell(path.read_text("utf-8")), variables["JUPYTER_PATH"]))
        return 7

    monkeypatch.setattr(module, "run_server", serve)
    assert show_page("tiny-dense", tab="why") == 7
    ((path, source, _),) = seen
    assert "'tiny-dense'), tab='why'" in source and not path.exists()
