"""The revisions that are measured: this one, and another in a checkout of its own.

Another revision is unpacked to `.bench/COMMIT` and gets its own environment there, made by its own
`scripts/setup-env`. `make clean` removes both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ".bench"
READY = ".ready"
"""This file in a checkout says that its environment is complete."""

RELEASES = {"v0.2.0": "1753530310dba7b000ac8809fb780d040e042cff"}
"""The commit of each release. It counts where a clone has no such tag."""


class RevisionError(Exception):
    """A revision cannot be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A revision of the program that can be started.

    Attributes:
        name: How the results name it.
        directory: Its files.
        python: The interpreter of its environment.
    """

    name: str
    directory: Path
    python: Path


THIS = Checkout("this", ROOT, Path(sys.executable))


def open_checkout(revision: str, repository: Path = ROOT) -> Checkout:
    """A revision's checkout, made if it is missing.

    Args:
        revision: A commit, tag, branch or release; or the path of a checkout with a `.venv`.
        repository: Where its commit is. The checkout goes to `.bench/` there.

    Raises:
        RevisionError: There is no such revision, or its environment cannot be made.
    """
    path = Path(revision).absolute()
    if _python(path).exists():
        return Checkout(revision, path, _python(path))
    commit = resolved(revision, repository)
    directory = repository / CACHE / commit
    if not (directory / READY).exists():
        _make(commit, directory, repository)
    return Checkout(f"{revision} at {commit[:7]}", directory, _python(directory))


def resolved(revision: str, repository: Path = ROOT) -> str:
    """The full hash of a revision's commit.

    Raises:
        RevisionError: The repository has no such commit.
    """
    for name in (revision, RELEASES.get(revision)):
        if name and (commit := _commit(name, repository)):
            return commit
    raise RevisionError(
        f"This repository has no revision {revision}. "
        "If it is a shallow clone, run: git fetch --unshallow --tags"
    )


def _commit(name: str, repository: Path) -> str:
    command = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    found = subprocess.run(command, cwd=repository, stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip()


def _make(commit: str, directory: Path, repository: Path) -> None:
    """Unpack a commit and make its environment."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    archive = directory.with_suffix(".tar")
    interpreter = os.path.realpath(sys.executable)  # both revisions run on the same one
    try:
        _run(["git", "archive", "--output", str(archive), commit], repository)
        _run(["tar", "-xf", str(archive)], directory)
        _run(["scripts/setup-env"], directory, PYTHON=interpreter)
    finally:
        archive.unlink(missing_ok=True)
    (directory / READY).touch()


def _run(command: list[str], directory: Path, **settings: str) -> None:
    environment = {**os.environ, **settings}
    try:
        subprocess.run(command, cwd=directory, env=environment, stdout=sys.stderr, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RevisionError(f"The checkout {directory} cannot be made: {error}") from error


def _python(directory: Path) -> Path:
    return directory / ".venv" / "bin" / "python"
