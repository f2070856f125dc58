"""The commands: each parses its arguments, calls the package and prints text or JSON.

A command imports what it needs when it runs, so that `--help` starts fast.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from qwen3lab.cli.course import course
from qwen3lab.cli.help_texts import App
from qwen3lab.cli.options import (
    Device,
    Dtype,
    Json,
    Memory,
    Model,
    Quantise,
    Seed,
    Suite,
    Tab,
    ThisDevice,
    known_home,
    reductions,
    token_counts,
    writable_file,
)
from qwen3lab.cli.output import read_question, show_reports, stream_reply
from qwen3lab.translation import tr

app = App(
    help="Explore and interpret the Qwen3 family.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(course, name="course")


@app.command()
def lab(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of notebooks; default: your working copy.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[
        int | None, typer.Option(help="Port of the server; default: JupyterLab chooses.")
    ] = None,
) -> None:
    """Open JupyterLab on the notebooks.

    Notebooks and guide are first copied to ./qwen3lab-notebooks, or to ~/qwen3lab-notebooks if this
    is a checkout of the package; existing files are not overwritten.
    """
    from qwen3lab.jupyter.launch import launch

    raise typer.Exit(launch(folder, browser=browser, port=port))


@app.command()
def page(
    model: Annotated[
        str, typer.Argument(callback=known_home, help="An embedded model, a folder, or a hub id.")
    ] = "tiny-moe",
    tab: Annotated[Tab, typer.Option(help="View to open the workbench at.")] = Tab.text,
    notebook: Annotated[
        Path | None, typer.Option(help="Notebook to show in place of a workbench.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="Use the dark theme.")] = False,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    port: Annotated[
        int | None, typer.Option(help="Port of the server; default: Voila chooses.")
    ] = None,
) -> None:
    """Show the workbench as a page of its own, without a notebook; needs Voila.

    Example: qwen3lab page tiny-moe --tab routing
    """
    from qwen3lab.jupyter.page import show_page

    raise typer.Exit(
        show_page(model, tab=tab.value, notebook=notebook, dark=dark, browser=browser, port=port)
    )


@app.command()
def models(as_json: Json = False) -> None:
    """List the embedded and the published models: sizes, and what fits in how much memory."""
    from qwen3lab import models as model_table

    table = model_table()
    if as_json:
        print(json.dumps(table.to_dicts(), indent=2))
    else:
        print(f"{table}\n\n{tr('What fits in how much memory:')}\n{table.fits()}")


@app.command()
def record(
    model: Model,
    prompt: Annotated[str, typer.Argument(help="Text to run.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", callback=writable_file, help="File to write (safetensors)."),
    ],
    capture: Annotated[
        list[str] | None, typer.Option(help='More hooks: names, globs, or "all"; repeatable.')
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Render the prompt with the chat template.")
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Run a prompt once and save its recording.

    Example: qwen3lab record tiny-moe "3+2=?" -o run.safetensors
    """
    recording = _load(model, device, dtype, memory, quantise).record(
        [{"role": "user", "content": prompt}] if chat else prompt, capture=capture or ()
    )
    recording.save(out)
    summary = {"file": str(out), "tokens": recording.tokens, "capture": list(recording.capture)}
    print(
        json.dumps(summary, indent=2)
        if as_json
        else tr("{recording}, saved as {out}", recording=repr(recording), out=out)
    )


@app.command()
def corpus(
    data: Annotated[
        Path, typer.Argument(help="Parquet, JSON Lines or text file, or a folder of such files.")
    ],
    model: Annotated[
        str,
        typer.Option(callback=known_home, help="An embedded model, a folder, or a hub id."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the result.")],
    column: Annotated[str, typer.Option(help="Of the texts, chats or token ids.")] = "text",
    label: Annotated[
        list[str] | None, typer.Option(help="Column that groups the counts; repeatable.")
    ] = None,
    token_label: Annotated[
        list[str] | None, typer.Option(help="Column with a label for each token; repeatable.")
    ] = None,
    cross: Annotated[
        bool, typer.Option("--cross", help="Count pairs of label and token label, too.")
    ] = False,
    row_id: Annotated[str, typer.Option("--id", help="Column that names the rows.")] = "",
    keep: Annotated[
        list[str] | None,
        typer.Option(help="counts, top, routes or saliency; repeatable; default: counts."),
    ] = None,
    reduce: Annotated[
        list[str] | None,
        typer.Option(help="HOOK=mean, HOOK=last or HOOK=0,-1: one value a text; repeatable."),
    ] = None,
    full: Annotated[
        list[str] | None, typer.Option(help="Hook that is kept for every token; repeatable.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Of a text; default: the model's context.")] = 0,
    too_long: Annotated[str, typer.Option(help="cut or skip longer texts.")] = "cut",
    ray: Annotated[bool, typer.Option("--ray", help="Run on Ray, on this machine.")] = False,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster to run on.")] = None,
    workers: Annotated[int, typer.Option(help="Ray's workers, each with the model.")] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that is in the folder.")
    ] = False,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Run a model over many texts, and keep counts of its routing, examples or activations.

    Example: qwen3lab corpus texts.jsonl --model tiny-moe --label family --out run
    """
    from qwen3lab import corpus as corpora

    given = {"device": device, "dtype": dtype, "memory": memory, "quantise": quantise}
    run = corpora.record(
        data,
        model=model,
        out=out,
        column=column,
        label=label or (),
        token_label=token_label or (),
        cross=cross,
        id=row_id,
        keep=keep or ([] if reduce or full else ["counts"]),
        reduce=reductions(reduce or ()),
        full=full or (),
        max_tokens=max_tokens,
        too_long=too_long,
        ray=address or ray,
        workers=workers,
        resume=resume,
        progress=not as_json,
        load_options={name: value for name, value in given.items() if value is not None},
    )
    names = ("texts", "tokens", "cut", "skipped", "bytes")
    summary = {"folder": str(run.folder), "complete": run.is_complete}
    summary |= {name: run.total(name) for name in names}
    print(json.dumps(summary, indent=2) if as_json else run)
    if not run.is_complete:
        raise KeyboardInterrupt


@app.command()
def chat(
    model: Model,
    question: Annotated[
        str | None, typer.Argument(help="One question; without it, starts a conversation.")
    ] = None,
    thinking: Annotated[
        bool | None,
        typer.Option(help="Think before answering; default: as the chat template does."),
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Maximum number of thinking tokens.")] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(help="Maximum number of new tokens; default: as fits the model and device."),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 decodes greedily.")] = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Ask a question and stream the model's thinking and answer.

    Example: qwen3lab chat tiny-moe "3+2*7-1=?" --budget 4
    """
    loaded = _load(model, device, dtype, memory, quantise)
    options: dict[str, Any] = {
        "thinking": thinking,
        "budget": budget,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    if question is not None:
        reply = stream_reply(
            loaded, [{"role": "user", "content": question}], options, temperature, as_json
        )
        if reply.stop == "interrupted":
            raise KeyboardInterrupt
        return
    messages: list[dict[str, str]] = []
    while line := read_question(quiet=as_json):
        messages.append({"role": "user", "content": line})
        reply = stream_reply(loaded, messages, options, temperature, as_json)
        messages.append({"role": "assistant", "content": reply.answer})


@app.command()
def quantise(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="For the quantised model; made if missing.")],
    kind: Annotated[str, typer.Option(help="int8 or int4.")] = "int4",
    dtype: Annotated[str | None, typer.Option(help="Of the computation.")] = "bfloat16",
    device: Device = None,
) -> None:
    """Quantise a model and save it, with its tokenizer, as a folder that loads in seconds.

    Example: qwen3lab quantise Qwen/Qwen3-0.6B Qwen3-0.6B-int4
    """
    from qwen3lab.checkpoints import find_folder, save_checkpoint
    from qwen3lab.checkpoints.folders import copy_tokenizer

    loaded = _load(model, device, dtype, None, kind)
    save_checkpoint(loaded.model, folder)
    copy_tokenizer(find_folder(model, weights=False), folder)
    print(tr("{model}, saved in {folder}", model=repr(loaded), folder=folder))


@app.command()
def verify(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=writable_file, help="JSON file for the report."),
    ] = None,
    layered: Annotated[
        bool | None,
        typer.Option(help="Fill transformers layer by layer; default: if both do not fit."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Greedy tokens per prompt; default: 24, or 4 if streamed."),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Compare a model with transformers on the same weights; the exit code is 1 if it differs.

    The last line can be pasted into an issue.

    Example: qwen3lab verify Qwen/Qwen3-0.6B --out verified.json
    """
    from qwen3lab.storage.atomic_files import write_text
    from qwen3lab.verification import verify as compare

    found = compare(
        model,
        device=device,
        dtype=dtype,
        memory=memory,
        layered=layered,
        tokens=tokens,
        progress=not as_json,
    )
    text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
    if out is not None:
        write_text(out, text + "\n")
    print(text if as_json else found.text())
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="An embedded model, such as tiny-moe.")],
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of weights and documents; default: that of the shipped model."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; default: runs/NAME-seedN.")
    ] = None,
    device: ThisDevice = "cpu",
) -> None:
    """Train an embedded model from scratch; a repeated call resumes from the last checkpoint."""
    from qwen3lab import tiny

    model = tiny.train(name, seed=seed, minutes=minutes, out=out, device=device)
    print(tr("{name} is trained and evaluated: see {card}", name=name, card=model / "README.md"))


@app.command()
def evaluate(
    name: Annotated[
        str,
        typer.Argument(
            callback=known_home, help="An embedded model, or a folder with such a model."
        ),
    ],
    n: Annotated[int, typer.Option(help="Problems of each kind.")] = 100,
    mixed: Annotated[int, typer.Option(help="Problems for the thinking budgets.")] = 500,
    seed: Annotated[int, typer.Option(help="Random seed of the problems.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Write the model card.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate an embedded model on held-out problems."""
    from qwen3lab.tiny.evaluation.card import card_text
    from qwen3lab.tiny.pipeline import measure

    result, folder = measure(name, n=n, n_mixed=mixed, seed=seed, write=write, progress=not as_json)
    print(json.dumps(result.to_dict(), indent=2) if as_json else card_text(result, folder))


@app.command()
def bench(
    suite: Annotated[
        list[Suite] | None,
        typer.Option(help="Repeatable; default: forward, record and decode."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(callback=known_home, help="Measure this model, not a shape.")
    ] = None,
    shape: Annotated[
        str, typer.Option(help="Shape of the random weights, such as qwen3-0.6b.")
    ] = "qwen3-0.6b",
    layers: Annotated[
        int | None,
        typer.Option(
            help="Number of layers to keep, 0 for all; default: 4, or all with --shape-only."
        ),
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="Prompt lengths in tokens, separated by commas.")
    ] = "512",
    decode: Annotated[int, typer.Option(help="Tokens to generate.")] = 32,
    repeats: Annotated[int, typer.Option(help="Runs of each case.")] = 5,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    device: ThisDevice = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16; default: float32, or bfloat16 with --shape-only."
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(help="Limit for weights, in the suite stream and with --shape-only."),
    ] = "8GB",
    sparse: Annotated[
        bool,
        typer.Option("--sparse", help="Stream sparse files of zeros, which take no disk space."),
    ] = False,
    shape_only: Annotated[
        bool,
        typer.Option(
            "--shape-only",
            help="Count parameters and run one published shape, or all with --shape all.",
        ),
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(callback=writable_file, help="HTML file for a figure of the ratios."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure this package and its peers on the same weights.

    Example: qwen3lab bench --suite stream --shape qwen3-30b-a3b --layers 4 --dtype bfloat16
    """
    from qwen3lab import bench as benchmark

    plan = benchmark.BenchPlan(
        model=model,
        shape=shape,
        layers=((0 if shape_only else 4) if layers is None else layers) or None,
        tokens=tuple(token_counts(tokens)),
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
        names = [item.value for item in suite or ()] or list(benchmark.SUITES)
        progress = not as_json
        reports = benchmark.run_suites(plan, names, memory=memory, sparse=sparse, progress=progress)
    show_reports(reports, figure, as_json)


def _load(
    model: str,
    device: str | None,
    dtype: str | None,
    memory: str | None,
    quantise: str | None,
):
    import qwen3lab

    return qwen3lab.load(model, device=device, dtype=dtype, memory=memory, quantise=quantise)
