"""Start a local Ray cluster of two nodes for tests."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

NODE_RESOURCES = {
    "num_cpus": 1,
    "num_gpus": 1,
    "object_store_memory": 80 * 2**20,
    "memory": 4 * 2**30,
}
START_ATTEMPTS = 4  # Ray gives a node half a minute to start, which a busy machine needs for itself


@dataclass
class TwoNodes:
    """Control a local Ray cluster of two nodes."""

    cluster: Any

    @property
    def address(self) -> str:
        return self.cluster.address

    def workers(self) -> list[int]:
        """List the ids of the Ray worker processes that are running a task."""
        raylet_pids = [
            str(node.all_processes["raylet"][0].process.pid)
            for node in self.cluster.list_all_nodes()
        ]
        process_list = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", ",".join(raylet_pids)],
            capture_output=True,
            text=True,
        )
        process_rows = (line.split(maxsplit=1) for line in process_list.stdout.splitlines())
        busy_names = ("ray::call", "ray::_GpuActor.run")
        return [int(pid) for pid, name in process_rows if name.startswith(busy_names)]

    def kill_worker(self) -> None:
        """Kill one Ray worker process, as if memory ran out."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if workers := self.workers():
                os.kill(workers[0], signal.SIGKILL)
                return
            time.sleep(0.02)
        raise AssertionError("no task was at work")

    def kill_head(self) -> None:
        """Kill the head node of the Ray cluster."""
        for worker in self.workers():
            os.kill(worker, signal.SIGSTOP)
        self.cluster.head_node.kill_gcs_server(check_alive=False)


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Start a Ray cluster of two nodes within a ``with`` block."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        _started(lambda: cluster.add_node(**NODE_RESOURCES, include_dashboard=False))
        _started(lambda: cluster.add_node(**NODE_RESOURCES))
        yield TwoNodes(cluster)
    finally:
        cluster.shutdown()


def _started(start) -> None:
    for attempt in range(START_ATTEMPTS):
        try:
            start()
            return
        except (Exception, SystemExit) as error:  # of a late head Ray ends the process
            is_timeout = isinstance(error, SystemExit) or "timed out" in str(error).lower()
            if attempt == START_ATTEMPTS - 1 or not is_timeout:
                raise RuntimeError("no Ray cluster could be started") from error
