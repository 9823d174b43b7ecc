"""The wheel contains the whole program and works without the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")

ROOT = Path(__file__).parents[2]
PACKAGES = ("dataflow", "connectors", "gibsey_embedder")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    """The wheel's content, as after an installation."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "site")
    return wheel.parent / "site"


@pytest.fixture(scope="module")
def uv() -> str:
    search = subprocess.run(
        ["sh", "-c", '. scripts/find-uv && command -v "$UV"'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if search.returncode:
        pytest.skip("there is no uv to create the environment")
    return str(ROOT / search.stdout.strip())


def run(installed: Path, folder: Path, *arguments: str) -> str:
    code = (
        "import gibsey_embedder, sys; from gibsey_embedder.cli import main; "
        "print(gibsey_embedder.__file__); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    assert first.startswith(str(installed)), "not the wheel's code"
    return rest


def test_the_wheel_has_every_file_of_the_packages(installed):
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert tracked
    assert [name for name in tracked if not (installed / name).is_file()] == []


def test_the_wheel_has_only_the_packages(installed):
    names = {path.name for path in installed.iterdir()}
    (info,) = (name for name in names if name.endswith(".dist-info"))
    assert names == {*PACKAGES, info}


def test_the_command_prints_the_version_of_the_project(installed, tmp_path):
    (version,) = re.findall(r'(?m)^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert version in run(installed, tmp_path, "--version")
    assert f"## v{version}" in (ROOT / "CHANGELOG.md").read_text()


def test_help_works_without_the_repository(installed, tmp_path):
    assert "run" in run(installed, tmp_path, "--help")
    assert "recovery" in run(installed, tmp_path, "run", "--help")


def test_the_wheel_works_in_a_fresh_environment(wheel, uv, tmp_path):
    fresh = tmp_path / "fresh"
    create = [uv, "venv", "--quiet", "--python", sys.executable, str(fresh)]
    subprocess.run(create, check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(fresh / "bin/python")]
    install += ["--constraint", str(ROOT / "requirements.lock"), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    command = str(fresh / "bin/gibsey-embedder")
    runs = {
        options: subprocess.run(
            [command, *options], env={}, cwd=tmp_path, capture_output=True, text=True
        )
        for options in [("--version",), ("demo", "--help"), ("doctor", "--help")]
    }
    assert [done.returncode for done in runs.values()] == [0] * len(runs), runs
    assert runs["--version",].stdout.strip() in wheel.name
