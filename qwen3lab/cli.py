"""The command line: arguments in, text or JSON out. What it does lives elsewhere.

Exit codes: 0 done, 1 could not be done (one sentence on stderr says why), 2 wrong usage,
130 interrupted.
"""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    help="Explore and interpret the Qwen3 family.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _device(text: str | None) -> str | None:
    """A device that torch can use here, which is tried before anything is loaded."""
    if text is None:
        return None
    import torch

    try:
        torch.empty(1, device=text)
    except (RuntimeError, AssertionError) as error:
        kinds = {"cuda": torch.cuda, "mps": torch.backends.mps}
        found = ["cpu", *(name for name, kind in kinds.items() if kind.is_available())]
        raise ValueError(
            f"device {text!r} cannot be used here: choose from {', '.join(found)}"
        ) from error
    return text


def _model(text: str | None) -> str | None:
    """A model whose home folder, if it names one, is known."""
    try:
        Path(text or "").expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{text!r} begins with the home folder of a user who is unknown here: give the whole "
            "path"
        ) from error
    return text


def _file(path: Path | None) -> Path | None:
    """A file that can be written, as far as can be told before there is anything to write."""
    if path is None:
        return None
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file to write")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(
            f"{path} cannot be written: {path.parent} is no folder that you may write into; make "
            "it first, or choose another"
        )
    return path


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Seed = Annotated[int | None, typer.Option(help="Repeats the draw.")]
Model = Annotated[
    str, typer.Argument(callback=_model, help="An embedded model, a folder, or a hub id.")
]
Device = Annotated[
    str | None, typer.Option(callback=_device, help="Such as cpu or cuda; the best there is.")
]
ThisDevice = Annotated[str, typer.Option(callback=_device, help="Such as cpu or cuda.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Memory = Annotated[
    str | None, typer.Option(help="For weights, such as 8GB; what does not fit is streamed.")
]

Quantise = Annotated[str | None, typer.Option(help="int8 or int4, for models that nearly fit.")]


@app.command()
def lab(
    folder: Annotated[Path | None, typer.Argument(help="Of notebooks; ours if left out.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[int | None, typer.Option(help="Of the server; JupyterLab chooses.")] = None,
) -> None:
    """Open JupyterLab on the notebooks.

    From an installed package, notebooks and guide are first copied to ./qwen3lab-notebooks;
    files that are there already stay as they are.
    """
    from qwen3lab.jupyter.launch import launch

    raise typer.Exit(launch(folder, browser=browser, port=port))


@app.command()
def models(as_json: Json = False) -> None:
    """List the published family and the embedded models, with what each needs."""
    from qwen3lab import models as table

    found = table()
    print(json.dumps(found.to_dicts(), indent=2) if as_json else found)


@app.command()
def record(
    model: Model,
    prompt: Annotated[str, typer.Argument(help="Text to run.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", callback=_file, help="File to write (safetensors).")
    ],
    capture: Annotated[
        list[str] | None, typer.Option(help='More hooks: names, globs, or "all"; repeatable.')
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Render it as a question.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Run a prompt once and save its recording.

    Example: qwen3lab record tiny-moe "3+2=?" -o run.safetensors
    """
    recording = _opened(model, device, dtype, memory, quantise).record(
        [{"role": "user", "content": prompt}] if chat else prompt, capture=capture or ()
    )
    recording.save(out)
    about = {"file": str(out), "tokens": recording.tokens, "capture": list(recording.capture)}
    print(json.dumps(about, indent=2) if as_json else f"{recording!r}, saved as {out}")


@app.command()
def chat(
    model: Model,
    question: Annotated[str | None, typer.Argument(help="Asks for questions if left out.")] = None,
    thinking: Annotated[bool, typer.Option(help="Think before answering.")] = True,
    budget: Annotated[int | None, typer.Option(help="Thinking tokens at most.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens at most.")] = 1024,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Ask a question, and watch the model think and answer.

    Example: qwen3lab chat tiny-moe "3+2*7-1=?" --budget 4
    """
    from qwen3lab import Sampling

    held = _opened(model, device, dtype, memory, quantise)
    published = Sampling.published(thinking=thinking is not False)
    sampling = None if temperature is None else replace(published, temperature=temperature)
    options: dict[str, Any] = {
        "thinking": thinking,
        "budget": budget,
        "max_new_tokens": max_new_tokens,
        "sampling": sampling,
        "seed": seed,
    }
    if question is not None:
        reply = _reply(held, [{"role": "user", "content": question}], options, as_json)
        if reply.stop == "interrupted":
            raise KeyboardInterrupt
        return
    talk: list[dict[str, str]] = []
    while asked := _ask(quiet=as_json):
        talk.append({"role": "user", "content": asked})
        reply = _reply(held, talk, options, as_json)
        talk.append({"role": "assistant", "content": reply.answer})


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="An embedded model, such as tiny-moe.")],
    seed: Annotated[
        int | None, typer.Option(help="Of weights and documents; of the shipped model if left out.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/NAME-seedN if left out.")] = None,
    device: ThisDevice = "cpu",
) -> None:
    """Train an embedded model from scratch; started again, it goes on where it stood."""
    from qwen3lab import tiny

    model = tiny.train(name, seed=seed, minutes=minutes, out=out, device=device)
    print(f"{name} is trained and measured: see {model / 'README.md'}")


@app.command()
def evaluate(
    name: Annotated[
        str, typer.Argument(callback=_model, help="An embedded model, or the folder of one.")
    ],
    n: Annotated[int, typer.Option(help="Problems for each number of steps.")] = 100,
    mixed: Annotated[int, typer.Option(help="Problems for the budgets.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the problems.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Write the model's card.")] = False,
    as_json: Json = False,
) -> None:
    """Measure an embedded model on held-out problems."""
    from qwen3lab.tiny.evaluation.card import card_text
    from qwen3lab.tiny.pipeline import measure

    found, folder = measure(name, n=n, n_mixed=mixed, seed=seed, write=write, progress=not as_json)
    print(json.dumps(found.to_dict(), indent=2) if as_json else card_text(found, folder))


class Suite(str, Enum):
    """What `bench` can measure."""

    forward = "forward"
    record = "record"
    decode = "decode"
    overhead = "overhead"
    compiled = "compiled"
    experts = "experts"
    sweep = "sweep"
    stream = "stream"
    quantised = "quantised"


@app.command()
def bench(
    suite: Annotated[
        list[Suite] | None,
        typer.Option(help="Repeatable; forward, record and decode if left out."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(callback=_model, help="A model instead of a shape.")
    ] = None,
    shape: Annotated[str, typer.Option(help="Of random weights, such as qwen3-0.6b.")] = (
        "qwen3-0.6b"
    ),
    layers: Annotated[
        int | None,
        typer.Option(
            help="Keep so many of the shape's layers, 0 for all; if left out 4, and all with "
            "--shape-only."
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(help="Lengths of prompts, with commas.")] = "512",
    decode: Annotated[int, typer.Option(help="Tokens to generate.")] = 32,
    repeats: Annotated[int, typer.Option(help="Runs of each case.")] = 5,
    threads: Annotated[int | None, typer.Option(help="Of the CPU.")] = None,
    device: ThisDevice = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(help="float32 if left out, bfloat16 with --shape-only; or float16."),
    ] = None,
    memory: Annotated[
        str, typer.Option(help="For weights, in the suite stream and with --shape-only.")
    ] = "8GB",
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Stream files of zeros, which take no room.")
    ] = False,
    shape_only: Annotated[
        bool,
        typer.Option("--shape-only", help="Count and run a published shape; all: --shape all."),
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(callback=_file, help="HTML file to draw the ratios into.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Time this package side by side with its peers on the same weights.

    Example: qwen3lab bench --suite stream --shape qwen3-30b-a3b --layers 4 --dtype bfloat16
    """
    from qwen3lab import bench as benchmark

    plan = benchmark.BenchPlan(
        model=model,
        shape=shape,
        layers=((0 if shape_only else 4) if layers is None else layers) or None,
        tokens=tuple(_lengths(tokens)),
        decode=decode,
        repeats=repeats,
        threads=threads,
        device=device,
        dtype=dtype or ("bfloat16" if shape_only else "float32"),
    )
    if shape_only:
        shapes = benchmark.SHAPES if shape == "all" else (shape,)
        reports = benchmark.run_shapes(plan, shapes, memory=memory)
    else:
        names = [one.value for one in suite or ()] or list(benchmark.SUITES)
        progress = not as_json
        reports = benchmark.run_suites(plan, names, memory=memory, sparse=sparse, progress=progress)
    _show(reports, figure, as_json)


def _show(reports: Iterable[Any], figure: Path | None, as_json: bool) -> None:
    """Print and draw reports as they come, so that none is lost to one that fails after it."""
    done = []
    try:
        for report in reports:
            done.append(report)
            if not as_json:
                print(report if len(done) == 1 else f"\n{report}", flush=True)
            if figure is not None and len(done) == 1:
                from qwen3lab import figures

                figures.save(report.figure(), figure)
    finally:
        if as_json and done:
            print(json.dumps([report.to_dict() for report in done], indent=2))


def main() -> None:
    """Run the command line; errors of ours are one sentence, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.isatty():
            # A file's or a pipe's own may know no more than a few letters, as on Windows.
            stream.reconfigure(encoding="utf-8")
    try:
        app()
    except (ValueError, ImportError, OSError) as error:
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(
            "memory ran out: take fewer tokens or a --dtype of fewer bytes, or --memory or "
            "--quantise where the command has them"
        )


def _fail(sentence: str) -> NoReturn:
    print(f"qwen3lab: {_plain(sentence)}", file=sys.stderr)
    sys.exit(1)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    # For a CPU, torch has no class of its own for that.
    full = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return full or "DefaultCPUAllocator" in str(error)


def _opened(
    model: str,
    device: str | None,
    dtype: str | None,
    memory: str | None,
    quantise: str | None,
):
    import qwen3lab

    return qwen3lab.load(model, device=device, dtype=dtype, memory=memory, quantise=quantise)


def _lengths(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"--tokens is {text!r}: expected lengths such as 512,1024")
    return [int(part) for part in parts]


def _ask(*, quiet: bool) -> str:
    try:
        return input("" if quiet else "> ").strip()
    except EOFError:
        return ""


def _reply(held: Any, talk: list[dict[str, str]], options: dict[str, Any], as_json: bool) -> Any:
    """Stream a reply, thinking dimmed where the terminal can."""
    dims = sys.stdout.isatty() and not as_json
    state = {"dim": False}

    def show(step: Any) -> None:
        if dims and (step.part == "thinking") != state["dim"]:
            state["dim"] = step.part == "thinking"
            print("\x1b[2m" if state["dim"] else "\x1b[0m", end="")
        print(_plain(step.text), end="", flush=True)

    reply = held.chat(talk, on_step=None if as_json else show, **options)
    if as_json:
        names = ("thinking", "answer", "stop", "thinking_tokens", "answer_tokens")
        print(json.dumps({name: getattr(reply, name) for name in names}, ensure_ascii=False))
        return reply
    print("\x1b[0m" if dims else "")
    counts = f"{reply.thinking_tokens} thinking and {reply.answer_tokens} answer tokens"
    print(f"[{counts}; stop: {reply.stop}]", file=sys.stderr)
    return reply


def _plain(text: str) -> str:
    """Text of a model or a file without control characters, which a terminal would obey."""
    return "".join(char for char in text if char in "\n\t" or char.isprintable())
