"""The revisions to measure: this one, and another one in a checkout of its own.

The other revision is unpacked to `.bench/COMMIT`, where its own `scripts/setup-env` creates its
environment. `make clean` removes both.
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
"""A checkout has this file if its environment is complete."""

RELEASES = {"v0.2.0": "1753530310dba7b000ac8809fb780d040e042cff"}
"""The commit of each release, for clones without tags."""


class RevisionError(Exception):
    """A revision cannot be measured; `str()` is the reason."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A revision of the program, ready to start.

    Attributes:
        name: The name in the results.
        directory: The directory of its files.
        python: The interpreter of its environment.
    """

    name: str
    directory: Path
    python: Path


THIS = Checkout("this", ROOT, Path(sys.executable))


def open_checkout(revision: str, repository: Path = ROOT) -> Checkout:
    """Return the checkout of a revision, and create it if necessary.

    Args:
        revision: A commit, tag, branch or release; or the path of a checkout with a `.venv`.
        repository: The repository with the commit; the checkout is in its `.bench/`.

    Raises:
        RevisionError: The revision does not exist, or its environment cannot be created.
    """
    path = Path(revision).absolute()
    if _python(path).exists():
        return Checkout(revision, path, _python(path))
    commit = resolved(revision, repository)
    directory = repository / CACHE / commit
    if not (directory / READY).exists():
        _create(commit, directory, repository)
    return Checkout(f"{revision} at {commit[:7]}", directory, _python(directory))


def resolved(revision: str, repository: Path = ROOT) -> str:
    """Return the full hash of a revision's commit.

    Raises:
        RevisionError: The repository does not have the commit.
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
    result = subprocess.run(command, cwd=repository, stdout=subprocess.PIPE, text=True, check=False)
    return result.stdout.strip()


def _create(commit: str, directory: Path, repository: Path) -> None:
    """Unpack a commit and create its environment."""
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
        raise RevisionError(f"The checkout {directory} cannot be created: {error}") from error


def _python(directory: Path) -> Path:
    return directory / ".venv" / "bin" / "python"
