"""Prepare a canvas for the Wan model: its input channels, captions, encoders and sampling schedule.

In: latents of exo, ego prior and noise, all in model space. Out: the 36 channels of the whole
canvas (:func:`build_mask`, :func:`model_input`; :func:`widen` puts the exo half beside what a
host samples), LoRA files under the names that a host reads (:func:`convert_lora`) and the authors'
noise levels (:func:`released_schedule`). The words: :mod:`.prompt`, and :mod:`.caption` where a
language model writes them."""

from .canvas import build_mask, check_pictures, ego_half, model_input, widen
from .caption import MIN_WORDS, NO_CAPTION, caption_request, caption_section, repair_caption
from .chunks import ChunkFiles, plan_chunks, sample_chunks
from .conditioned import Conditioned, Encoders
from .file_kinds import (
    MODEL_FIX,
    check_lora,
    check_new_file,
    check_run_files,
    check_strength,
    check_weights,
    weight_file,
)
from .latents import denormalise_latent, fit_latent_colours, latent_colours, normalise_latent
from .lora_conversion import MATRICES, convert_lora
from .lora_keys import convert_transformer, product_of, rename_parameter
from .lora_settings import (
    FORM,
    MERGED,
    PREFIX,
    check_position_scale,
    contradictions,
    describe_unusual_settings,
    egox_entries,
    resolve_auto,
    trained_with,
)
from .noise import released_noise
from .prompt import (
    TOKENS,
    clean_prompt,
    cut_place,
    cut_tokens,
    has_ftfy,
    join_sections,
    split_sections,
)
from .schedule import TRAIN_TIMESTEPS, make_scheduler, released_schedule, sample_released
from .vision import embedding_picture
from .weights import (
    SCALE_PARTS,
    SCALES,
    StreamedWeights,
    file_digest,
    read_header,
    read_tensor,
    unscale,
    write_streamed,
)
