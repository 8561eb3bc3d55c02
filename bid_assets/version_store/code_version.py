"""Which code makes a version: commit, uncommitted changes, and the versions of the libraries that decide about content."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bid_assets.version_store.manifest import CodeVersion

PACKAGE_NAME = "bid-assets"
LIBRARIES = (
    PACKAGE_NAME,
    "dagster",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "sentence-transformers",
    "torch",
    "xgboost",
)
COMMIT_VARIABLE = "BID_ASSETS_GIT_COMMIT"
"""For images without a `.git` folder."""

PACKAGE = Path(__file__).resolve().parent.parent


def current_code_version(asset_code_version: str | None) -> CodeVersion:
    """The code of this process, with the asset's own code version."""
    commit, dirty = _checkout()
    return CodeVersion(git_commit=commit, dirty=dirty, asset=asset_code_version)


@cache
def _checkout() -> tuple[str | None, bool | None]:
    """Commit and whether the package differs from it; None for what cannot be known, as outside of a checkout."""
    if commit := os.environ.get(COMMIT_VARIABLE):
        return commit, None

    def git(*arguments: str) -> str:
        # the code of this folder is running already, so whose folder it is (as in a container) need not stop git
        command = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != PACKAGE.parent:
            return None, None  # installed below somebody else's checkout
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", str(PACKAGE)))
    except (OSError, subprocess.CalledProcessError):
        return None, None


@cache
def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that decide about content; of our own package with a hash of its files, edits and
    all."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    if PACKAGE_NAME in versions:
        versions[PACKAGE_NAME] += f"+{source_hash(PACKAGE)[:12]}"
    return versions


def source_hash(package: Path) -> str:
    """The SHA-256 of all files of a package by their names, but for what Python compiles."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    digest = sha256()
    for file in files:
        digest.update(f"{file.relative_to(package)}\0{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def code_of(package: str) -> dict[str, str]:
    """What decides about the results of one of our packages: its source and the versions of the libraries."""
    libraries = {name: version for name, version in library_versions().items() if name != PACKAGE_NAME}
    return {**libraries, package: source_hash(PACKAGE / package)}
