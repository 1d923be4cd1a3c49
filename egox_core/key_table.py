"""Names of the Wan transformer's parts: diffusers' on the left, the native ones (ComfyUI, Wan's own) on the right.

Data only. Verified on a whole converted transformer; block parts are relative to ``blocks.N.``.
"""

from __future__ import annotations

from collections.abc import Mapping

MODEL_PARTS: Mapping[str, str] = {
    "patch_embedding": "patch_embedding",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "condition_embedder.image_embedder.pos_embed": "img_emb.emb_pos",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}

BLOCK_PARTS: Mapping[str, str] = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}

BARE_TENSORS = frozenset({"scale_shift_table", "condition_embedder.image_embedder.pos_embed",
                          "modulation", "head.modulation", "img_emb.emb_pos"})
"""Parts that are tensors themselves; all others have .weight and .bias."""

FILE_PREFIXES = ("base_model.model.transformer.", "base_model.model.", "model.diffusion_model.", "diffusion_model.",
                 "transformer.", "")
"""What files put before these names, longest first."""
NATIVE_PREFIX = "diffusion_model."  # what the host's stock loader expects
DIFFUSERS_PREFIX = "transformer."  # what the released code saves (quirks, LoRA key names)
