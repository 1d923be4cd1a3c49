"""The names that gga hands out."""

from .attention import (
    check_tokens as check_tokens,
    ego_attention as ego_attention,
    gga_attention as gga_attention,
    plain_attention as plain_attention,
)
from .backends import (
    BACKENDS as BACKENDS,
    STEADY as STEADY,
    KernelsUsed as KernelsUsed,
    forget_wrong as forget_wrong,
)
from .bias import bias_from_cosine as bias_from_cosine, dense_bias as dense_bias
from .exo_cache import (
    ExoCache as ExoCache,
    ExoForward as ExoForward,
    ExoHalves as ExoHalves,
    ego_tokens as ego_tokens,
    kept_size as kept_size,
    packed_size as packed_size,
)
from .geometry import (
    gga_geometry as gga_geometry,
    missing_depth_note as missing_depth_note,
    tokens_from_latents as tokens_from_latents,
    with_trainer_rays as with_trainer_rays,
)
from .options import (
    DEFAULT_LAMBDA as DEFAULT_LAMBDA,
    GGA_MODES as GGA_MODES,
    GgaMode as GgaMode,
    GgaOptions as GgaOptions,
)
from .rays import released_k_note as released_k_note
from .record import (
    AttentionRecord as AttentionRecord,
    AttentionRows as AttentionRows,
    attention_rows as attention_rows,
    ego_query as ego_query,
    exo_part as exo_part,
    from_start as from_start,
)
from .triton_rows import fused_rows as fused_rows
