"""Routes that a serving engine exported, as a corpus: the same tables and the same analyses."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qwen3lab.corpus.counting import Counts, Routed, routes_table
from qwen3lab.corpus.engine_layouts import EngineRoutes, from_sglang, from_vllm
from qwen3lab.corpus.folder import LOCK, Folder, Manifest, check_pyarrow, versions
from qwen3lab.corpus.part import rows_table
from qwen3lab.corpus.plan import CorpusPlan
from qwen3lab.corpus.recorder import write_vocabulary
from qwen3lab.corpus.run import CorpusRun
from qwen3lab.corpus.texts import Skipped, Text
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CorpusError
from qwen3lab.lab import Lab
from qwen3lab.storage.line_files import locked

ENGINES = {"vllm": from_vllm, "sglang": from_sglang}
PART_ROWS = 256
MAX_REASON = 200


def from_routed_experts(
    outputs: Iterable[Any],
    *,
    lab: Lab,
    out: str | Path,
    engine: str = "vllm",
    labels: Mapping[str, Sequence[Any]] | None = None,
    keep: Sequence[str] = ("counts", "routes"),
) -> CorpusRun:
    """Write routes that vLLM or SGLang exported into a folder, as `record` does.

    Every output is checked: shape, range and repetition of the experts, and whether routes fit the
    tokens. One that does not pass is left out and named in `run.skipped`. Tokens without a route
    (cached ones, and the last one, which no pass has read) are not counted; `total("routed")` is
    the number of the others. Engines export no weights, so importance and top examples are not
    available.

    Args:
        outputs: of vLLM, `RequestOutput` objects, its replies over HTTP (with `return_token_ids`),
            or mappings with `prompt_token_ids`, `token_ids`, `routed_experts`, and optionally
            `prompt_routed_experts` and `routed_experts_prompt_start`; of SGLang, mappings with
            `prompt_token_ids`, `output_ids` and `meta_info`.
        lab: of the model that the engine ran; it is not run.
        out: a new folder for the result.
        engine: "vllm" or "sglang".
        labels: a value for each output, by label column.
        keep: "counts" and "routes".

    Raises:
        CorpusError: an unknown engine, a dense model, labels that do not fit the outputs, or a
            folder that is not empty.

    Source: docs/training/routed_experts_replay.md of vLLM; sglang pull request 12162.
    """
    check_pyarrow()
    if engine not in ENGINES:
        raise CorpusError(f"engine is {engine!r}: choose from {', '.join(ENGINES)}")
    if not lab.config.is_moe:
        raise CorpusError(f"{lab.name} is dense: it has no experts to route to")
    labels = {name: [str(each) for each in values] for name, values in (labels or {}).items()}
    plan = CorpusPlan(model=lab.name, labels=tuple(labels), keep=tuple(keep), part_rows=PART_ROWS)
    plan.check()
    for name in ("top", "saliency"):
        if name in plan.keep:
            raise CorpusError(f"{engine} exports no weights, which {name} needs: leave {name} out")
    listed = list(outputs)
    wrong = [name for name, values in labels.items() if len(values) != len(listed)]
    if wrong or not listed:
        raise CorpusError(
            f"there are {len(listed)} outputs"
            + f" and other labels in {wrong[0]!r}" * bool(wrong)
            + ": expected at least one, and a label for each"
        )
    folder = Folder(out)
    folder.make()
    with locked(folder.path / LOCK):
        n_parts = -(-len(listed) // PART_ROWS)
        folder.begin(_manifest(lab, plan, engine, len(listed), n_parts), resume=False)
        write_vocabulary(lab, folder)
        for number in range(n_parts):
            rows = range(number * PART_ROWS, min((number + 1) * PART_ROWS, len(listed)))
            of_row = {row: tuple(values[row] for values in labels.values()) for row in rows}
            folder.note(_write_part(lab, plan, engine, listed, of_row, folder, number))
    return CorpusRun(folder.path)


def _manifest(lab: Lab, plan: CorpusPlan, engine: str, n_rows: int, n_parts: int) -> Manifest:
    return Manifest(
        plan=plan,
        config=lab.config,
        fingerprint="",
        weights=lab.weights,
        engine=engine,
        source="",
        n_rows=n_rows,
        n_parts=n_parts,
        hooks=(),
        versions=versions(),
    )


def _write_part(
    lab: Lab,
    plan: CorpusPlan,
    engine: str,
    outputs: Sequence[Any],
    labels: Mapping[int, tuple[str, ...]],
    folder: Folder,
    number: int,
) -> dict[str, int]:
    import pyarrow

    config = lab.config
    counts = Counts(config.moe_layers, config.n_experts, plan.labels, weighs=False)
    texts, routed, skipped = list[Text](), list[Routed](), list[Skipped]()
    for row, own in labels.items():
        try:
            found = ENGINES[engine](_fields(outputs[row]), config)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            skipped.append(Skipped(row, str(row), one_line(str(error), width=MAX_REASON)))
            continue
        texts.append(Text(row, str(row), own, found.token_ids))
        routed.append(_routed(found))
    counts.add([(each, text.labels) for each, text in zip(routed, texts, strict=True)])
    tables = {"rows": rows_table(texts, plan.labels)}
    if skipped:
        tables["skipped"] = pyarrow.table(
            {name: [getattr(each, name) for each in skipped] for name in ("row", "id", "reason")}
        )
    if "counts" in plan.keep:
        tables |= counts.tables()
    if "routes" in plan.keep and texts:
        rows = [text.row for text in texts]
        tables["routes"] = routes_table(rows, routed, config.moe_layers, config.n_experts)
    return {
        "part": number,
        "first_row": min(labels),
        "n_rows": len(labels),
        "texts": len(texts),
        "tokens": sum(len(text.token_ids) for text in texts),
        "routed": sum(each.n_routed for each in routed),
        "cut": 0,
        "skipped": len(skipped),
        "bytes": sum(folder.write_table(name, number, each) for name, each in tables.items()),
    }


def _routed(found: EngineRoutes) -> Routed:
    return Routed(np.array(found.token_ids, np.int64), found.experts, None)


def _fields(output: Any) -> Mapping[str, Any]:
    """The fields of an output: of a mapping, or of an object of vLLM's Python interface."""
    if isinstance(output, Mapping):
        if "choices" not in output:
            return output
        own = {name: value for name, value in output.items() if name != "choices"}
        return own | dict(_only(output["choices"]))
    if not hasattr(output, "outputs"):
        raise ValueError(f"an object of type {type(output).__name__} is no output of an engine")
    reply = _only(output.outputs)
    return {
        "prompt_token_ids": output.prompt_token_ids,
        "prompt_routed_experts": getattr(output, "prompt_routed_experts", None),
        "token_ids": reply.token_ids,
        "routed_experts": reply.routed_experts,
    }


def _only(replies: Sequence[Any]) -> Any:
    """The reply of an output that has one."""
    if len(replies) != 1:
        raise ValueError(f"it has {len(replies)} replies: give an output for each")
    return replies[0]
