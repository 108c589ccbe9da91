"""Worker processes end with their parent, also where that is killed."""

import os
import signal
import subprocess
import sys
import time

SCRIPT = """
import multiprocessing, sys, time
from unclutter.training.data.workers import worker_pool

if __name__ == "__main__":
    with worker_pool(2) as pool:
        for _ in range(2):
            pool.submit(time.sleep, 60)
        pool.submit(len, "").cancel()
        time.sleep(0.5)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        time.sleep(60)
"""


def test_no_worker_outlives_a_parent_that_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(3)  # they import what they need
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    left = workers
    for _ in range(100):
        left = [pid for pid in left if runs(pid)]
        if not left:
            break
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as status:  # killed, and not yet fetched by whoever adopted it
        return status.read().rpartition(")")[2].split()[0] != "Z"
