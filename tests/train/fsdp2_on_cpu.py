"""Run ``train_egox.py`` under accelerate's FSDP2 on the CPU.

accelerate offers FSDP on accelerators only; that refusal alone is lifted here. Spreading, clipping
and gathering are its own code, torch's and ours.
"""

import sys
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
init_state, prepare = AcceleratorState.__init__, Accelerator.prepare


def init_without_refusal(self, *args, fsdp_plugin=None, **more) -> None:
    init_state(self, *args, fsdp_plugin=fsdp_plugin, **more)
    if self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def prepare_and_say(self, *args, **more):
    """Prepare the model with accelerate, and print how many parameters were sharded."""
    prepared_objects = prepare(self, *args, **more)
    parameters = list(prepared_objects[0].parameters())
    print(
        f"FSDP2 {self.is_fsdp2}, {sum(isinstance(p, DTensor) for p in parameters)} of "
        f"{len(parameters)} spread"
    )
    return prepared_objects


AcceleratorState.__init__, Accelerator.prepare = init_without_refusal, prepare_and_say

if __name__ == "__main__":
    import train_egox

    sys.exit(train_egox.main(sys.argv[1:]))
