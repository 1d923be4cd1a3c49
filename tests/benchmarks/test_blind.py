"""The blind look: the right truth is among the four, no sheet says which, and picks are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import blind as bench
from benchmarks.support import record as _record
from egox_core.errors import EgoXInputError
from lab.drawn import SyntheticSpec, make_take
from lab.small_model.held_out import clip_of_take

SPEC = SyntheticSpec(frames=5, fps=5.0, exo_width=64, exo_height=32, ego_size=32, texture="plain", clutter="calm",
                     edge_samples=1)


def test_sheets_are_drawn_and_picks_counted(tmp_path: Path, capsys: pytest.CaptureFixture,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [clip_of_take(make_take(replace(SPEC, seed=seed))) for seed in range(1, 6)]
    videos = {number: clip.truth.numpy() for number, clip in enumerate(clips)}
    answers = bench.write_sheets(tmp_path, clips, videos)
    assert len(answers) == 5 and len(set(answers)) > 1 and len(list(tmp_path.glob("take_*.png"))) == 5
    picture = bench.frames_picture(clips, videos)
    rows = np.split(picture, 2 * bench.SHOWN)  # nothing but the label tells the model's frames, here true ones
    assert all((model[20:] == truth[20:]).all() for model, truth in zip(rows[::2], rows[1::2], strict=True))
    monkeypatch.setattr(_record, "RESULTS", tmp_path)
    wrong = next(letter for letter in bench.LETTERS if letter != answers[4])
    assert bench.main(["--work", str(tmp_path), "--json", "--save", "--picks", *answers[:4], wrong]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["right"] == 4 and told["by_chance"] == pytest.approx(1 / 4**5 + 5 * 3 / 4**5)
    with pytest.raises(EgoXInputError, match="5 letters"):
        bench.score(["A"], answers)
    with pytest.raises(EgoXInputError, match="at least 4"):
        bench.write_sheets(tmp_path, clips[:3], {})
