"""Which version a checkout, a wheel and a source distribution say they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from dockerfile import ROOT, context, copy_into_context

SCRIPT = Path("common", "trt_common", "version.py")
# Nothing of whoever runs the tests.
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """All that a package is built from, in one commit without a tag."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in context():
        copy_into_context(ROOT / name, folder / name)
    shutil.copy(ROOT / ".gitignore", folder)
    run(*GIT, "init", "--quiet", folder=folder)
    commit(folder)
    return folder


def test_a_checkout_says_its_commit(checkout: Path) -> None:
    assert version(checkout) == f"0.1+g{head(checkout)}"


def test_the_version_follows_the_commit_though_nothing_is_installed_again(checkout: Path) -> None:
    before = version(checkout)
    (checkout / "README.md").write_text("other\n")
    commit(checkout)
    assert version(checkout) == f"0.1+g{head(checkout)}" != before


def test_a_changed_file_shows_and_a_new_one_does_not(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("mine\n")
    assert version(checkout) == f"0.1+g{head(checkout)}"
    (checkout / "README.md").write_text("other\n")
    assert version(checkout) == f"0.1+g{head(checkout)}.dirty"


def test_a_release_is_named_by_its_tag(checkout: Path) -> None:
    run(*GIT, "tag", "v0.2.0", folder=checkout)
    run(*GIT, "tag", "other", folder=checkout)
    assert version(checkout) == f"0.2.0+g{head(checkout)}"


def test_a_shallow_clone_says_its_commit(checkout: Path, tmp_path: Path) -> None:
    commit(checkout)
    run(*GIT, "clone", "--quiet", "--depth", "1", checkout.as_uri(), "shallow", folder=tmp_path)
    assert (tmp_path / "shallow" / ".git" / "shallow").is_file()
    assert version(tmp_path / "shallow") == f"0.1+g{head(checkout)}"


def test_a_work_tree_beside_the_checkout_says_its_own_commit(checkout: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    run(*GIT, "worktree", "add", "--quiet", str(beside), folder=checkout)
    commit(beside)
    assert version(beside) == f"0.1+g{head(beside)}" != version(checkout)


def test_a_hook_of_another_repository_changes_nothing(checkout: Path, tmp_path: Path) -> None:
    run(*GIT, "init", "--quiet", "other", folder=tmp_path)
    assert version(checkout, GIT_DIR=str(tmp_path / "other" / ".git")) == f"0.1+g{head(checkout)}"


def test_without_git_the_commit_is_unknown(checkout: Path, tmp_path: Path) -> None:
    assert version(checkout, PATH=str(tmp_path)) == "0.1+unknown"


def test_a_checkout_without_a_commit_is_unknown(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    run(*GIT, "init", "--quiet", folder=checkout)
    assert version(checkout) == "0.1+unknown"


def test_a_wheel_says_what_it_was_built_from(checkout: Path, tmp_path: Path) -> None:
    assert installed_version(build_wheel(checkout, tmp_path), tmp_path) == f"0.1+g{head(checkout)}"


def test_a_source_distribution_takes_the_version_along(checkout: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", folder=checkout)
    (archive,) = (checkout / "dist").iterdir()
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert not (source / ".git").exists()
    assert installed_version(build_wheel(source, tmp_path), tmp_path) == f"0.1+g{head(checkout)}"


@pytest.mark.parametrize(
    ("told", "expected"), [(None, "0.1+unknown"), ("0.1+g0123abcde", "0.1+g0123abcde")], ids=["no", "yes"]
)
def test_sources_without_git_are_what_the_builder_says(
    checkout: Path, tmp_path: Path, told: str | None, expected: str
) -> None:
    """As in the container's build stage, which has no `.git`."""
    shutil.rmtree(checkout / ".git")
    variables = {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TRT_SERVER": told} if told else {}
    assert installed_version(build_wheel(checkout, tmp_path, **variables), tmp_path) == expected


def build_wheel(source: Path, folder: Path, **variables: str) -> Path:
    """With what the environment of the tests has: no network."""
    command = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    run(sys.executable, "-m", "pip", *command, folder=folder, **variables)
    (wheel,) = folder.glob("*.whl")
    return wheel


def installed_version(wheel: Path, folder: Path) -> str:
    """By the command, as somebody calls it who has the wheel alone."""
    target = folder / "installed"
    shutil.unpack_archive(wheel, target, "zip")
    for program, package in (("trt-server", "trt_server"), ("mmlu-client", "mmlu_client")):
        called = f"from {package}.cli import main; main(['--version'])"
        told = run(sys.executable, "-c", called, folder=folder, PYTHONPATH=str(target))
        name, version = told.split()
        assert name == program
    return version


def version(folder: Path, **variables: str) -> str:
    return run(sys.executable, str(SCRIPT), folder=folder, **variables).strip()


def head(folder: Path) -> str:
    return run("git", "rev-parse", "HEAD", folder=folder)[:9]


def commit(folder: Path) -> None:
    run(*GIT, "add", "--all", folder=folder)
    run(*GIT, "commit", "--quiet", "--allow-empty", "--message", "one", folder=folder)


def run(*command: str, folder: Path, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
