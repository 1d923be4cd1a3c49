"""Run a function over many items: takes in processes or on a Ray cluster, chunks of frames in
threads.

In: a function, its items, an engine. Out: results as they come, failures in words; what is asked of
a cluster, and models on its GPUs.
"""

from .cluster import (
    LostClusterError,
    RemoteModels,
    cluster_cpus,
    has_gpu,
    on_device,
    ray_cluster,
    remote_models,
)
from .items import (
    BUSY,
    RunPlaces,
    devices_of,
    made_once,
    part_of,
    run_all,
    run_items,
    with_failures,
)
from .measured import RunSums, run_sums
from .threads import map_chunks, single_threaded
