"""Servers of other programs that tests start do not outlive a test run that was killed."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

PARENT = """
import signal, subprocess, sys, time
from bid_assets_tests.children import ending_with_parent
user = int(sys.argv[1]) or None
child = subprocess.Popen(["sleep", "60"], user=user, group=user, extra_groups=[] if user else None,
                         preexec_fn=ending_with_parent(signal.SIGTERM), stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a signal for the death of a parent")
def test_a_child_ends_when_its_parent_is_killed_also_as_another_user() -> None:
    user = 65534 if os.geteuid() == 0 else 0
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(user)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.name() == "sleep"
    parent.kill()
    parent.wait(10)
    _, alive = psutil.wait_procs([child], timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
