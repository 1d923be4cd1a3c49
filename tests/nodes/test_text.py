"""Compare the node EgoX Text with the released text encoding.

umT5's vocabulary and weights can't be had here: a unigram vocabulary with its special ids is
trained on the sentences below, and the encoder is a small one of random weights, the same for both.
"""

import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from egox_core.wan.prompt import clean_prompt
from tests.refusals import refuses
from tools.rigs import standins
from tools.rigs.standin_shapes import umt5_shapes

SENTENCES = (
    "A person in a green shirt sits at a brown table and moves blocks with both hands.",
    "The camera and everything else stay still; a mug (white) stands on the left.",
    "From the person's eyes the view goes down over the table with books, a ball and a plate.",
    (
        "[Exo view] **Scene Overview:** a kitchen. **Action Analysis:** she pours tea & stirs it "
        "(twice)."
    ),
    "[Ego view] **Scene Overview:** two hands. **Action Analysis:** the left hand lifts the mug.",
)
EXO, EGO = SENTENCES[3], SENTENCES[4]
PROMPTS = {
    "empty": "",
    "short": f"{EXO}\n\n{EGO}",
    "brackets": "[Exo view] a mug (white:1.5) and (a (red) ball [Ego view] two hands)",
    "entities": "[Exo view] tea &amp;amp; stirs   it\t[Ego view] both\nhands",
    "long in ego": f"{EXO} " * 8 + f"{EGO} " * 40,
    "long in exo": f"{EXO} " * 60 + EGO,
}


@pytest.fixture(scope="module")
def text_module(pack) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.nodes.text")


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory) -> Path:
    """Write a small text encoder as ComfyUI's single file."""
    training_options = {
        "model_type": "unigram",
        "normalization_rule_name": "identity",
        "num_threads": 1,
    }
    tokenizer_model = standins.train_tokenizer(SENTENCES * 4, vocab_size=120, **training_options)
    tensor_shapes = umt5_shapes(
        {**standins.UMT5_CONFIG, "vocab_size": len(decode_vocabulary(tokenizer_model))}
    )
    tensors = {
        name: tensor.float() for name, tensor in standins.draw_tensors(tensor_shapes, 3).items()
    }
    weights_file = tmp_path_factory.mktemp("text") / "umt5.safetensors"
    save_file({**tensors, "spiece_model": tokenizer_model}, str(weights_file))
    return weights_file


@pytest.fixture(scope="module")
def clip(text_module, encoder_file):
    """Load the text encoder with ComfyUI's classes."""
    import comfy.sd

    vocabulary = read_vocabulary(encoder_file)
    return comfy.sd.load_clip(
        [str(encoder_file)],
        clip_type=comfy.sd.CLIPType.WAN,
        model_options={
            "umt5xxl_model_config": {**standins.UMT5_CONFIG, "vocab_size": len(vocabulary)},
            "dtype": torch.float32,
        },
    )


def read_vocabulary(file: Path) -> list[tuple[str, float]]:
    return decode_vocabulary(load_file(file)["spiece_model"])


def decode_vocabulary(model: torch.Tensor) -> list[tuple[str, float]]:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.numpy().tobytes())
    return [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(pieces.get_piece_size())]


@pytest.fixture(scope="module")
def encode_as_released(encoder_file):
    """Provide a function that encodes a prompt with diffusers' pipeline."""
    transformers = pytest.importorskip("transformers")
    pipeline_module = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan_i2v")
    from egox_train.wan.text import UmT5Text

    tokenizer = transformers.T5TokenizerFast(vocab=read_vocabulary(encoder_file), extra_ids=0)
    pipeline = SimpleNamespace(
        tokenizer=tokenizer,
        _execution_device=torch.device("cpu"),
        text_encoder=UmT5Text(encoder_file, dtype=torch.float32).model,
    )

    def encode(prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            if not hasattr(pipeline_module, "ftfy"):  # which leaves these sentences as they are
                patch.setattr(
                    pipeline_module,
                    "ftfy",
                    SimpleNamespace(fix_text=lambda text: text),
                    raising=False,
                )
            embedding = pipeline_module.WanImageToVideoPipeline._get_t5_prompt_embeds(
                pipeline, prompt, max_sequence_length=512
            )
            ids = tokenizer(
                [pipeline_module.prompt_clean(prompt)],
                padding="max_length",
                max_length=512,
                truncation=True,
                add_special_tokens=True,
                return_tensors="pt",
            ).input_ids[0]
        return ids, embedding

    return encode


class ClipRecorder:
    """Wrap ComfyUI's CLIP, and record which tokens are encoded."""

    def __init__(self, clip) -> None:
        self.clip = clip
        self.encoded_tokens = []

    def tokenize(self, text: str):
        return self.clip.tokenize(text)

    def encode_from_tokens_scheduled(self, tokens):
        self.encoded_tokens.append(tokens)
        return self.clip.encode_from_tokens_scheduled(tokens)


@pytest.fixture(scope="module")
def run_text_node(text_module, clip):
    """Provide a function that runs the node EgoX Text."""

    def execute(prompt, negative: str = "", caption: str = "as written", clip=clip):
        return text_module.EgoXText.execute(clip, prompt, negative, caption).result

    return execute


@pytest.mark.parametrize("prompt_name", PROMPTS)
def test_token_ids_and_embedding_equal_the_released_and_the_trainers(
    run_text_node, clip, encode_as_released, encoder_file, prompt_name
):
    from egox_train.wan.text import UmT5Text

    recorder = ClipRecorder(clip)
    positive, negative, *_ = run_text_node(PROMPTS[prompt_name], clip=recorder)
    released_ids, released_embedding = encode_as_released(PROMPTS[prompt_name])
    (prompt_tokens,), (negative_tokens,) = (tokens["umt5xxl"] for tokens in recorder.encoded_tokens)
    token_ids = [token for token, _ in prompt_tokens]
    assert token_ids + [0] * (512 - len(token_ids)) == released_ids.tolist()
    assert {weight for _, weight in prompt_tokens} == {1.0}, "a bracket was read as emphasis"
    ((egox_embedding, _),) = positive
    assert egox_embedding.shape == released_embedding.shape
    # Same weights, two implementations of the same encoder in float32.
    trainer_embedding = UmT5Text(encoder_file, dtype=torch.float32).encode(PROMPTS[prompt_name])[
        None
    ]
    for other_embedding in (released_embedding, trainer_embedding):
        assert float((egox_embedding - other_embedding).abs().max()) < 1e-4 * float(
            other_embedding.abs().max()
        )
    assert torch.equal(egox_embedding.abs().sum(-1) > 0, released_embedding.abs().sum(-1) > 0), (
        "another number of tokens"
    )
    assert [token for token, _ in negative_tokens][:2] == [1, 0], (
        "the empty text is its end mark alone"
    )


def test_the_note_says_what_was_cut(text_module, clip, run_text_node):
    prompt = PROMPTS["long in ego"]
    count = text_module.count_unpadded(text_module.tokenize(clip, clean_prompt(prompt)))
    cut_note, negative_note = run_text_node(prompt)[4].splitlines()
    assert f"{count - 512} of {count} tokens" in cut_note and "[Ego view]" in cut_note
    assert negative_note == "negative: 1 of 512 tokens"
    outputs = run_text_node("a  mug \\(white\\)", " &quot;blur&quot;\n")
    assert outputs[2:4] == ("a mug (white)", '"blur"')
    assert "cut off" not in outputs[4] and " of 512 tokens" in outputs[4]


def test_ftfy_is_used_if_installed_and_named_if_it_would_change_the_prompt(
    run_text_node, monkeypatch
):
    import sys

    monkeypatch.setitem(sys.modules, "ftfy", None)
    assert "ftfy" in run_text_node("the person\u2019s hands")[4]
    assert "ftfy" not in run_text_node("the person's hands &amp; feet")[4]
    fake_ftfy = ModuleType("ftfy")
    fake_ftfy.fix_text = lambda text: text.replace("\u2019", "'")
    monkeypatch.setitem(sys.modules, "ftfy", fake_ftfy)
    _, _, prompt, _, note = run_text_node("the person\u2019s hands")
    assert prompt == "the person's hands"
    assert "ftfy" not in note


def test_other_encoders_are_refused(run_text_node):
    other_clip = SimpleNamespace(tokenize=lambda text: {"l": [[(1, 1.0)]], "g": [[(1, 1.0)]]})
    with refuses("umT5"):
        run_text_node("hands", clip=other_clip)
    with refuses("connect Load CLIP"):
        run_text_node("hands", clip=None)


def test_no_caption_runs_no_language_model(text_module, clip, run_text_node):
    """Check that ComfyUI doesn't run the language model when no caption is needed."""
    assert (
        text_module.EgoXText.check_lazy_status(caption="no caption", prompt=None, clip=clip) == []
    )
    for caption in ("as written", "from a model"):
        assert text_module.EgoXText.check_lazy_status(caption=caption, prompt=None) == ["prompt"]
        assert text_module.EgoXText.check_lazy_status(caption=caption, prompt="hands") == []
    *_, prompt, _, note = run_text_node(None, caption="no caption")
    assert prompt.startswith("[Exo view] **Scene Overview:**")
    assert "a neutral text" in note


def test_the_caption_request_fits_comfyuis_generate_text(text_module):
    """Check the request with a model that answers with it, and with Qwen's own tokenizer."""
    from comfy.text_encoders.qwen3vl import Qwen3VLTokenizer
    from comfy_extras.nodes_textgen import TextGenerate

    node = text_module.EgoXCaptionRequest
    images, instruction = node.execute(torch.rand(9, 32, 56, 3), torch.rand(9, 32, 32, 3)).result
    assert images.shape == (4, 32, 88, 3)
    input_types = {entry.id: entry.get_io_type() for entry in TextGenerate.GET_SCHEMA().inputs}
    output_types = [output.get_io_type() for output in node.GET_SCHEMA().outputs]
    assert [input_types["image"], input_types["prompt"]] == output_types
    tokenizer = Qwen3VLTokenizer(model_type="qwen3vl_4b")

    class EchoModel:
        def tokenize(self, prompt, image=None, **options):
            assert not options["thinking"]
            return tokenizer.tokenize_with_weights(prompt, image=image)

        def generate(self, tokens, max_length, **options):
            assert max_length == 1024
            return tokens["qwen3vl_4b"][0]

        def decode(self, tokens):
            assert sum(isinstance(token, dict) for token, *_ in tokens) == len(images)
            assert {weight for _, weight, *_ in tokens} == {1.0}
            return tokenizer.decode([token for token, *_ in tokens if isinstance(token, int)])

    answer = TextGenerate.execute(
        EchoModel(), instruction, 1024, {"sampling_mode": "off"}, image=images
    ).result[0]
    assert instruction in answer
    with refuses("the request itself"):
        text_module.choose_prompt(instruction, "from a model")
