"""Connect to a Ray cluster, check that its head answers, run tasks on its CPUs, and keep models on
its GPUs.

Models live in actors that hold a GPU each, since Ray ends the process of a task that had one; all
other work is tasks. An item whose worker dies is given out again as in :mod:`.pool`.
"""

import logging
import os
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from egox_core.errors import EgoXInputError, needs_package

from .pool import MAX_RETRIES, call

PRIVATE_RAY = "local"  # Ray's own word for a cluster that begins and ends with the process
TASK_BYTES = 2 * 2**30
"""Memory that a Ray task asks for: a take's is below, whatever the size of its videos."""
GPU_DEVICE = "EGOX_GPU_DEVICE"
"""Environment variable: torch's name for the GPU that Ray gave to a process, ``cuda`` by default.
Tests set it to cpu on nodes that only say they have one."""
LOOK_S, LOST_S = 5.0, 30.0
"""Between two looks at the head of a Ray cluster, and the longest that it may be away."""
GCS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@contextmanager
def ray_cluster(address: str = "", workers: int = 1) -> Generator[str]:
    """Connect to a Ray cluster if this process has no connection yet, and yield a description of
    the cluster.

    Args:
        address: Ray's name for a cluster; ``local`` starts a private one here, which ends with the
            block. Default: the environment's RAY_ADDRESS, else the cluster that runs on this
            machine.
        workers: CPUs of a private one.

    Raises:
        EgoXInputError: Ray is not installed, there is no such cluster.
    """
    with needs_package(
        "ray", "engine ray", expected="the ray extra", instead=", or use --engine local"
    ):
        import ray
    if ray.is_initialized():
        yield "the Ray cluster that this process is connected to"
        return
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    private = {"num_cpus": workers, "include_dashboard": False} if address == PRIVATE_RAY else {}
    # Ray's own answer to a lost head is to abort this process; :func:`run_on_ray` sees it first.
    os.environ.setdefault(GCS_PATIENCE, "600")
    try:
        _reach(address)
        context = ray.init(address=address, log_to_driver=False, configure_logging=False, **private)
    except (OSError, RuntimeError, ValueError) as error:
        raise EgoXInputError(
            "Ray cluster",
            got=f"none at {address!r} ({error})",
            expected="a cluster that runs",
            fix="start one (`ray start --head`) and name it by --ray-address or RAY_ADDRESS; or give "
            "--ray-address local, for a private one on this machine",
        ) from error
    cluster_error = None
    try:
        # The context of Ray's client has no such field.
        where = getattr(context, "address_info", {}).get("address", address)
        has = ray.cluster_resources()
        yield (
            f"{'a private Ray on this machine' if private else f'the Ray cluster at {where}'}: "
            f"{has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs"
        )
    except LostClusterError as error:
        cluster_error = error
        raise
    finally:
        if cluster_error is None:  # else it would wait for the head
            ray.shutdown()


class LostClusterError(EgoXInputError):
    """The head node of a Ray cluster no longer answers. Ray's threads keep running, so the process
    must end by ``os._exit``."""


def _reach(address: str) -> None:
    """Check that a host and port accept connections, and raise OSError if not, since Ray itself
    would retry for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@dataclass(slots=True)
class _Head:
    """Monitor of the head node of the connected Ray cluster."""

    address: str
    seen_s: float
    looked_s: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)  # what it had when it was seen

    def check(self) -> None:
        """Check every few seconds that the cluster's head node accepts connections, and update its
        resources. Ray itself is asked only after that, because a call to a lost head never returns.

        Raises:
            LostClusterError: it has been away too long.
        """
        import ray

        now = time.monotonic()
        if now - self.looked_s < LOOK_S:
            return
        self.looked_s = now
        try:
            _reach(self.address)
            self.seen_s, self.resources = now, ray.cluster_resources()
        except OSError as error:
            if now - self.seen_s > LOST_S:
                raise LostClusterError(
                    "Ray cluster",
                    got=f"no answer from its head at {self.address} for {now - self.seen_s:.0f} s",
                    expected="a cluster that runs",
                    fix="start the cluster, then run the same command: finished parts are kept",
                ) from error


def cluster_cpus() -> int:
    """Count the CPUs of a Ray cluster, each of which runs one task at a time."""
    with ray_cluster():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))


def has_gpu(engine: str) -> bool:
    """Check for a GPU on this machine, or with ``engine`` "ray" anywhere in the Ray cluster."""
    if engine != "ray":
        return torch.cuda.is_available()
    with ray_cluster():
        import ray

        return ray.cluster_resources().get("GPU", 0) > 0


class _Tasks:
    """Scheduler that runs each item as a Ray task on a CPU."""

    def __init__(self, function: Callable[..., Any], devices: Sequence[str], memory: int) -> None:
        import ray

        self.given, self.starting = (function, devices), {}
        self.remote = ray.remote(num_cpus=1, memory=memory, max_retries=0)(call)

    def room(self, has: Mapping[str, float]) -> int:
        """Compute how many tasks may be submitted, which is more than the CPUs, so that none is
        idle and the cluster may grow."""
        return max(8, 4 * int(has.get("CPU", 1)))

    def give(self, item: Any) -> Any:
        function, devices = self.given
        return self.remote.remote(function, item, *devices)

    def ended(self, reference: Any, alive: bool) -> None:
        """Do nothing when a task has ended, since Ray itself starts the process of the next one."""


@dataclass(slots=True)
class _GpuHosts:
    """Scheduler that runs items in Ray actors, each of which holds a GPU and the loaded models. Ray
    ends an actor when its last reference is dropped.

    A process gets its first item once it runs, so that no item waits for a GPU that others hold.
    """

    function: Callable[..., Any]
    memory: int
    items: int
    free: deque[Any] = field(default_factory=deque)
    starting: dict[Any, Any] = field(default_factory=dict)  # by the reference of a first answer
    busy: dict[Any, Any] = field(default_factory=dict)  # by the item's reference
    never: int = 0  # processes in a row that did not come to run

    def room(self, has: Mapping[str, float]) -> int:
        """Start actors for GPUs that have none yet, and count the items that may run at once."""
        host_limit = min(max(1, int(has.get("GPU", 0))), self.items)
        while len(self.free) + len(self.starting) + len(self.busy) < host_limit:
            host = _host_class(num_cpus=1, memory=self.memory).remote()
            self.starting[host.run.remote(call, str)] = host
        return len(self.busy) + len(self.free)

    def give(self, item: Any) -> Any:
        host = self.free.popleft()
        reference = host.run.remote(call, self.function, item)
        self.busy[reference] = host
        return reference

    def started(self, reference: Any) -> None:
        """Add an actor that has finished starting to the free ones.

        Raises:
            EgoXInputError: none comes to run.
        """
        import ray

        host = self.starting.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            self.never += 1
            if self.never > MAX_RETRIES:
                raise EgoXInputError(
                    "Ray cluster",
                    got=f"a process for a GPU that does not start ({str(error).splitlines()[-1]})",
                    expected="nodes with this program and its packages",
                    fix="see the node's log (`ray logs`)",
                ) from error
            return
        self.never = 0
        self.free.append(host)

    def ended(self, reference: Any, alive: bool) -> None:
        """Return an actor to the free ones after an item, or drop it if it died (:meth:`room`
        starts another)."""
        host = self.busy.pop(reference)
        if alive:
            self.free.append(host)


def _check_room(memory: int, kind: str) -> None:
    """Refuse a memory requirement that no node of the cluster meets, since Ray would wait forever
    without a message.

    Raises:
        EgoXInputError: no node with a ``kind`` (CPU, GPU) has that much memory.
    """
    import ray

    has = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    sizes = [resources.get("memory", 0) for resources in has if resources.get(kind, 0) >= 1]
    if not sizes:
        logger.warning("the Ray cluster has no %s so far: waiting for a node with one", kind)
    elif max(sizes) < memory:
        raise EgoXInputError(
            "Ray cluster",
            got=f"{max(sizes) / 2**30:.1f} GB of memory on its largest node with a {kind}",
            expected=f"{memory / 2**30:.1f} GB: the models, and {TASK_BYTES / 2**30:g} GB for a clip",
            fix="start its nodes with more (`ray start --memory BYTES`)",
        )


def run_on_ray(function, items, workers, devices, model_bytes=0) -> Iterator[tuple[int, Any, str]]:
    with ray_cluster(workers=workers):
        import ray

        memory, on_gpus = TASK_BYTES + model_bytes, "cuda" in devices
        _check_room(memory, "GPU" if on_gpus else "CPU")
        places = (
            _GpuHosts(function, memory, len(items))
            if on_gpus
            else _Tasks(function, devices, memory)
        )
        head = _Head(address=ray.get_runtime_context().gcs_address, seen_s=time.monotonic())
        todo, deaths, waiting = deque(range(len(items))), Counter(), {}
        while todo or waiting:
            head.check()
            room = places.room(head.resources)
            while todo and len(waiting) < room:
                index = todo.popleft()
                waiting[places.give(items[index])] = index
            wait_for = [*waiting, *places.starting]
            for reference in ray.wait(wait_for, num_returns=1, timeout=LOOK_S)[0]:
                if isinstance(places, _GpuHosts) and reference in places.starting:
                    places.started(reference)
                    continue
                index, alive = waiting.pop(reference), True
                try:
                    result, error = ray.get(reference)
                    alive = "CUDA error" not in error  # after one, all that follow fail
                except ray.exceptions.RayTaskError as failure:  # it could not be brought there
                    reason = str(failure).splitlines()[-1]
                    result, error = None, f"{type(failure).__name__}: {reason}"
                except ray.exceptions.RayError as failure:
                    alive = False
                    deaths[index] += 1
                    if deaths[index] <= MAX_RETRIES:
                        logger.warning(
                            "the worker process of item %d of %d died (%s): "
                            "it is tried again after the others",
                            index + 1,
                            len(items),
                            type(failure).__name__,
                        )
                        todo.append(index)
                        continue
                    result, error = None, f"its worker process died ({type(failure).__name__})"
                finally:
                    places.ended(reference, alive)
                yield index, result, error


class _ModelHost:
    """Ray actor that holds a GPU and runs functions with models there."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments, os.environ.get(GPU_DEVICE, "cuda"))


def _host_class(**needs: int) -> Any:
    import ray

    return ray.remote(num_gpus=1, **needs)(_ModelHost)


@dataclass(frozen=True, slots=True)
class RemoteModels:
    """Stand-in for a device name: functions run in actors on the GPUs of a Ray cluster."""

    hosts: tuple[Any, ...]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run ``function(*arguments, device)`` in the actor of one of the GPUs, and wait for its
        result."""
        import ray

        try:
            return ray.get(random.choice(self.hosts).run.remote(function, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def on_device(
    device: str | RemoteModels | None, function: Callable[..., Result], *arguments: Any
) -> Result:
    """Run ``function(*arguments, device)`` in this process, or on the Ray cluster if ``device`` is
    RemoteModels."""
    return (
        device.run(function, *arguments)
        if isinstance(device, RemoteModels)
        else function(*arguments, device)
    )


@contextmanager
def remote_models(engine: str, devices: Sequence[str]) -> Generator[RemoteModels | None]:
    """Start one actor for each GPU of the Ray cluster if ``devices`` include CUDA, and end the
    actors after the ``with`` block."""
    with ray_cluster() if engine == "ray" and "cuda" in devices else nullcontext("") as where:
        if not where:
            yield None
            return
        import ray

        host = _host_class(num_cpus=0, max_restarts=-1, max_task_retries=MAX_RETRIES)
        models = RemoteModels(
            tuple(host.remote() for _ in range(int(ray.cluster_resources().get("GPU", 1))))
        )
        yield models
        for host in models.hosts:
            ray.kill(host)
