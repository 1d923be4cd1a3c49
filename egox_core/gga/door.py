"""The names that gga hands out."""

from .attention import (
    check_tokens as check_tokens,
    gga_attention as gga_attention,
)
from .backends import BACKENDS as BACKENDS, KernelsUsed as KernelsUsed
from .bias import bias_from_cosine as bias_from_cosine, dense_bias as dense_bias
from .exo_cache import (
    ExoCache as ExoCache,
    ExoForward as ExoForward,
    ExoHalves as ExoHalves,
    ego_tokens as ego_tokens,
    kept_size as kept_size,
)
from .geometry import gga_geometry as gga_geometry, tokens_from_latents as tokens_from_latents
from .options import GgaOptions as GgaOptions
from .plain import or_cudnn as or_cudnn, plain_attention as plain_attention
from .product_gradient import product_kernels as product_kernels
from .rays import ego_rays as ego_rays, released_k_note as released_k_note, world_rays as world_rays
from .record import AttentionRecord as AttentionRecord, AttentionRows as AttentionRows
from .rows import BiasRows as BiasRows
