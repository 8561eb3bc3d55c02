"""Folders of work: gone at the end, and after a kill gone with the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bid_assets.common.work_folder import work_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from bid_assets.common.work_folder import work_folder
with work_folder(Path(sys.argv[1]), "dataset") as folder:
    (folder / "dataset.parquet").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    [left] = tmp_path.iterdir()
    with work_folder(tmp_path, "dataset") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_the_folder_of_another_at_work_stays(tmp_path: Path) -> None:
    with work_folder(tmp_path, "dataset") as one, work_folder(tmp_path, "dataset") as other:
        assert one != other
        assert one.is_dir()


def test_only_folders_of_that_name_are_removed(tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    with work_folder(tmp_path, "dataset"):
        assert (tmp_path / "dagster").is_dir()
