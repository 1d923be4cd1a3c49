"""Write a small transformer to a quantised GGUF file."""

from pathlib import Path

import torch


def write_gguf(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to a GGUF file, with the blocks' matrices in 8 bits."""
    import gguf  # an extra: dev

    gguf_writer = gguf.GGUFWriter(str(path), "wan")
    for name, tensor in tensors.items():
        array = tensor.float().numpy()
        if (
            array.ndim > 4
        ):  # the format holds four dimensions; the loader reads the true shape from this field
            gguf_writer.add_array(f"comfy.gguf.orig_shape.{name}", list(array.shape))
            array = array.reshape(array.shape[0], -1)
        elif array.ndim == 2 and name.startswith("blocks."):
            kind_id = gguf.GGMLQuantizationType["Q8_0"]
            gguf_writer.add_tensor(name, gguf.quants.quantize(array, kind_id), raw_dtype=kind_id)
            continue
        gguf_writer.add_tensor(name, array)
    gguf_writer.write_header_to_file()
    gguf_writer.write_kv_data_to_file()
    gguf_writer.write_tensors_to_file()
    gguf_writer.close()
