"""Run a function over many items in threads, in processes or on a Ray cluster.

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
    WorkerPlan,
    make_once,
    parse_devices,
    run_all,
    run_items,
    select_shard,
    stage_with_failures,
)
from .measured import RunEstimate, estimate_run
from .pool import interrupts_held
from .threads import single_threaded
