"""The command that writes base and LoRA in 8 bits: what it goes on from, and what it refuses. How
the host reads its files is tests/host/test_model_weights.py."""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("comfy_kitchen")

from tests.refusals import refuses  # noqa: E402
from tools.merge_lora import merge  # noqa: E402
from tools.rigs import standins  # noqa: E402


@pytest.fixture(scope="module")
def sources(repo_root):
    return [repo_root / "models" / standins.SHIPPED[what] for what in ("transformer", "lora")]


def test_a_killed_run_goes_on_and_other_settings_start_again(sources, tmp_path):
    """A process that is killed leaves the beginning of the file."""
    whole, target = tmp_path / "whole.safetensors", tmp_path / "again.safetensors"
    part = tmp_path / "again.safetensors.part"
    merge(*sources, whole)
    data = whole.read_bytes()
    for cut in random.Random(7).sample(range(len(data)), 4) + [0, 5, len(data)]:
        part.write_bytes(data[:cut])
        merge(*sources, target)
        assert target.read_bytes() == data and not part.exists(), cut
    part.write_bytes(data[:-9])
    merge(*sources, target, strength=0.5)
    half = load_file(target)["blocks.0.self_attn.q.weight"]
    assert half.dtype == torch.int8
    assert not torch.equal(half, load_file(whole)["blocks.0.self_attn.q.weight"])


def of_scaled_float8(folder, base, lora):
    """The base in 8-bit floats with a scale: its error stays, and nothing else is lost."""
    scaled = {}
    for name, tensor in load_file(base).items():
        if name == "blocks.0.ffn.0.weight":
            scale = tensor.float().abs().max() / 448
            scaled[name.replace("weight", "scale_weight")] = scale.reshape(1)
            tensor = (tensor.float() / scale).to(torch.float8_e4m3fn)
        scaled[name] = tensor
    save_file(scaled, folder / "scaled.safetensors")
    return folder / "scaled.safetensors"


def test_a_scaled_base_gives_nearly_the_same(sources, tmp_path):
    values = []
    for base in (sources[0], of_scaled_float8(tmp_path, *sources)):
        merge(base, sources[1], tmp_path / "out.safetensors", form="float8_e4m3fn")
        made = load_file(tmp_path / "out.safetensors")
        name = "blocks.0.ffn.0.weight"
        values.append(made[name].float() * made[name + "_scale"])
    assert (values[0] - values[1]).norm() < 0.05 * values[0].norm()


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("gguf", "GGUF and pickled files can't be merged"),
        ("merged", "into which a LoRA is merged already"),
        ("whole", "products of two matrices alone"),
        ("swapped", "LoRA"),
    ],
)
def test_what_cannot_be_merged_is_refused(which, words, sources, tmp_path):
    base, lora = sources
    if which == "gguf":
        base = tmp_path / "base.gguf"
    elif which == "merged":
        base = tmp_path / "merged.safetensors"
        merge(*sources, base)
    elif which == "whole":
        lora = tmp_path / "more.safetensors"
        save_file({**load_file(sources[1]), "diffusion_model.head.head.diff": torch.ones(2)}, lora)
    else:
        base, lora = lora, base
    with refuses(words):
        merge(base, lora, tmp_path / "out.safetensors")
    assert not list(tmp_path.glob("out*"))
