"""Which wheels are chosen for a machine that is not this one."""

import pytest

from qwen3lab.course.bundle.closure import wheels_for
from qwen3lab.course.bundle.targets import CPU_INDEX, PLATFORMS, targets, this_platform
from qwen3lab.errors import StorageError

WINDOWS, LINUX = targets(["windows", "linux"], ["3.12"])
NEEDS = {
    "tqdm": ["colorama; sys_platform == 'win32'", "pytest; extra == 'dev'"],
    "colorama": [],
    "torch": ["nvidia-cuda; platform_system == 'Linux'", "sympy>=1"],
    "nvidia-cuda": [],
    "sympy": ["mpmath<2; python_version >= '3.11'", "old; python_version < '3.11'"],
    "mpmath": [],
    "fsspec": ["aio; extra == 'http'"],
    "aio": [],
    "circle": ["circle"],
}


def index(asked):
    """A package index of these packages, all of version 1.5, that notes what it is asked."""

    def ask(target, lines):
        asked.append(list(lines))
        return [report(line.split(">")[0].split("<")[0].split("=")[0]) for line in lines]

    return ask


def report(name):
    return {
        "metadata": {"name": name, "version": "1.5", "requires_dist": NEEDS[name]},
        "download_info": {
            "url": f"https://files.example/{name}-1.5%2Bcpu-py3-none-any.whl",
            "archive_info": {"hashes": {"sha256": "ab" * 32}},
        },
    }


def names(target, requirements, extras=(), asked=None):
    found = wheels_for(target, requirements, extras, ask=index([] if asked is None else asked))
    return [wheel.name for wheel in found]


def test_markers_are_those_of_the_machine_and_not_of_this_one():
    assert names(WINDOWS, ["tqdm"]) == ["colorama", "tqdm"]
    assert names(LINUX, ["tqdm"]) == ["tqdm"]
    assert names(LINUX, ["torch"]) == ["mpmath", "nvidia-cuda", "sympy", "torch"]
    assert names(WINDOWS, ["torch"]) == ["mpmath", "sympy", "torch"]


def test_extras_of_the_package_and_of_its_dependencies_are_followed():
    assert names(LINUX, ["mpmath; extra == 'lab'", "sympy; extra == 'other'"], ["lab"]) == [
        "mpmath"
    ]
    assert names(LINUX, ["fsspec[http]"]) == ["aio", "fsspec"]
    assert names(LINUX, ["fsspec", "fsspec[http]"]) == ["aio", "fsspec"]


def test_every_package_is_asked_for_once_with_all_that_is_said_of_its_version():
    asked = []
    assert names(LINUX, ["circle", "sympy>=1.2", "sympy<2"], asked=asked) == [
        *("circle", "mpmath", "sympy")
    ]
    assert asked == [["circle", "sympy<2,>=1.2"], ["mpmath<2"]]


def test_the_large_torch_of_linux_is_asked_for_alone_because_of_its_index():
    asked = []
    names(LINUX, ["torch", "tqdm"], asked=asked)
    assert asked[:2] == [["torch"], ["tqdm"]]
    assert CPU_INDEX in LINUX.index_options("torch")
    assert LINUX.index_options("tqdm") == [] == WINDOWS.index_options("torch")


def test_a_version_that_a_later_dependency_forbids_is_refused():
    asked = []
    with pytest.raises(StorageError, match=r"mpmath 1\.5 is not allowed.*mpmath<1"):
        wheels_for(LINUX, ["mpmath", "mpmath<1"], ask=index(asked))


def test_a_wheel_is_pinned_to_its_hash_and_its_file_is_named_as_pip_names_it():
    (wheel,) = wheels_for(LINUX, ["mpmath"], ask=index([]))
    assert wheel.line == f"mpmath==1.5 --hash=sha256:{'ab' * 32}"
    assert wheel.file == "mpmath-1.5+cpu-py3-none-any.whl"


def test_platforms_and_pythons_that_do_not_exist_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"no platform 'amiga': choose from linux"):
        targets(["amiga"])
    with pytest.raises(ValueError, match=r"Python '2\.7' is not one of 3\.10"):
        targets([], ["2.7"])
    assert len(targets(["linux", "windows", "linux"], ["3.11", "3.12"])) == 4
    assert this_platform() in PLATFORMS
