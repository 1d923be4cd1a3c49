"""Test captions that a vision-language model generates."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from egox_core.safe_files import read_json, write_json
from egox_train.data import captions
from egox_train.data.captions import QUESTIONS, model_caption
from egox_train.data.clip_files import read_clip
from egox_train.data.prepare import prepare
from tests.refusals import refuses
from tests.train.prepared_takes import ALL_TRAIN, SMALL_OPTIONS, prepare_and_read

transformers = pytest.importorskip("transformers")
ANSWERS = (
    "a person in a small room moves a red box",
    "two hands lift the red box again",
    "the box is red and stands on a table",
    "own hands hold the red box still",
    "a table stands before the person",
    "both hands move the box again",
)
ANSWERS_BY_QUESTION = dict(
    zip(
        (question for section_questions in QUESTIONS.values() for question in section_questions),
        ANSWERS,
        strict=True,
    )
)
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image> "
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} answer"
)


def write_model(folder: Path) -> None:
    """Write a tiny LLaVA model that can read only the test's words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary_words = sorted(
        {
            word
            for text in [*ANSWERS_BY_QUESTION, *ANSWERS_BY_QUESTION.values()]
            for word in text.replace(".", " .").replace(",", " ,").replace(":", " :").split()
        }
        | {"answer"}
    )
    vocabulary = {
        word: i
        for i, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", "<image>", *vocabulary_words])
    }
    word_tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    word_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    picture_size = {"height": 28, "width": 28}
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=picture_size)
    processor = transformers.LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        text_config=transformers.LlamaConfig(
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=len(vocabulary),
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
        ),
        image_token_index=vocabulary["<image>"],
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    model = transformers.LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 3, 0
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = 0  # or noise might find the end mark by luck
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


class FixedAnswerModel:
    """Wrap a vision-language model so that it answers each question with a fixed sentence."""

    def __init__(self, processor, model) -> None:
        self.model, self.words = model, processor.tokenizer
        self.device, self.generation_config = model.device, model.generation_config

    def ids(self, text: str) -> list[int]:
        return self.words(text, add_special_tokens=False).input_ids

    def generate(self, input_ids: torch.Tensor, **_) -> torch.Tensor:
        ids_text = str(input_ids[0].tolist())
        (answer,) = (
            a
            for question, a in ANSWERS_BY_QUESTION.items()
            if str(self.ids(question)).strip("[]") in ids_text
        )
        return torch.cat((input_ids, torch.tensor([[*self.ids(answer), 3]])), dim=1)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vlm") / "noise"
    write_model(folder)
    return folder


@pytest.fixture
def fixed_answer_model(random_model, tmp_path, monkeypatch) -> Path:
    """Write a model folder for a model that answers each question with a fixed sentence."""
    folder, original_load = tmp_path / "taught", captions.load_caption_model

    def load_wrapped(model_folder: Path, device: str | None = None):
        processor, model = original_load(model_folder, device)
        return processor, FixedAnswerModel(processor, model) if model_folder == folder else model

    shutil.copytree(random_model, folder)
    monkeypatch.setattr(captions, "load_caption_model", load_wrapped)
    return folder


@pytest.fixture(scope="module")
def partly_captioned_takes(synthetic_takes, tmp_path_factory) -> Path:
    """Copy two takes, of which only one has a prompt."""
    takes_folder = tmp_path_factory.mktemp("silent")
    for number, take in enumerate(sorted(synthetic_takes.iterdir())[:2]):
        shutil.copytree(take, takes_folder / take.name)
        if number == 0:
            file = takes_folder / take.name / "meta.json"
            meta_content = read_json(file)
            write_json(file, {**meta_content, "prompt": ""})
    return takes_folder


def random_frames(seed: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (9, 32, 64, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def test_caption_paragraphs_answer_their_questions(fixed_answer_model):
    def section(mark: str, scene: str, action: str) -> str:
        return f"{mark} **Scene Overview:** {scene} **Action Analysis:** {action}"

    exo_section = section("[Exo view]", *ANSWERS[:2])
    assert (
        model_caption(fixed_answer_model, random_frames(0), random_frames(1))
        == f"{exo_section} {section('[Ego view]', *ANSWERS[2:4])}"
    )
    assert (
        model_caption(fixed_answer_model, random_frames(0), None)
        == f"{exo_section} {section('[Ego view]', *ANSWERS[4:])}"
    )


def test_endless_answers_are_refused(random_model):
    with refuses("without an end"):  # words without sense, for ever
        model_caption(random_model, random_frames(0), random_frames(1))


@pytest.mark.parametrize(
    "answer", ["", "box box box box box", "1 2 3 4 5 6", "a [Ego view] of two red boxes again"]
)
def test_bad_answers_are_refused_and_headings_removed(answer):
    caption = captions._checked_answer("**Scene Overview:** two red boxes lie here", "section")
    assert caption == "two red boxes lie here"
    with refuses("description"):
        captions._checked_answer(answer, "section")


def test_prepare_captions_takes_without_a_prompt(
    partly_captioned_takes, fixed_answer_model, random_model, tmp_path
):
    options = replace(SMALL_OPTIONS, caption_model=fixed_answer_model)
    records, _ = prepare_and_read(partly_captioned_takes, tmp_path / "set", options)
    records.sort(key=lambda record: record.take)
    assert [record.caption for record in records] == ["model", "source"]
    assert ANSWERS[3] in read_clip(tmp_path / "set", records[0]).take.notes.prompt
    assert prepare(partly_captioned_takes, tmp_path / "set", options, ALL_TRAIN).new == 0
    random_model_options = replace(SMALL_OPTIONS, caption_model=random_model)
    records, report = prepare_and_read(
        partly_captioned_takes, tmp_path / "noise", random_model_options
    )
    assert len(records) == 1 and "caption by noise" in report["skipped"][0]["why"]
    with refuses("config.json"):
        prepare(
            partly_captioned_takes,
            tmp_path / "none",
            replace(SMALL_OPTIONS, caption_model=tmp_path),
        )
    assert not (tmp_path / "none").exists()
