"""The names that wan hands out."""

from .canvas import (
    build_mask as build_mask,
    check_pictures as check_pictures,
    ego_half as ego_half,
    model_input as model_input,
    widen as widen,
)
from .caption import (
    MIN_WORDS as MIN_WORDS,
    NO_CAPTION as NO_CAPTION,
    caption_request as caption_request,
    caption_section as caption_section,
    repair_caption as repair_caption,
)
from .chunks import (
    ChunkFiles as ChunkFiles,
    plan_chunks as plan_chunks,
    sample_chunks as sample_chunks,
)
from .conditioned import Conditioned as Conditioned, Encoders as Encoders
from .file_kinds import (
    MODEL_FIX as MODEL_FIX,
    check_lora as check_lora,
    check_run_files as check_run_files,
    check_weights as check_weights,
)
from .latents import (
    denormalise_latent as denormalise_latent,
    fit_latent_colours as fit_latent_colours,
    latent_colours as latent_colours,
    normalise_latent as normalise_latent,
)
from .lora_keys import (
    convert_lora as convert_lora,
    convert_transformer as convert_transformer,
    rename_parameter as rename_parameter,
)
from .lora_settings import (
    PREFIX as PREFIX,
    contradictions as contradictions,
    resolve_auto as resolve_auto,
    trained_with as trained_with,
)
from .noise import released_noise as released_noise
from .prompt import (
    TOKENS as TOKENS,
    clean_prompt as clean_prompt,
    cut_place as cut_place,
    cut_tokens as cut_tokens,
    has_ftfy as has_ftfy,
    join_sections as join_sections,
    split_sections as split_sections,
)
from .schedule import (
    TRAIN_TIMESTEPS as TRAIN_TIMESTEPS,
    make_scheduler as make_scheduler,
    released_schedule as released_schedule,
    sample_released as sample_released,
)
from .vision import embedding_picture as embedding_picture
from .weights import SCALE_PARTS as SCALE_PARTS, SCALES as SCALES, read_header as read_header
