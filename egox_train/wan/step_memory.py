"""Predicts the peak accelerator memory of a training step from sizes and options: arithmetic,
nothing is run.

What is counted, and how well it is known:
- weights, LoRA, gradients, optimizer and EMA states: exact, from the architecture's shapes;
- activations with gradient checkpointing: each block's input (the checkpoint), plus what autograd keeps of the one
  block that is being recomputed, operation by operation as diffusers' Wan block has them;
- one ego frame's attention bias with its temporaries;
- allocator slack: a flat share.
``bench gpu`` measures a real step beside it. The trainer says its prediction through :mod:`..train.memory`.
"""

from egox_core.errors import check_choice
from egox_core.frozen import frozen

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float8": 1.0}
OPTIMIZER_BYTES = {
    "adamw": 8.0,
    "adamw8bit": 2.0,
    "adafactor": 0.02,
    "muon": 4.0,
}  # of state, a trained weight
SLACK = 0.06
RELEASED_GRID = (13, 28, 49, 28)  # (t, h, w_exo, w_ego) in tokens of the released clip


@frozen
class ModelSize:
    """A Wan transformer. Default: Wan 2.1 I2V 14B."""

    dim: int = 5120
    ffn_dim: int = 13824
    layers: int = 40
    heads: int = 40
    text_dim: int = 4096
    image_dim: int = 1280  # 0: no image embedding (Wan 2.2 I2V)
    in_channels: int = 36
    out_channels: int = 16
    freq_dim: int = 256


@frozen
class TrainSetting:
    """One way of training it."""

    tokens: int = 28028
    ego_tokens_a_frame: int = 784
    batch: int = 1
    rank: int = 256
    targets: tuple[str, ...] = ("attn1", "attn2")
    base: str = "bfloat16"  # float32 | bfloat16 | float8
    optimizer: str = "adamw"
    checkpointing: bool = True
    block_offload: bool = False
    checkpoint_offload: bool = False
    ema: bool = False
    shards: int = 1  # GPUs that FSDP2 spreads weights, gradients and states over


@frozen
class MemoryEstimate:
    """Bytes by part; ``total`` includes the allocator's slack."""

    base: float
    lora: float
    gradients: float
    optimizer: float
    ema: float
    checkpoints: float
    block: float
    ends: float
    bias: float

    @property
    def total(self) -> float:
        return (1 + SLACK) * (
            self.base
            + self.lora
            + self.gradients
            + self.optimizer
            + self.ema
            + self.checkpoints
            + self.block
            + self.ends
            + self.bias
        )


def block_weights(model: ModelSize) -> int:
    """Weights of the linear layers of one block."""
    image = 2 * model.dim * model.dim if model.image_dim else 0
    return 8 * model.dim * model.dim + image + 2 * model.dim * model.ffn_dim


def other_weights(model: ModelSize) -> int:
    """Weights outside the blocks' linear layers: embeddings, time projection, head, norms and
    modulation."""
    d = model.dim
    embeddings = (
        4 * model.in_channels * d
        + model.text_dim * d
        + d * d
        + model.freq_dim * d
        + d * d
        + 6 * d * d
    )
    image = model.image_dim * model.image_dim + model.image_dim * d if model.image_dim else 0
    head = 4 * model.out_channels * d
    small = model.layers * (6 * d + 8 * d + (13 if model.image_dim else 11) * d + model.ffn_dim)
    return embeddings + image + head + small


def lora_weights(model: ModelSize, setting: TrainSetting) -> int:
    """Trained weights."""
    d, f, r = model.dim, model.ffn_dim, setting.rank
    a_block = {
        "attn1": 8 * d * r,
        "attn2": 8 * d * r,
        "attn2_image": 4 * d * r,
        "ffn": 2 * (d + f) * r,
    }
    for target in setting.targets:
        check_choice("LoRA target", target, a_block, "the memory model knows groups only")
    return model.layers * sum(a_block[t] for t in setting.targets)


def estimate(model: ModelSize, setting: TrainSetting) -> MemoryEstimate:
    """Peak memory of one optimizer step on one accelerator.

    Raises:
        EgoXInputError: unknown options.
    """
    check_choice("base", setting.base, BYTES)
    check_choice("optimizer", setting.optimizer, OPTIMIZER_BYTES)
    linear, other = block_weights(model), other_weights(model)
    per_weight = BYTES[setting.base]  # float8's scale per row is negligible
    wide = 2.0 if setting.base != "float32" else 4.0
    on_device = 1 if setting.block_offload else model.layers  # offload: the visiting block alone
    base = (on_device * linear * per_weight + other * wide) / setting.shards
    if setting.shards > 1:
        base += linear * per_weight  # the block that is gathered
    if BYTES[setting.base] < 2:
        base += model.dim * model.ffn_dim * 2  # the one weight that is unpacked at a time
    trained = lora_weights(model, setting)
    activation = 2.0 if setting.base != "float32" else 4.0
    rows = setting.tokens * setting.batch
    hidden = rows * model.dim * activation
    block = _block_activations(model, setting, rows, activation)
    return MemoryEstimate(
        base=base,
        lora=trained * 4 / setting.shards,
        gradients=trained * 4 / setting.shards,
        optimizer=trained * OPTIMIZER_BYTES[setting.optimizer] / setting.shards,
        ema=trained * 4 / setting.shards if setting.ema else 0.0,
        checkpoints=_checkpoints(model, setting, hidden),
        block=block if setting.checkpointing else model.layers * block,
        ends=rows * (model.in_channels + 2 * 64) * 4 + 6 * hidden,
        bias=_bias(setting, activation),
    )


def _checkpoints(model: ModelSize, setting: TrainSetting, hidden: float) -> float:
    """The blocks' inputs; parked on the CPU only the one in use and the next stay."""
    if not setting.checkpointing:
        return 0.0
    return 2 * hidden if setting.checkpoint_offload else model.layers * hidden


def _block_activations(
    model: ModelSize, setting: TrainSetting, rows: int, activation: float
) -> float:
    """Bytes that autograd keeps of one block, and the gradients beside them while it is gone
    through backwards.

    Frozen layers keep no input, since their weights get no gradient; modulation is frozen too.
    """
    wide, full = rows * model.dim * activation, rows * model.dim * 4.0
    ffn = rows * model.ffn_dim * activation
    norms = 3 * full  # float32 input of the three layer norms
    # q and k before their norm; q, k, v, result of the attention; result put together from exo and
    # ego parts
    self_attention = 2 * wide + 4 * wide + 2 * wide
    # q before its norm, q, result for the text, result for the picture
    cross = 3 * wide + (wide if model.image_dim else 0)
    feed_forward = ffn  # input of the activation function
    inputs = {
        "attn1": 1,
        "attn2": 2,
        "attn2_image": 0,
        "ffn": 1,
    }  # of the LoRA's A matrices, not kept by others
    matrices = {
        "attn1": 4,
        "attn2": 2,
        "attn2_image": 0,
        "ffn": 2,
    }  # of token length; text is short
    lora = sum(
        inputs[t] * wide + matrices[t] * rows * setting.rank * activation for t in setting.targets
    )
    if "ffn" in setting.targets:
        lora += ffn
    backward = (
        2 * ffn + 2 * full
    )  # gradients on both sides of the feed-forward, and of the residual stream
    return norms + self_attention + cross + feed_forward + lora + backward


def _bias(setting: TrainSetting, activation: float) -> float:
    """One ego frame's rows: cosine, its scaled copy, the logarithm, and the cast one (padded by the
    kernel once). The product kernel makes none; copies in its backward pass take as much."""
    rows = setting.ego_tokens_a_frame * setting.tokens
    return rows * (3 * 4.0 + 2 * activation)
