import io
import json
import os
import subprocess
import sys

import pytest
import torch

import qwen3lab
from qwen3lab import cli
from qwen3lab.bench.report import Measurement, Report
from qwen3lab.cli.output import plain_text


def called(monkeypatch, capfd, *arguments):
    """Exit code, stdout and stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["qwen3lab", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capfd.readouterr()
    return stopped.value.code or 0, out, err


@pytest.fixture
def run(monkeypatch, capfd):
    return lambda *arguments: called(monkeypatch, capfd, *arguments)


COMMANDS = (
    *("lab", "page", "models", "record", "corpus", "chat", "quantise", "verify"),
    *("train", "evaluate", "bench", "course"),
)


def test_help_does_not_import_torch():
    code = (
        "import sys; from qwen3lab.cli import main; sys.argv = ['qwen3lab', '--help']\n"
        "try: main()\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"qwen3lab {command}" in out


def test_models_are_listed_as_text_and_as_json(run):
    code, out, _ = run("models")
    assert code == 0
    assert "tiny-moe" in out
    assert "596,049,920" in out
    code, out, _ = run("models", "--json")
    table = {row["name"]: row for row in json.loads(out)}
    assert table["Qwen/Qwen3-30B-A3B"]["n_params"] == 30_532_122_624


def test_quantise_runs_the_model_with_quantised_weights(run, tmp_path):
    pytest.importorskip("torchao")
    file = tmp_path / "run.safetensors"
    options = ("--quantise", "int8", "--device", "cpu")
    assert run("record", "tiny-dense", "3+2=?", "-o", file, *options)[0] == 0
    assert str(qwen3lab.Recording.load(file).raw("hook_unembed").dtype) == "torch.bfloat16"
    code, _, err = run("record", "tiny-dense", "3+2=?", "-o", file, "--quantise", "int3")
    assert code == 1 and "choose from int8, int4" in err


def test_record_saves_a_recording(run, tmp_path):
    file = tmp_path / "run.safetensors"
    code, out, _ = run(
        "record", "tiny-moe", "3+2=?", "-o", file, "--capture", "*resid_post", "--json"
    )
    assert code == 0
    about = json.loads(out)
    rec = qwen3lab.Recording.load(file)
    assert rec.tokens == about["tokens"]
    assert "blocks.0.hook_resid_post" in rec.capture


def test_chat_prints_the_answer_and_the_stop_reason(run):
    options = ("--temperature", "0", "--seed", "0")
    code, out, err = run("chat", "tiny-moe", "3+2=?", *options)
    assert (code, out.split()[-1]) == (0, "5")
    assert "stop: natural" in err
    code, out, _ = run("chat", "tiny-moe", "3+2=?", *options, "--no-thinking", "--json")
    reply = json.loads(out)
    assert (reply["thinking"], reply["stop"]) == ("", "natural")


def test_a_conversation_ends_at_an_empty_line(run, monkeypatch):
    lines = iter(["3+2=?", "5*7=?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    code, _, err = run("chat", "tiny-moe", "--temperature", "0", "--max-new-tokens", "40")
    assert (code, err.count("stop:")) == (0, 2)


def test_the_benchmark_runs_the_requested_suites(run, monkeypatch, tmp_path):
    asked = []

    def stand_in(plan, *what, progress=True, **options):
        asked.append((plan, *what, options))
        measured = {"qwen3lab": (1.0,), "transformers": (2.0,)}
        return Report(
            plan.title, {}, "All agree.", 0.0, [Measurement("forward", 8, "ms", measured)]
        )

    for name in ("run", "run_experts", "run_budgets", "run_stream", "run_shape", "run_quantised"):
        monkeypatch.setattr(f"qwen3lab.bench.runner.{name}", stand_in)
    drawn = tmp_path / "ratios.html"
    options = ("--tokens", "128,256", "--layers", "2", "--figure", drawn, "--json")
    code, out, _ = run("bench", *options)
    assert (code, json.loads(out)[0]["rows"][0]["ratio"]) == (0, 2.0)
    plan, suites, _ = asked.pop()
    assert (plan.tokens, plan.layers) == ((128, 256), 2)
    assert suites == ["forward", "record", "decode"]
    assert "plotly" in drawn.read_text("utf-8").lower()
    assert "random weights of qwen3-0.6b" in run("bench")[1]
    asked.clear()
    suites = [part for name in ("stream", "decode", "sweep") for part in ("--suite", name)]
    assert run("bench", *suites, "--memory", "3GB", "--layers", "0")[0] == 0
    assert [what for _, *what, _ in asked] == [[["decode"]], [], []]
    assert asked[2][-1] == {"memory": "3GB", "sparse": False} and asked[2][0].layers is None
    asked.clear()
    assert run("bench", "--suite", "quantised")[0] == 0 and len(asked) == 1
    asked.clear()
    assert run("bench", "--shape-only", "--shape", "all")[0] == 0
    assert [plan.shape for plan, *_ in asked] == [*SHAPES_BY_SIZE]
    assert {(plan.layers, plan.dtype) for plan, *_ in asked} == {(None, "bfloat16")}
    asked.clear()
    shape = ("--shape-only", "--shape", "qwen3-4b", "--layers", "2", "--dtype", "float16")
    assert run("bench", *shape)[0] == 0
    assert [(plan.layers, plan.dtype) for plan, *_ in asked] == [(2, "float16")]


SHAPES_BY_SIZE = (
    *("qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b", "qwen3-14b", "qwen3-32b"),
    *("qwen3-30b-a3b", "qwen3-235b-a22b"),
)


@pytest.mark.parametrize("as_json", [False, True])
def test_finished_reports_are_printed_when_a_later_suite_fails(run, monkeypatch, as_json):
    def measured(plan, *what, **options):
        return Report(
            "the first", {}, "", 0.0, [Measurement("forward", 8, "ms", {"qwen3lab": (1.0,)})]
        )

    def failing(plan, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("qwen3lab.bench.runner.run", measured)
    monkeypatch.setattr("qwen3lab.bench.runner.run_overhead", failing)
    suites = ("--suite", "forward", "--suite", "overhead")
    code, out, err = run("bench", *suites, *(["--json"] if as_json else []))
    assert (code, "Traceback" in err) == (1, False)
    assert err.startswith("qwen3lab: memory ran out: use fewer tokens")
    assert json.loads(out)[0]["title"] == "the first" if as_json else "the first" in out


def test_an_unexpected_error_keeps_its_traceback(run, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a defect")

    monkeypatch.setattr(qwen3lab, "load", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        run("chat", "tiny-moe", "hi")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("record", "tiny-moe", "hi", "-o", "FOLDER/none/x.safetensors"), "create it first"),
        (("record", "tiny-moe", "hi", "-o", "FOLDER"), "is a folder: give the name of a file"),
        (("record", "~nouser/x", "hi", "-o", "x.safetensors"), "home folder of an unknown user"),
        (("chat", "tiny-moe", "hi", "--device", "foo"), "device 'foo' cannot be used ("),
        (("chat", "tiny-moe", "hi", "--device", "cuda:99"), "choose 'cpu'"),
        (("train", "tiny-moe", "--device", "cuda:99"), "choose 'cpu'"),
        (("bench", "--device", "cuda:99"), "choose 'cpu'"),
        (("bench", "--figure", "FOLDER/none/x.html"), "create it first"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_loaded(
    run, monkeypatch, tmp_path, arguments, message
):
    for work in ("qwen3lab.load", "qwen3lab.bench.run_suites", "qwen3lab.tiny.train"):
        monkeypatch.setattr(work, None)
    code, out, err = run(*(text.replace("FOLDER", str(tmp_path)) for text in arguments))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("qwen3lab: ") and message in err


def test_an_expected_error_is_one_sentence_and_exit_code_1(run, tmp_path):
    code, out, err = run("chat", "./nowhere", "hi")
    assert (code, out) == (1, "")
    assert err.startswith("qwen3lab: './nowhere' is neither a folder nor an embedded model")
    assert "Traceback" not in err
    assert run("bench", "--tokens", "many")[0] == 1
    assert run("lab", tmp_path / "none")[0] == 1


def test_wrong_usage_exits_with_2(run):
    code, _, err = run("record", "tiny-moe")
    assert code == 2
    assert "Missing argument" in err
    assert run("no-such-command")[0] == 2


def test_an_interrupt_exits_with_130(run, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(qwen3lab, "load", interrupt)
    assert run("chat", "tiny-moe", "hi")[0] == 130


def test_control_characters_are_removed_from_the_output(run, monkeypatch):
    evil = "\x1b]0;owned\x07"
    code, _, err = run("chat", f"./{evil}", "hi")
    assert code == 1
    assert "\x1b" not in err
    assert plain_text(f"a{evil}b\n你好") == "a]0;ownedb\n你好"


def test_a_conversation_in_json_prints_nothing_else(run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("3+2=?\n"))
    code, out, _ = run("chat", "tiny-dense", "--json", "--temperature", "0", "--device", "cpu")
    assert code == 0 and json.loads(out)["answer"] == "5"


def test_a_temperature_keeps_the_other_published_filters(run, monkeypatch):
    seen = []

    def chat(self, talk, **options):
        seen.append(options["sampling"])
        raise ValueError("that is enough")

    monkeypatch.setattr(qwen3lab.Lab, "chat", chat)
    for mode in ("--thinking", "--no-thinking"):
        run("chat", "tiny-dense", "3+2=?", mode, "--temperature", "0.5")
    assert seen == [qwen3lab.Sampling(0.5, 20, 0.95), qwen3lab.Sampling(0.5, 20, 0.8)]


def test_output_is_utf8_also_in_a_pipe_with_another_encoding():
    """As on Windows, where a pipe is written in a code page."""
    command = [sys.executable, "-c", "from qwen3lab.cli import main; main()", "models"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "COLUMNS": "200"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "─" in done.stdout.decode("utf-8")


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantised_model_is_saved_and_answers_from_its_folder(run, tmp_path, kind):
    pytest.importorskip("torchao")
    folder = tmp_path / "made" / "small"
    options = ["--device", "cpu"]
    code, out, err = run("quantise", "tiny-dense", folder, "--kind", kind, *options)
    assert code == 0, err
    assert f"bfloat16, {kind}" in out and "small" in out
    question = ["3+4=?", "--temperature", 0, "--json", *options]
    code, out, _ = run("chat", "tiny-dense", *question, "--quantise", kind)
    expected = json.loads(out)
    code, out, err = run("chat", folder, *question)
    assert code == 0, err
    assert json.loads(out) == expected


def test_a_corpus_is_recorded_and_opened(run, tmp_path):
    rows = [{"text": "3+4=?", "kind": "sum"}, {"text": "", "kind": "sum"}]
    data, out = tmp_path / "texts.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--model", "tiny-moe", "--label", "kind", "--device", "cpu", "--out", out]
    code, text, err = run("corpus", data, *options, "--json")
    assert code == 0, err
    summary = json.loads(text)
    assert (summary["texts"], summary["skipped"], summary["complete"]) == (1, 1, True)
    found = qwen3lab.corpus.open(out)
    slots = found.counts.slots.sum()
    layers, k = len(found.config.moe_layers), found.config.n_experts_per_token
    assert slots == summary["tokens"] * layers * k
    code, _, err = run("corpus", data, *options)
    assert code == 1
    assert "holds this run already" in err


def test_a_reduction_without_a_hook_is_refused(run, tmp_path):
    (tmp_path / "a.txt").write_text("3+4=?")
    options = ["--model", "tiny-moe", "--out", tmp_path / "run", "--reduce", "mean"]
    code, _, err = run("corpus", tmp_path / "a.txt", *options)
    assert code == 1
    assert "--reduce is 'mean': expected HOOK=mean" in err
