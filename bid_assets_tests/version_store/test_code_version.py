from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.version_store import code_version
from bid_assets.version_store.code_version import (
    COMMIT_VARIABLE,
    code_of,
    current_code_version,
    library_versions,
    source_hash,
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one module, that takes the place of ours."""
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(code_version, "PACKAGE", folder)
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    code_version._checkout.cache_clear()
    yield folder
    code_version._checkout.cache_clear()


def commit(folder: Path) -> str:
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_checkout_is_named_by_its_commit(package: Path) -> None:
    head = commit(package.parent)
    version = current_code_version("3")
    assert (version.git_commit, version.dirty, version.asset) == (head, False, "3")


def test_changes_inside_of_the_package_make_it_dirty_and_others_do_not(package: Path) -> None:
    commit(package.parent)
    (package.parent / "notes.txt").write_text("not code")
    assert current_code_version(None).dirty is False
    code_version._checkout.cache_clear()
    (package / "new.py").write_text("")
    assert current_code_version(None).dirty is True


def test_outside_of_a_checkout_the_commit_is_unknown(package: Path) -> None:
    assert current_code_version(None) == code_version.CodeVersion(None, None, None)


def test_a_package_installed_below_another_checkout_is_not_named_by_that_ones_commit(package: Path, tmp_path: Path) -> None:
    commit(tmp_path)
    assert current_code_version(None).git_commit is None


def test_without_git_the_commit_is_unknown(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(package.parent)
    monkeypatch.setenv("PATH", "")
    assert current_code_version(None).git_commit is None


def test_an_image_says_its_commit_by_a_variable(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, "abc")
    assert current_code_version(None) == code_version.CodeVersion("abc", None, None)


def test_it_is_asked_once_per_process(package: Path) -> None:
    head = commit(package.parent)
    assert current_code_version(None).git_commit == head
    (package / "module.py").write_text("x = 2\n")
    assert current_code_version(None).dirty is False


def test_libraries_are_named_with_their_versions() -> None:
    import pyarrow

    assert library_versions()["pyarrow"] == pyarrow.__version__


def test_our_own_version_says_which_source_it_is_by_name_and_content(tmp_path: Path) -> None:
    hashes = []
    for name, text in (("one.py", "x = 1"), ("one.py", "x = 2"), ("two.py", "x = 2")):
        package = tmp_path / str(len(hashes))
        (package / "__pycache__").mkdir(parents=True)
        (package / name).write_text(text)
        hashes += [source_hash(package)]
        (package / "__pycache__" / "one.pyc").write_bytes(b"compiled")
        assert source_hash(package) == hashes[-1]
    assert len(set(hashes)) == 3
    assert library_versions()["bid-assets"].endswith(f"+{source_hash(code_version.PACKAGE)[:12]}")


def test_results_of_a_package_depend_on_its_source_and_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_version, "PACKAGE", tmp_path)
    for package in ("modelling", "serving"):
        (tmp_path / package).mkdir()
    code = [code_of("modelling")]
    (tmp_path / "serving" / "app.py").write_text("")
    code += [code_of("modelling")]
    (tmp_path / "modelling" / "trees.py").write_text("")
    code += [code_of("modelling")]
    assert code[0] == code[1] != code[2]
    assert code[0]["xgboost"] == library_versions()["xgboost"]
