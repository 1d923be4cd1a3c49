"""EgoX Text through the host's umT5 classes, against the released pipeline's own function.

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
    "[Exo view] **Scene Overview:** a kitchen. **Action Analysis:** she pours tea & stirs it (twice).",
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
def texts(pack) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.nodes.text")


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory) -> Path:
    """Write ComfyUI's single file with a trained vocabulary inside."""
    how = {"model_type": "unigram", "normalization_rule_name": "identity", "num_threads": 1}
    model = standins.tokenizer_model(SENTENCES * 4, vocab_size=120, **how)
    shapes = umt5_shapes({**standins.UMT5_CONFIG, "vocab_size": len(vocabulary_of(model))})
    tensors = {name: tensor.float() for name, tensor in standins.random_tensors(shapes, 3).items()}
    path = tmp_path_factory.mktemp("text") / "umt5.safetensors"
    save_file({**tensors, "spiece_model": model}, str(path))
    return path


@pytest.fixture(scope="module")
def clip(texts, encoder_file):
    """Load the host's own classes: tokenizer, model and CLIP."""
    import comfy.sd

    vocabulary = vocabulary_in(encoder_file)
    return comfy.sd.load_clip(
        [str(encoder_file)],
        clip_type=comfy.sd.CLIPType.WAN,
        model_options={
            "umt5xxl_model_config": {**standins.UMT5_CONFIG, "vocab_size": len(vocabulary)},
            "dtype": torch.float32,
        },
    )


def vocabulary_in(file: Path) -> list[tuple[str, float]]:
    return vocabulary_of(load_file(file)["spiece_model"])


def vocabulary_of(model: torch.Tensor) -> list[tuple[str, float]]:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.numpy().tobytes())
    return [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(pieces.get_piece_size())]


@pytest.fixture(scope="module")
def released(encoder_file):
    """Give released(prompt) -> (ids [512], embedding [1, 512, D]), diffusers' pipeline function on
    transformers' classes."""
    transformers = pytest.importorskip("transformers")
    wan = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan_i2v")
    from egox_train.wan.text import UmT5Text

    tokenizer = transformers.T5TokenizerFast(vocab=vocabulary_in(encoder_file), extra_ids=0)
    pipeline = SimpleNamespace(
        tokenizer=tokenizer,
        _execution_device=torch.device("cpu"),
        text_encoder=UmT5Text(encoder_file, dtype=torch.float32).model,
    )

    def encode(prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            if not hasattr(wan, "ftfy"):  # which leaves these sentences as they are
                patch.setattr(
                    wan, "ftfy", SimpleNamespace(fix_text=lambda text: text), raising=False
                )
            embedding = wan.WanImageToVideoPipeline._get_t5_prompt_embeds(
                pipeline, prompt, max_sequence_length=512
            )
            ids = tokenizer(
                [wan.prompt_clean(prompt)],
                padding="max_length",
                max_length=512,
                truncation=True,
                add_special_tokens=True,
                return_tensors="pt",
            ).input_ids[0]
        return ids, embedding

    return encode


class Recorder:
    """The host's CLIP, with what it was given to encode."""

    def __init__(self, clip) -> None:
        self.clip, self.given = clip, []

    def tokenize(self, text: str):
        return self.clip.tokenize(text)

    def encode_from_tokens_scheduled(self, tokens):
        self.given.append(tokens)
        return self.clip.encode_from_tokens_scheduled(tokens)


@pytest.fixture(scope="module")
def run(texts, clip):
    """Give run(prompt, ...), which returns the node's results with the host's CLIP or another."""

    def execute(prompt, negative: str = "", caption: str = "as written", clip=clip):
        return texts.EgoXText.execute(clip, prompt, negative, caption).result

    return execute


@pytest.mark.parametrize("name", PROMPTS)
def test_ids_and_embedding_are_the_released_ones_and_the_trainers(
    run, clip, released, encoder_file, name
):
    from egox_train.wan.text import UmT5Text

    recorder = Recorder(clip)
    positive, negative, *_ = run(PROMPTS[name], clip=recorder)
    ids, embedding = released(PROMPTS[name])
    (row,), (empty,) = (tokens["umt5xxl"] for tokens in recorder.given)
    got = [token for token, _ in row]
    assert got + [0] * (512 - len(got)) == ids.tolist()
    assert {weight for _, weight in row} == {1.0}, "a bracket was read as emphasis"
    ((ours, _),) = positive
    assert ours.shape == embedding.shape
    # Same weights, two implementations of the same encoder in float32.
    trainers = UmT5Text(encoder_file, dtype=torch.float32).encode(PROMPTS[name])[None]
    for theirs in (embedding, trainers):
        assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())
    assert torch.equal(ours.abs().sum(-1) > 0, embedding.abs().sum(-1) > 0), (
        "another number of tokens"
    )
    assert [token for token, _ in empty][:2] == [1, 0], "the empty text is its end mark alone"


def test_the_note_says_what_was_cut(texts, clip, run):
    def said(name: str) -> str:
        return run(PROMPTS[name])[4]

    short = len(texts.tokens_of(clip, clean_prompt(PROMPTS["short"])))
    assert short == 512, "padded by the host"
    count = texts.unpadded(texts.tokens_of(clip, clean_prompt(PROMPTS["long in ego"])))
    assert count > 600
    assert said("long in ego").splitlines() == [
        f"prompt: the last {count - 512} of {count} tokens are cut off, inside [Ego view]",
        "negative: 1 of 512 tokens",
    ]
    assert "cut off" not in said("short") and " of 512 tokens" in said("short")


def test_the_texts_come_out_clean(run):
    """EgoX Prompt has escaped parentheses for the stock encoder. Here they need no escape."""
    assert run("a  mug \\(white\\)", " &quot;blur&quot;\n")[2:4] == (
        "a mug (white)",
        '"blur"',
    )


def test_ftfy_works_where_it_is_and_is_missed_where_it_matters(run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ftfy", None)
    assert "ftfy" in run("the person\u2019s hands")[4]
    assert "ftfy" not in run("the person's hands &amp; feet")[4]
    fake = ModuleType("ftfy")
    fake.fix_text = lambda text: text.replace("\u2019", "'")
    monkeypatch.setitem(sys.modules, "ftfy", fake)
    _, _, prompt, _, note = run("the person\u2019s hands")
    assert prompt == "the person's hands" and "ftfy" not in note


def test_other_encoders_are_refused(run):
    other = SimpleNamespace(tokenize=lambda text: {"l": [[(1, 1.0)]], "g": [[(1, 1.0)]]})
    with refuses("umT5"):
        run("hands", clip=other)
    with refuses("connect Load CLIP"):
        run("hands", clip=None)


def test_no_caption_needs_no_model_and_fits(texts, clip, run):
    """The host runs no language model for it (lazy), and gives None for what it did not run."""
    assert texts.EgoXText.check_lazy_status(caption="no caption", prompt=None, clip=clip) == []
    for caption in ("as written", "from a model"):
        assert texts.EgoXText.check_lazy_status(caption=caption, prompt=None) == ["prompt"]
        assert texts.EgoXText.check_lazy_status(caption=caption, prompt="hands") == []
    *_, prompt, _, note = run(None, caption="no caption")
    assert prompt.startswith("[Exo view] **Scene Overview:**") and "a neutral text" in note


def test_the_request_is_what_generate_text_takes(texts):
    """Its sockets against the host's node, and a language model that answers with nothing else than
    what it got."""
    from comfy_extras.nodes_textgen import TextGenerate

    node = texts.EgoXCaptionRequest
    exo, prior = torch.rand(9, 32, 56, 3), torch.rand(9, 32, 32, 3)
    images, instruction = node.execute(exo, prior).result
    assert images.shape == (4, 32, 88, 3)
    takes = {entry.id: entry.get_io_type() for entry in TextGenerate.GET_SCHEMA().inputs}
    gives = [output.get_io_type() for output in node.GET_SCHEMA().outputs]
    assert [takes["image"], takes["prompt"]] == gives

    class Parrot:
        def tokenize(self, prompt, image=None, **options):
            assert len(image) == 4 and not options["thinking"]
            return prompt

        def generate(self, tokens, max_length, **options):
            assert max_length == 1024
            return tokens

        def decode(self, tokens):
            return tokens

    answer = TextGenerate.execute(
        Parrot(), instruction, 1024, {"sampling_mode": "off"}, image=images
    ).result[0]
    assert answer == instruction
    with refuses("the request itself"):
        texts.words_of(answer, "from a model")


def test_qwens_own_tokenizer_takes_the_request_whole(texts):
    """The host's template, four pictures in front of the words, and nothing read as a weight."""
    from comfy.text_encoders.qwen3vl import Qwen3VLTokenizer

    node = texts.EgoXCaptionRequest
    images, instruction = node.execute(torch.rand(5, 32, 56, 3)).result
    tokenizer = Qwen3VLTokenizer(model_type="qwen3vl_4b")
    (row,) = tokenizer.tokenize_with_weights(instruction, image=images)["qwen3vl_4b"]
    assert sum(isinstance(token, dict) and token["type"] == "image" for token, *_ in row) == 4
    assert {weight for _, weight, *_ in row} == {1.0}
    words = tokenizer.decode([token for token, *_ in row if isinstance(token, int)])
    assert instruction in words
