"""Test sweeps of settings: lists of numbers, pairs, and refused input."""

from egox_core.metrics.sweep import MAX_POINTS, SweepPoint, read_numbers, sweep_points
from tests.refusals import refuses


def test_lists_of_numbers_are_read():
    assert read_numbers(" 0, 1;3  0.5, 1.0", "x") == (0.0, 1.0, 3.0, 0.5), (
        "each once, in their order"
    )
    for wrong_text in ("", " , ", "1, two", "nan", "1, inf"):
        with refuses("for instance 0, 1, 3"):
            read_numbers(wrong_text, "x")


def test_sweep_points_are_every_pair_once():
    sweep_settings = sweep_points("0, 1, 3", "0.5 1")
    assert [(point.strength, point.lambda_g) for point in sweep_settings] == [
        (0.5, 0),
        (0.5, 1),
        (0.5, 3),
        (1, 0),
        (1, 1),
        (1, 3),
    ]
    assert (
        sweep_settings[2].label
        == SweepPoint(lambda_g=3.0, strength=0.5).label
        == "lambda_g 3, LoRA 0.5"
    )


def test_too_large_and_negative_sweeps_are_refused():
    with refuses(f"at most {MAX_POINTS}"):
        sweep_points(" ".join(map(str, range(13))), "0 1 2 3 4")
    with refuses("0 or more"):
        sweep_points("-1", "1")
