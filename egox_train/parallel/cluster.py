"""A Ray cluster: which one, whether its head is there, tasks on its CPUs and models on its GPUs.

Models live in actors that hold a GPU each, and all other work in tasks without one. An item whose
worker dies is given out again as in :mod:`.pool`.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from egox_core.errors import EgoXInputError, needs_package

from .pool import MAX_RETRIES, call

PRIVATE_RAY = "local"  # Ray's own word for a cluster that begins and ends with the process
TASK_BYTES = 2 * 2**30
"""Memory that a Ray task asks for: a take's is below, whatever the size of its videos."""
LOOK_S, LOST_S = 5.0, 30.0
"""Between two looks at the head of a Ray cluster, and the longest that it may be away."""
GCS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def ray_needs(devices: Sequence[str]) -> dict[str, int]:
    """Resources that a Ray task asks for; without its GPU it would see none."""
    return {
        "num_cpus": 1,
        "num_gpus": int(any(device.startswith("cuda") for device in devices)),
        "memory": TASK_BYTES,
        "max_retries": 0,
    }


@contextmanager
def ray_cluster(address: str = "", workers: int = 1) -> Iterator[str]:
    """Connects to a Ray cluster, unless this process is, and yields which one, in words.

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
    lost = None
    try:
        # The context of Ray's client has no such field.
        where = getattr(context, "address_info", {}).get("address", address)
        has = ray.cluster_resources()
        yield (
            f"{'a private Ray on this machine' if private else f'the Ray cluster at {where}'}: "
            f"{has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs"
        )
    except LostClusterError as error:
        lost = error
        raise
    finally:
        if lost is None:  # else it would wait for the head
            ray.shutdown()


class LostClusterError(EgoXInputError):
    """The head of a Ray cluster no longer answers. Ray's threads are still there: end the process
    by ``os._exit``."""


def _reach(address: str) -> None:
    """Raises OSError at once where nothing listens; Ray itself would try for many minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@dataclass(slots=True)
class _Head:
    """Watches the head of the cluster that this process is connected to."""

    address: str
    seen_s: float
    looked_s: float = 0.0

    def check(self) -> None:
        """Looks for it, now and then.

        Raises:
            LostClusterError: it has been away too long.
        """
        now = time.monotonic()
        if now - self.looked_s < LOOK_S:
            return
        self.looked_s = now
        try:
            _reach(self.address)
            self.seen_s = now
        except OSError as error:
            if now - self.seen_s > LOST_S:
                raise LostClusterError(
                    "Ray cluster",
                    got=f"no answer from its head at {self.address} for {now - self.seen_s:.0f} s",
                    expected="a cluster that runs",
                    fix="start the cluster, then the same command: what is finished is kept",
                ) from error


def cluster_cpus() -> int:
    """CPUs of a Ray cluster, which is as many tasks at once."""
    with ray_cluster():
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))


def has_gpu(engine: str) -> bool:
    """True with a GPU where the items run: here, or anywhere in the Ray cluster."""
    if engine != "ray":
        return torch.cuda.is_available()
    with ray_cluster():
        import ray

        return ray.cluster_resources().get("GPU", 0) > 0


def run_on_ray(function, items, workers, devices) -> Iterator[tuple[int, Any, str]]:
    with ray_cluster(workers=workers):
        import ray

        remote = ray.remote(**ray_needs(devices))(call)
        head = _Head(address=ray.get_runtime_context().gcs_address, seen_s=time.monotonic())
        # Twice what runs at once, so that nobody waits for the driver; a cluster may grow
        # meanwhile.
        window = max(8, 4 * int(ray.cluster_resources().get("CPU", 1)))
        todo, deaths, waiting = deque(range(len(items))), Counter(), {}
        while todo or waiting:
            head.check()
            while todo and len(waiting) < window:
                index = todo.popleft()
                waiting[remote.remote(function, items[index], *devices)] = index
            for reference in ray.wait(list(waiting), num_returns=1, timeout=LOOK_S)[0]:
                index = waiting.pop(reference)
                try:
                    result, error = ray.get(reference)
                except ray.exceptions.RayTaskError as failure:  # it could not be brought there
                    reason = str(failure).splitlines()[-1]
                    result, error = None, f"{type(failure).__name__}: {reason}"
                except ray.exceptions.RayError as failure:
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
                yield index, result, error


class _ModelHost:
    """A process of a Ray cluster that holds a GPU and the models that run on it."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments, "cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class RemoteModels:
    """The GPUs of a Ray cluster, in place of a device: whatever asks for one runs there."""

    hosts: tuple[Any, ...]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments, device)`` beside one of the GPUs; waits for it."""
        import ray

        try:
            return ray.get(random.choice(self.hosts).run.remote(function, *arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error


def on_device(
    device: str | RemoteModels | None, function: Callable[..., Result], *arguments: Any
) -> Result:
    """``function(*arguments, device)``, here or where the device is."""
    return (
        device.run(function, *arguments)
        if isinstance(device, RemoteModels)
        else function(*arguments, device)
    )


@contextmanager
def remote_models(engine: str, devices: Sequence[str]) -> Iterator[RemoteModels | None]:
    """One process for each GPU of the cluster, where models are asked to run on them; they end with
    the block."""
    with ray_cluster() if engine == "ray" and "cuda" in devices else nullcontext("") as where:
        if not where:
            yield None
            return
        import ray

        host = ray.remote(num_gpus=1, num_cpus=0, max_restarts=-1, max_task_retries=MAX_RETRIES)(
            _ModelHost
        )
        models = RemoteModels(
            tuple(host.remote() for _ in range(int(ray.cluster_resources().get("GPU", 1))))
        )
        yield models
        for host in models.hosts:
            ray.kill(host)
