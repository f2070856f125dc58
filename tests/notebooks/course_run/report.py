"""The report of a run: one file in JSON, and one page with all screenshots."""

import html
import json
from pathlib import Path
from typing import Any

REPORT, SHEET = "report.json", "index.html"
STYLE = """body { font: 14px sans-serif; margin: 16px }
img { max-width: 100%; border: 1px solid #999 }
figure { margin: 0 0 24px } .bad { color: #b00020 } figcaption { font-family: monospace }"""


def reports(folder: Path) -> list[dict[str, Any]]:
    """Those of all notebooks that are finished, in order."""
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob(f"*/*/{REPORT}"))]


def n_findings(report: dict[str, Any]) -> int:
    """Number of findings on one notebook."""
    return len(report["page"]) + sum(len(each["findings"]) for each in report["seen"])


def summary(report: dict[str, Any]) -> str:
    """One line on one notebook."""
    size = f"{report['width']}x{report['height']}"
    return (
        f"{report['language']} {size} {report['theme']} {report['notebook']}: "
        f"{report['seconds']} s, {len(report['seen'])} looked at, {n_findings(report)} findings"
    )


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write the report of one notebook; whoever finds it knows that the notebook is finished."""
    text = json.dumps(report, indent=1, ensure_ascii=False)
    part = folder / f"{REPORT}.part"
    part.write_text(text + "\n", "utf-8")
    part.replace(folder / REPORT)


def write_sheet(folder: Path) -> Path:
    """Write the report of all notebooks, and the page with their screenshots."""
    found = reports(folder)
    (folder / REPORT).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    parts = [f"<!doctype html><meta charset=utf-8><title>Course run</title><style>{STYLE}</style>"]
    for report in found:
        parts.append(f"<h1>{html.escape(summary(report))}</h1>{_list(report['page'])}")
        inside = f"{setting_name(report)}/{report['notebook']}"
        parts += [_figure(each, inside) for each in report["seen"]]
    (folder / SHEET).write_text("\n".join(parts), "utf-8")
    return folder / SHEET


def setting_name(report: dict[str, Any]) -> str:
    """Folder of the runs with the report's setting."""
    return f"{report['language']}-{report['width']}x{report['height']}-{report['theme']}"


def _figure(seen: dict[str, Any], inside: str) -> str:
    caption = f"cell {seen['cell']}, {seen['what']}: {seen['source']} ({seen['seconds']} s)"
    pictures = [f'<img loading=lazy src="{inside}/{name}">' for name in seen["pictures"]]
    text = f"<figcaption>{html.escape(caption)}</figcaption>{_list(seen['findings'])}"
    return f"<figure>{text}{''.join(pictures)}</figure>"


def _list(texts: list[str]) -> str:
    if not texts:
        return ""
    return f"<ul class=bad>{''.join(f'<li>{html.escape(each)}</li>' for each in texts)}</ul>"
