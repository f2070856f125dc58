"""Which wheels a machine needs, asked of pip for a machine that is not this one.

pip reads markers such as `sys_platform == "win32"` as those of the machine that it runs on, even
with `--platform`. So it is asked here for each package without its dependencies, and those are
chosen by the markers of the machine that the wheels are for.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qwen3lab.course.bundle.targets import Target
from qwen3lab.errors import StorageError
from qwen3lab.translation import tr

MAX_ROUNDS = 40
"""Dependencies of dependencies are this deep at most."""


@dataclass(frozen=True)
class Wheel:
    """A wheel of a package index.

    Attributes:
        name: of the package, in its canonical form.
        version: of the package.
        file: name of the wheel's file.
        sha256: of the file.
    """

    name: str
    version: str
    file: str
    sha256: str

    @property
    def line(self) -> str:
        """The wheel as a line of a requirements file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


Ask = Callable[[Target, Sequence[str]], list[dict[str, Any]]]


class Closure:
    """Collects the packages that are needed, with the dependencies of each.

    Args:
        target: the machine.
        ask: gives the reports of packages, by default those of pip.
    """

    def __init__(self, target: Target, ask: Ask) -> None:
        self.target, self.ask = target, ask
        self.wanted: dict[str, list[Requirement]] = {}
        self.extras: dict[str, set[str]] = {}
        self.reports: dict[str, dict[str, Any]] = {}

    def need(self, texts: Iterable[str], extras: Iterable[str] = ()) -> None:
        """Add the requirements that hold on the machine, of a package with these extras."""
        environments = [self.target.environment | {"extra": name} for name in ("", *extras)]
        for requirement in map(Requirement, texts):
            marker = requirement.marker
            if marker is None or any(marker.evaluate(each) for each in environments):
                self._add(requirement)

    def wheels(self) -> list[Wheel]:
        """All wheels, after pip was asked for every package that is needed.

        Raises:
            StorageError: the dependencies do not come to an end, or a version does not fit.
        """
        for _ in range(MAX_ROUNDS):
            missing = [name for name in self.wanted if name not in self.reports]
            if not missing:
                self._check()
                return sorted(map(_wheel, self.reports.values()), key=lambda wheel: wheel.name)
            for report in self._reports(missing):
                name = canonicalize_name(report["metadata"]["name"])
                self.reports[name] = report
                self.need(report["metadata"].get("requires_dist", ()), self.extras[name])
        raise StorageError(
            tr("the dependencies for {target} do not come to an end", target=self.target)
        )

    def _reports(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The reports of packages; those with an index of their own are asked for alone."""
        large = [name for name in names if self.target.index_options(name)]
        others = [name for name in names if name not in large]
        groups = [group for group in (large, others) if group]
        asked = [self.ask(self.target, [self._line(n) for n in group]) for group in groups]
        return [report for reports in asked for report in reports]

    def _add(self, requirement: Requirement) -> None:
        name = canonicalize_name(requirement.name)
        known = self.extras.setdefault(name, set())
        self.wanted.setdefault(name, []).append(requirement)
        if requirement.extras <= known:
            return
        known |= requirement.extras
        if name in self.reports:
            self.need(self.reports[name]["metadata"].get("requires_dist", ()), known)

    def _line(self, name: str) -> str:
        specifiers = {str(each.specifier) for each in self.wanted[name] if str(each.specifier)}
        return f"{name}{','.join(sorted(specifiers))}"

    def _check(self) -> None:
        """Refuse a version that a later dependency does not allow."""
        for name, requirements in self.wanted.items():
            version = self.reports[name]["metadata"]["version"]
            for each in requirements:
                if not each.specifier.contains(version, prereleases=True):
                    raise StorageError(
                        tr(
                            "{name} {version} is not allowed by another package, which needs "
                            "{requirement}: give a version with --constraint",
                            name=name,
                            version=version,
                            requirement=each,
                        )
                    )


def wheels_for(
    target: Target,
    requirements: Iterable[str],
    extras: Iterable[str] = (),
    constraints: Sequence[str] = (),
    *,
    ask: Ask | None = None,
) -> list[Wheel]:
    """The wheels of requirements and all of their dependencies.

    Args:
        target: the machine.
        requirements: as in the metadata of a package.
        extras: of that package.
        constraints: lines such as `torch==2.13.0`; they hold for packages that are needed.
        ask: in place of pip.

    Raises:
        StorageError: pip finds no wheel for the machine.
    """
    found = Closure(target, ask or (lambda of, lines: _asked(of, lines, constraints)))
    found.need(requirements, extras)
    return found.wheels()


def _asked(
    target: Target, lines: Sequence[str], constraints: Sequence[str]
) -> list[dict[str, Any]]:
    """The reports of pip about packages without their dependencies; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        report, limits = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        limits.write_text("\n".join(constraints), "utf-8")
        options = ["--dry-run", "--no-deps", "--quiet", "--target", str(Path(folder) / "unused")]
        files = ["--report", str(report), "--constraint", str(limits)]
        index = target.index_options(re.split(r"[^\w-]", lines[0])[0])
        chosen = [*target.pip_options, *index]
        run_pip(["install", *options, *files, *chosen, *lines], tr("for {machine}", machine=target))
        return json.loads(report.read_text("utf-8"))["install"]


def run_pip(arguments: Sequence[str], purpose: str, *, shown: bool = False) -> None:
    """Run pip; `shown` lets it write its progress to the terminal.

    Raises:
        StorageError: pip failed, with its last sentence.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1"]
    output = None if shown else subprocess.PIPE
    ran = subprocess.run(
        [*command, "--timeout", "30", *arguments], stderr=output, text=True, check=False
    )
    if ran.returncode:
        lines = (ran.stderr or "").strip().splitlines()
        errors = [line for line in lines if "ERROR" in line] or lines or ["see its output above"]
        raise StorageError(tr("pip failed {purpose}: {reason}", purpose=purpose, reason=errors[-1]))


def _wheel(report: dict[str, Any]) -> Wheel:
    info, metadata = report["download_info"], report["metadata"]
    return Wheel(
        canonicalize_name(metadata["name"]),
        metadata["version"],
        unquote(Path(urlsplit(info["url"]).path).name),
        info["archive_info"]["hashes"]["sha256"],
    )
