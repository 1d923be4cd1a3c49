"""Bias the model's attention so that ego queries attend more to exo tokens in their viewing
direction.

Paper, section 3.2.

In: metric depth of exo and the ego camera's poses give :func:`gga_geometry`, unit directions of all
tokens of a canvas (a few MB, once a sampling run). Out: :func:`gga_attention`, self-attention
with the bias of mode and strength in :class:`GgaOptions`, for any host and for training. λ_g
acts in one formula, :func:`bias_from_cosine`.

diffusers' Wan transformer gets it from ``install_gga`` of
:mod:`egox_train.wan.diffusers_processor`; rows of a real attention to look at are in
:mod:`.record`."""

from .attention import check_tokens, gga_attention
from .backends import BACKENDS, KernelsUsed
from .bias import bias_from_cosine, dense_bias
from .exo_cache import ExoCache, ExoForward, Grid, ego_tokens, join_tokens, kept_size
from .geometry import gga_geometry, tokens_from_latents
from .options import GgaOptions
from .plain import or_cudnn, plain_attention
from .product_gradient import product_kernels
from .rays import ego_rays, released_k_note, world_rays
from .record import AttentionRecord, AttentionRows
from .rows import BiasRows
