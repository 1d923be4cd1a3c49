"""One of two gloo processes: the training step of a model that torch's fully_shard has spread over both.

accelerate offers FSDP on accelerators only, so what is tried here is everything of ours that meets spread weights: the
attention processor, the LoRA, clipping, gathering for checkpoints, and putting a checkpoint back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from egox_core.train.cached_samples import CachedSamples, noise_for, sample_generator
from egox_core.train.config import load_config
from egox_core.train.flow_loss import flow_loss
from egox_core.train.optimizer import make_optimizer
from egox_core.train.sample import collate
from egox_core.train.sharded import is_sharded, optimizer_state, put_optimizer_state, whole
from egox_core.train.trainable_model import make_trainable


def main(config_file: str, out: str, processes: int) -> None:
    """Three steps, the state taken out and put back after the second; rank 0 writes the LoRA."""
    config = load_config(Path(config_file))
    made = make_trainable(config, torch.device("cpu"))
    rank = 0
    if processes > 1:
        dist.init_process_group("gloo")
        rank = dist.get_rank()
        mesh = init_device_mesh("cpu", (processes,))
        for block in made.model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(made.model, mesh=mesh)
        assert is_sharded(made.model)
    parameters = [p for p in made.model.parameters() if p.requires_grad]
    optimizer = make_optimizer(config.optimizer, parameters)
    samples = CachedSamples(config, "train")
    size = 4 // processes
    for step in range(3):
        items = samples.items_of_step(step, 4)[rank * size : (rank + 1) * size]
        loaded = [samples.load(item) for item, _ in items]
        noise = torch.cat([noise_for(s, sample_generator(0, n, "noise"), False)
                           for s, (_, n) in zip(loaded, items, strict=True)])
        sigmas = torch.full((size,), 0.6)
        result = flow_loss(made.model, made.scope, collate(loaded), noise, sigmas, config.conditioning)
        result.loss.backward()
        assert float(whole(torch.nn.utils.clip_grad_norm_(parameters, 1.0))) > 0
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step == 1:
            state = optimizer_state(made.model, optimizer)
            optimizer = make_optimizer(config.optimizer, parameters)
            put_optimizer_state(made.model, optimizer, state)
    tensors = made.tensors()
    if rank == 0:
        save_file(tensors, out)
    if processes > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
