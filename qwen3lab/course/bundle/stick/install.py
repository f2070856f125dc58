"""Installs qwen3lab from this folder, without a network. Needs Python and nothing else.

    python install.py [FOLDER]      into FOLDER; qwen3lab-course in the home folder if left out
    python install.py --check       only compare the files of this folder with their list

A second call goes on where the first one was interrupted. Notebooks that are there already stay as
they are.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEST = (
    "import qwen3lab; lab = qwen3lab.load('tiny-moe'); rec = lab.record('3+4=?'); "
    "print('test:', len(rec.tokens), 'tokens recorded by', lab.name)"
)


class Refused(Exception):
    """Why nothing was installed."""


def main(arguments):
    """Install, and say how to start; the exit code is 1 if it cannot be done."""
    try:
        bundle = read_list(HERE)
        if "--check" in arguments:
            check(HERE, sorted(bundle["files"]), bundle)
            return 0
        wheels = wheels_of(bundle, platform.system(), platform.machine(), sys.version_info[:2])
        target = Path(arguments[0]) if arguments else Path.home() / "qwen3lab-course"
        install(bundle, wheels, target.expanduser().absolute())
    except Refused as reason:
        print(f"Not installed: {reason}")
        return 1
    return 0


def read_list(folder):
    """The list of the files of this folder."""
    try:
        return json.loads((folder / "bundle.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(
            f"bundle.json cannot be read ({error}): copy the whole folder again"
        ) from None


def wheels_of(bundle, system, machine, version):
    """The wheels for a machine."""
    python = ".".join(map(str, version))
    fitting = [m for m in bundle["machines"] if m["system"] == system]
    fitting = [m for m in fitting if m["machine"].lower() == machine.lower()]
    for each in fitting:
        if each["python"] == python:
            return each["wheels"]
    there = ", ".join(f"{m['platform']} with Python {m['python']}" for m in bundle["machines"])
    raise Refused(
        f"this is {system} on {machine} with Python {python}, and the folder is for: {there}. "
        + ("Install that Python, and run this again." if fitting else "Ask your teacher.")
    )


def check(folder, names, bundle):
    """Compare files with their list: a stick that was pulled out early has damaged ones."""
    for count, name in enumerate(names, 1):
        if sys.stdout.isatty() or count == len(names):
            print(f"\rchecking the files: {count} of {len(names)}", end="", flush=True)
        path, entry = folder / name, bundle["files"].get(name)
        if entry is None or not path.is_file() or digest(path) != entry["sha256"]:
            print()
            raise Refused(f"{name} is missing or damaged: copy the folder again")
    print(", all as listed")


def digest(path):
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def install(bundle, wheels, target):
    """An environment with the package, the notebooks, and a script that starts JupyterLab."""
    check(HERE, [f"wheels/{name}" for name in wheels], bundle)
    environment = target / "environment"
    python = python_of(environment)
    print(f"installing into {target} (some minutes) ...", flush=True)
    if not python.exists():
        run([sys.executable, "-m", "venv", str(environment)])
    own = HERE / "wheels" / wheels[0]
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-index"]
    # Nothing of the user's settings of pip, such as another index, is to have a say.
    links = ["--find-links", str(HERE / "wheels"), "--progress-bar", "off"]
    package = f"qwen3lab[{','.join(bundle['extras'])}] @ {own.as_uri()}"
    run([*pip, "--quiet", *links, package], {"PIP_CONFIG_FILE": os.devnull})
    copy_notebooks(HERE / "notebooks", target / "notebooks")
    script = write_start(target)
    run([str(python), "-c", TEST], {"HF_HUB_OFFLINE": "1"})
    print(f"Installed. Start with:  {script}")


def python_of(environment, windows=os.name == "nt"):
    """The interpreter of an environment."""
    return environment / ("Scripts/python.exe" if windows else "bin/python")


def run(command, variables=None):
    """Run a command, and stop if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    kept.pop("PYTHONPATH", None)
    ran = subprocess.run(command, env={**kept, **(variables or {})})
    if ran.returncode:
        raise Refused(f"a step failed (see above): {' '.join(command[:4])} ...")


def copy_notebooks(source, target):
    """Copy what is not there yet, so that a student's own work stays."""
    for path in sorted(source.rglob("*")):
        copied = target / path.relative_to(source)
        if path.is_file() and not copied.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)


def write_start(target, windows=os.name == "nt"):
    """The script that opens JupyterLab on the notebooks."""
    if windows:
        script = target / "start.bat"
        lines = ["@echo off", '"%~dp0environment\\Scripts\\qwen3lab.exe" lab "%~dp0notebooks"']
        script.write_bytes(("\r\n".join(lines) + "\r\n").encode())
        return script
    script = target / "start.sh"
    here = 'cd "$(dirname "$0")"'
    script.write_text(f"#!/bin/sh\n{here}\nexec environment/bin/qwen3lab lab notebooks\n")
    script.chmod(0o755)
    return script


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
