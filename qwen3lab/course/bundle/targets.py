"""The machines that a bundle is for: a platform and a version of Python each."""

import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.translation import tr

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""Versions of Python that the package runs on."""

NEWEST_GLIBC = 28
"""Wheels for glibc 2.28 run on Ubuntu 20.04, Debian 11 and later."""

LARGE = "torch"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Has the builds of torch without CUDA, whose libraries take gigabytes on Linux."""


@dataclass(frozen=True)
class Platform:
    """An operating system with a kind of processor.

    Attributes:
        name: as people type it.
        tags: platform tags of the wheels that it installs.
        os_name: value of this marker, as of those below.
        sys_platform: value of this marker.
        system: value of the marker `platform_system`.
        machine: value of the marker `platform_machine`.
        megabytes: size of the wheels, measured in November 2026 with Python 3.11 and torch 2.13.
    """

    name: str
    tags: tuple[str, ...]
    os_name: str
    sys_platform: str
    system: str
    machine: str
    megabytes: int


def _linux(machine: str) -> tuple[str, ...]:
    newest_first = range(NEWEST_GLIBC, 4, -1)
    old = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
    return (
        *(f"manylinux_2_{minor}_{machine}" for minor in newest_first),
        *(f"{name}_{machine}" for name in old),
    )


PLATFORMS = {
    each.name: each
    for each in (
        Platform("linux", _linux("x86_64"), "posix", "linux", "Linux", "x86_64", 480),
        Platform("linux-arm", _linux("aarch64"), "posix", "linux", "Linux", "aarch64", 460),
        Platform("macos", ("macosx_14_0_arm64",), "posix", "darwin", "Darwin", "arm64", 350),
        Platform("windows", ("win_amd64",), "nt", "win32", "Windows", "AMD64", 380),
    )
}


@dataclass(frozen=True)
class Target:
    """A platform with a version of Python, such as "3.12"."""

    platform: Platform
    python: str

    def __str__(self) -> str:
        return f"{self.platform.name} with Python {self.python}"

    @property
    def environment(self) -> dict[str, str]:
        """The markers of dependencies on this machine (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": self.platform.os_name,
            "platform_machine": self.platform.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": self.platform.system,
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": self.platform.sys_platform,
        }

    @property
    def pip_options(self) -> list[str]:
        """Options of pip that choose wheels for this machine."""
        tags = [part for tag in self.platform.tags for part in ("--platform", tag)]
        return ["--only-binary=:all:", *tags, "--python-version", self.python]

    def index_options(self, package: str) -> list[str]:
        """Options of pip that name a further index for a package: that of the small torch."""
        is_large = package == LARGE and self.platform.system == "Linux"
        return ["--extra-index-url", CPU_INDEX] if is_large else []


def targets(platforms: Sequence[str] = (), pythons: Sequence[str] = ()) -> list[Target]:
    """The machines by their names; of this machine where nothing is named.

    Raises:
        ValueError: a platform or a version of Python is not one of those that there are.
    """
    named = list(dict.fromkeys(platforms)) or [this_platform()]
    versions = list(dict.fromkeys(pythons)) or [this_python()]
    for name in named:
        if name not in PLATFORMS:
            raise ValueError(
                tr(
                    "there is no platform {name!r}: choose from {choices}",
                    name=name,
                    choices=", ".join(PLATFORMS),
                )
            )
    for version in versions:
        if not re.fullmatch(r"3\.\d+", version) or version not in PYTHONS:
            raise ValueError(
                tr(
                    "Python {version!r} is not one of {choices}",
                    version=version,
                    choices=", ".join(PYTHONS),
                )
            )
    return [Target(PLATFORMS[name], version) for name in named for version in versions]


def this_python() -> str:
    """The version of Python that runs."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def this_platform() -> str:
    """The name of this machine's platform.

    Raises:
        ValueError: there are no wheels for it.
    """
    system, machine = platform.system(), platform.machine()
    for each in PLATFORMS.values():
        if each.system == system and each.machine.lower() == machine.lower():
            return each.name
    raise ValueError(
        tr(
            "this machine ({system}, {machine}) is none of {choices}: name the platforms of "
            "the class with --platform",
            system=system,
            machine=machine,
            choices=", ".join(PLATFORMS),
        )
    )
