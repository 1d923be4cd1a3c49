"""Encode prompts to text embeddings for training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from egox_core.errors import EgoXInputError, needs_package
from egox_core.wan import TOKENS, check_weights, clean_prompt, cut_tokens, read_header

from .weights import apply_scales

PAD_TOKEN = 0  # umT5's padding token


class TextEncoder(Protocol):
    """Interface of an encoder that turns a prompt into an embedding."""

    def encode(self, prompt: str) -> Tensor:  # -> [tokens, text_dim] float32
        """Encode one prompt to an embedding."""


class FixedText:
    """Text encoder that gives the same embedding for every prompt."""

    def __init__(self, embedding: Tensor) -> None:
        self.embedding = embedding.float()

    def encode(self, prompt: str) -> Tensor:  # -> [tokens, text_dim] float32
        del prompt
        return self.embedding


def read_embedding(file: Path) -> Tensor:  # [tokens, text_dim]
    """Read a text embedding [tokens, dim] from a safetensors file.

    Raises:
        EgoXInputError: several tensors, or one of another shape.
    """
    loaded_tensors = load_file(file)
    embedding = next(iter(loaded_tensors.values()), torch.zeros(0))
    embedding = embedding[0] if embedding.ndim == 3 else embedding
    if len(loaded_tensors) != 1 or embedding.ndim != 2:
        raise EgoXInputError(
            f"text embedding {file.name}",
            got=f"{len(loaded_tensors)} tensors of {tuple(embedding.shape)}",
            expected="one tensor [tokens, text_dim]",
            fix="save the embedding alone",
        )
    return embedding


class UmT5Text:
    """Text encoder umT5.

    ``released``: the prompt cleaned, the encoder sees its tokens alone, zeros after them.
    ``trainer``: the prompt as it is, padded to 512 tokens which the encoder attends to, and what it
    makes of the padding kept.

    ``path``: a diffusers folder (text_encoder, tokenizer) or ComfyUI's single file with the
        tokenizer inside.
    """

    def __init__(
        self,
        path: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
        encoding: str = "released",
    ) -> None:
        self.device, self.encoding = torch.device(device), encoding
        self.model, self.tokenize = (
            _umt5_folder(path, dtype) if path.is_dir() else _umt5_file(path, dtype)
        )
        self.model = self.model.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:  # -> [tokens, text_dim] float32
        as_in_training = self.encoding == "trainer"
        token_ids = cut_tokens(self.tokenize(prompt if as_in_training else clean_prompt(prompt)))
        if as_in_training:
            token_ids = [*token_ids, *[PAD_TOKEN] * (TOKENS - len(token_ids))]
        batch = torch.tensor([token_ids], device=self.device)
        embedding = self.model(input_ids=batch).last_hidden_state[0].float().cpu()
        return torch.nn.functional.pad(embedding, (0, 0, 0, TOKENS - len(token_ids)))


def make_text_encoder(
    source: str, device: torch.device | str, dtype: torch.dtype, encoding: str = "released"
) -> TextEncoder:
    """Create a text encoder from a file or folder, or one that gives zeros.

    ``encoding``: see :class:`UmT5Text`; without meaning for the others.

    Raises:
        EgoXInputError: none of these, or missing packages.
    """
    if source.startswith("zeros:"):
        try:
            token_count, text_dim = (int(x) for x in source.removeprefix("zeros:").split("x"))
        except ValueError as error:
            raise EgoXInputError(
                "text",
                got=source,
                expected="zeros:TOKENSxDIM, as zeros:512x4096",
                fix="write the numbers",
            ) from error
        return FixedText(torch.zeros(token_count, text_dim))
    path = Path(source)
    if (
        path.is_file()
        and len(read_header(path, f"text encoder {path.name}").keys() - {"__metadata__"}) == 1
    ):
        return FixedText(read_embedding(path))
    return UmT5Text(path, device, dtype, encoding)


def _umt5_folder(path: Path, dtype: torch.dtype):
    transformers = _transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path / "tokenizer", local_files_only=True
        )
        model = transformers.UMT5EncoderModel.from_pretrained(
            path / "text_encoder", dtype=dtype, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise EgoXInputError(
            f"text encoder folder {path.name}",
            got=str(error).splitlines()[0],
            expected="text_encoder and tokenizer",
            fix="give the diffusers folder of Wan",
        ) from error
    return model, lambda text: tokenizer(text, add_special_tokens=True).input_ids


def _umt5_file(path: Path, dtype: torch.dtype):
    transformers = _transformers()
    file_words = f"text encoder {path.name}"
    check_weights(path, "text encoder")
    with needs_package("sentencepiece", file_words, expected="the train extra"):
        import sentencepiece
    loaded_weights = load_file(path)
    sentencepiece_processor = sentencepiece.SentencePieceProcessor(
        model_proto=bytes(loaded_weights.pop("spiece_model").numpy().tobytes())
    )
    loaded_weights = apply_scales(loaded_weights, dtype, file_words)
    model = transformers.UMT5EncoderModel(transformers.UMT5Config(**_umt5_shape(loaded_weights)))
    encoder_weights = {k: v.to(dtype) for k, v in loaded_weights.items() if k in model.state_dict()}
    missing_names = model.to(dtype).load_state_dict(encoder_weights, strict=False).missing_keys
    missing_names = [k for k in missing_names if k != "encoder.embed_tokens.weight"]
    if missing_names:
        raise EgoXInputError(
            file_words,
            got=f"no {missing_names[0]}",
            expected="all tensors of umT5",
            fix="download it again",
        )
    return model, lambda text: [*sentencepiece_processor.encode(text), 1]  # 1: end of sequence


def _umt5_shape(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Derive umT5's configuration from the shapes of its tensors."""
    vocabulary, model_width = weights["shared.weight"].shape
    layer_prefix = "encoder.block.0.layer"
    head_count = weights[f"{layer_prefix}.0.SelfAttention.relative_attention_bias.weight"].shape[1]
    layer_count = sum(k.endswith("SelfAttention.q.weight") for k in weights)
    return {
        "vocab_size": vocabulary,
        "d_model": model_width,
        "num_heads": head_count,
        "num_layers": layer_count,
        "d_kv": weights[f"{layer_prefix}.0.SelfAttention.q.weight"].shape[0] // head_count,
        "d_ff": weights[f"{layer_prefix}.1.DenseReluDense.wi_0.weight"].shape[0],
        "feed_forward_proj": "gated-gelu",
    }


def _transformers():
    with needs_package(
        "transformers",
        "text encoder",
        expected="the train extra",
        instead=", or give a fixed embedding",
    ):
        import transformers
    return transformers
