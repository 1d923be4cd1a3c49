"""Run tasks on the CPUs and models on the GPUs of a Ray cluster.

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

from egox_core.errors import EgoXInputError, needs_package

from .pool import MAX_RETRIES, call_safely

LOCAL_RAY_ADDRESS = "local"  # Ray's own word for a cluster that begins and ends with the process
TASK_BYTES = 2 * 2**30
"""Memory that a Ray task asks for: a take's is below, whatever the size of its videos."""
GPU_DEVICE_VARIABLE = "EGOX_GPU_DEVICE"
"""Environment variable: torch's name for the GPU that Ray gave to a process, ``cuda`` by default.
Tests set it to cpu on nodes that only say they have one."""
CHECK_INTERVAL_S, LOST_TIMEOUT_S = 5.0, 30.0
"""Between two looks at the head of a Ray cluster, and the longest that it may be away."""
GCS_TIMEOUT_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@contextmanager
def ray_cluster(address: str = "", workers: int = 1) -> Generator[str]:
    """Connect to a Ray cluster, and yield a description of it.

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
    private_options = (
        {"num_cpus": workers, "include_dashboard": False} if address == LOCAL_RAY_ADDRESS else {}
    )
    # Ray's own answer to a lost head is to abort this process; :func:`run_on_ray` sees it first.
    os.environ.setdefault(GCS_TIMEOUT_VARIABLE, "600")
    try:
        _check_connection(address)
        context = ray.init(
            address=address, log_to_driver=False, configure_logging=False, **private_options
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise EgoXInputError(
            "Ray cluster",
            got=f"none at {address!r} ({error})",
            expected="a cluster that runs",
            fix=(
                "start one (`ray start --head`) and name it by --ray-address or RAY_ADDRESS; or "
                "give --ray-address local, for a private one on this machine"
            ),
        ) from error
    cluster_error = None
    try:
        # The context of Ray's client has no such field.
        cluster_address = getattr(context, "address_info", {}).get("address", address)
        resources = ray.cluster_resources()
        cluster_name = f"the Ray cluster at {cluster_address}"
        yield (
            f"{'a private Ray on this machine' if private_options else cluster_name}: "
            f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"
        )
    except LostClusterError as error:
        cluster_error = error
        raise
    finally:
        if cluster_error is None:  # else it would wait for the head
            ray.shutdown()


class LostClusterError(EgoXInputError):
    """Error raised when the head node of a Ray cluster no longer answers.

    Ray's threads keep running, so the process must end by ``os._exit``."""


def _check_connection(address: str) -> None:
    """Check that a host and port accept connections, or raise OSError."""
    host_name, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host_name.strip("[]"), int(port)), timeout=10).close()


@dataclass(slots=True)
class _HeadMonitor:
    """Monitor that checks whether the head node of a Ray cluster still answers."""

    address: str
    last_answer_s: float
    last_check_s: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)  # what it had when it was seen

    def check(self) -> None:
        """Check every few seconds that the cluster's head node accepts connections.

        Ray itself is asked only after that, because a call to a lost head never returns.

        Raises:
            LostClusterError: it has been away too long.
        """
        import ray

        now_s = time.monotonic()
        if now_s - self.last_check_s < CHECK_INTERVAL_S:
            return
        self.last_check_s = now_s
        try:
            _check_connection(self.address)
            self.last_answer_s, self.resources = now_s, ray.cluster_resources()
        except OSError as error:
            if now_s - self.last_answer_s > LOST_TIMEOUT_S:
                raise LostClusterError(
                    "Ray cluster",
                    got=(
                        f"no answer from its head at {self.address} for "
                        f"{now_s - self.last_answer_s:.0f} s"
                    ),
                    expected="a cluster that runs",
                    fix="start the cluster, then run the same command: finished parts are kept",
                ) from error


def cluster_cpus() -> int:
    """Count the CPUs of a Ray cluster."""
    with ray_cluster():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))


def has_gpu(engine: str) -> bool:
    """Check whether this machine or any machine of the Ray cluster has a GPU."""
    if engine != "ray":
        import torch

        return torch.cuda.is_available()
    with ray_cluster():
        import ray

        return ray.cluster_resources().get("GPU", 0) > 0


class _CpuScheduler:
    """Scheduler that runs each item as a Ray task on a CPU."""

    def __init__(self, function: Callable[..., Any], devices: Sequence[str], memory: int) -> None:
        import ray

        self.function_and_devices, self.starting_actors = (function, devices), {}
        self.remote_function = ray.remote(num_cpus=1, memory=memory, max_retries=0)(call_safely)

    def task_limit(self, resources: Mapping[str, float]) -> int:
        """Compute how many more tasks may be submitted.

        These are more than the CPUs, so that none is idle and the cluster may grow."""
        return max(8, 4 * int(resources.get("CPU", 1)))

    def submit(self, item: Any) -> Any:
        function, devices = self.function_and_devices
        return self.remote_function.remote(function, item, *devices)

    def task_ended(self, task: Any, alive: bool) -> None:
        """Do nothing, because Ray itself starts the next task."""


@dataclass(slots=True)
class _GpuScheduler:
    """Scheduler that runs items in Ray actors, each with a GPU and the loaded models.

    A process gets its first item once it runs, so that no item waits for a GPU that others hold.
    """

    function: Callable[..., Any]
    memory: int
    items: int
    free_actors: deque[Any] = field(default_factory=deque)
    starting_actors: dict[Any, Any] = field(
        default_factory=dict
    )  # by the reference of a first answer
    busy_actors: dict[Any, Any] = field(default_factory=dict)  # by the item's reference
    failed_starts: int = 0  # processes in a row that did not come to run

    def task_limit(self, resources: Mapping[str, float]) -> int:
        """Start actors on unused GPUs, and count the items that may run at once."""
        actor_limit = min(max(1, int(resources.get("GPU", 0))), self.items)
        while (
            len(self.free_actors) + len(self.starting_actors) + len(self.busy_actors) < actor_limit
        ):
            actor = _actor_class(num_cpus=1, memory=self.memory).remote()
            self.starting_actors[actor.run.remote(call_safely, str)] = actor
        return len(self.busy_actors) + len(self.free_actors)

    def submit(self, item: Any) -> Any:
        actor = self.free_actors.popleft()
        task = actor.run.remote(call_safely, self.function, item)
        self.busy_actors[task] = actor
        return task

    def actor_started(self, task: Any) -> None:
        """Add a started actor to the free ones.

        Raises:
            EgoXInputError: none comes to run.
        """
        import ray

        started_actor = self.starting_actors.pop(task)
        try:
            ray.get(task)
        except ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > MAX_RETRIES:
                raise EgoXInputError(
                    "Ray cluster",
                    got=f"a process for a GPU that does not start ({str(error).splitlines()[-1]})",
                    expected="nodes with this program and its packages",
                    fix="see the node's log (`ray logs`)",
                ) from error
            return
        self.failed_starts = 0
        self.free_actors.append(started_actor)

    def task_ended(self, task: Any, alive: bool) -> None:
        """Return an actor to the free ones after an item, or drop it if it died."""
        actor = self.busy_actors.pop(task)
        if alive:
            self.free_actors.append(actor)


def _check_memory(memory: int, resource_name: str) -> None:
    """Refuse a memory requirement that no node of the cluster has.

    Raises:
        EgoXInputError: no node with a ``resource_name`` (CPU, GPU) has that much memory.
    """
    import ray

    node_resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    memory_sizes = [
        resources.get("memory", 0)
        for resources in node_resources
        if resources.get(resource_name, 0) >= 1
    ]
    if not memory_sizes:
        logger.warning(
            "the Ray cluster has no %s so far: waiting for a node with one", resource_name
        )
    elif max(memory_sizes) < memory:
        raise EgoXInputError(
            "Ray cluster",
            got=(
                f"{max(memory_sizes) / 2**30:.1f} GB of memory on its largest node with a "
                f"{resource_name}"
            ),
            expected=(
                f"{memory / 2**30:.1f} GB: the models, and {TASK_BYTES / 2**30:g} GB for a clip"
            ),
            fix="start its nodes with more (`ray start --memory BYTES`)",
        )


def run_on_ray(function, items, workers, devices, model_bytes=0) -> Iterator[tuple[int, Any, str]]:
    with ray_cluster(workers=workers):
        import ray

        task_bytes, needs_gpus = TASK_BYTES + model_bytes, "cuda" in devices
        _check_memory(task_bytes, "GPU" if needs_gpus else "CPU")
        scheduler = (
            _GpuScheduler(function, task_bytes, len(items))
            if needs_gpus
            else _CpuScheduler(function, devices, task_bytes)
        )
        head_monitor = _HeadMonitor(
            address=ray.get_runtime_context().gcs_address, last_answer_s=time.monotonic()
        )
        pending_indices, death_counts, running_tasks = deque(range(len(items))), Counter(), {}
        while pending_indices or running_tasks:
            head_monitor.check()
            most_tasks = scheduler.task_limit(head_monitor.resources)
            while pending_indices and len(running_tasks) < most_tasks:
                index = pending_indices.popleft()
                running_tasks[scheduler.submit(items[index])] = index
            open_references = [*running_tasks, *scheduler.starting_actors]
            for finished_task in ray.wait(open_references, num_returns=1, timeout=CHECK_INTERVAL_S)[
                0
            ]:
                if (
                    isinstance(scheduler, _GpuScheduler)
                    and finished_task in scheduler.starting_actors
                ):
                    scheduler.actor_started(finished_task)
                    continue
                index, is_alive = running_tasks.pop(finished_task), True
                try:
                    result, error = ray.get(finished_task)
                    is_alive = "CUDA error" not in error  # after one, all that follow fail
                except ray.exceptions.RayTaskError as failure:  # it could not be brought there
                    failure_reason = str(failure).splitlines()[-1]
                    result, error = None, f"{type(failure).__name__}: {failure_reason}"
                except ray.exceptions.RayError as failure:
                    is_alive = False
                    death_counts[index] += 1
                    if death_counts[index] <= MAX_RETRIES:
                        logger.warning(
                            "the worker process of item %d of %d died (%s): "
                            "it is tried again after the others",
                            index + 1,
                            len(items),
                            type(failure).__name__,
                        )
                        pending_indices.append(index)
                        continue
                    result, error = None, f"its worker process died ({type(failure).__name__})"
                finally:
                    scheduler.task_ended(finished_task, is_alive)
                yield index, result, error


class _GpuActor:
    """Ray actor that holds a GPU and runs functions with models there."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments, os.environ.get(GPU_DEVICE_VARIABLE, "cuda"))


def _actor_class(**resources: int) -> Any:
    import ray

    return ray.remote(num_gpus=1, **resources)(_GpuActor)


@dataclass(frozen=True, slots=True)
class RemoteModels:
    """Device that stands for the GPUs of a Ray cluster, on which functions run remotely."""

    gpu_actors: tuple[Any, ...]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run ``function(*arguments, device)`` on one of the GPUs, and wait for its result."""
        import ray

        try:
            return ray.get(random.choice(self.gpu_actors).run.remote(function, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def on_device(
    device: str | RemoteModels | None, function: Callable[..., Result], *arguments: Any
) -> Result:
    """Run ``function(*arguments, device)`` in this process or on the Ray cluster."""
    return (
        device.run(function, *arguments)
        if isinstance(device, RemoteModels)
        else function(*arguments, device)
    )


@contextmanager
def remote_models(engine: str, devices: Sequence[str]) -> Generator[RemoteModels | None]:
    """Start one actor for each GPU of the Ray cluster within a ``with`` block."""
    with (
        ray_cluster() if engine == "ray" and "cuda" in devices else nullcontext("") as cluster_name
    ):
        if not cluster_name:
            yield None
            return
        import ray

        actor = _actor_class(num_cpus=0, max_restarts=-1, max_task_retries=MAX_RETRIES)
        models = RemoteModels(
            tuple(actor.remote() for _ in range(int(ray.cluster_resources().get("GPU", 1))))
        )
        yield models
        for actor in models.gpu_actors:
            ray.kill(actor)
