"""Test settings that follow a LoRA's metadata."""

from egox_core.wan.lora_settings import contradictions, resolve_auto


def test_auto_settings_follow_the_lora_file():
    assert resolve_auto("rays", "auto", {"egox.rays": "exact"}) == "exact"
    assert resolve_auto("rays", "auto", {}) == "released"
    assert resolve_auto("hidden_lines", "auto", {}, fallback="draw") == "draw"
    file_settings = {"egox.hidden_lines": "leave out"}
    assert resolve_auto("hidden_lines", "auto", file_settings, fallback="draw") == "leave out"
    assert resolve_auto("rays", "pinhole", {"egox.rays": "exact"}) == "pinhole"


def test_modes_of_the_trainer_alone_become_released():
    lora_metadata = {
        "egox.mode": "trainer",
        "egox.rays": "trainer",
        "egox.lambda_g": "1",
        "egox.mask_mode": "trainer",
    }
    assert resolve_auto("rays", "auto", lora_metadata) == "released"
    assert resolve_auto("mask_mode", "auto", lora_metadata) == "trainer"
    assert (
        contradictions({"rays": "released", "lambda_g": 3.0, "mask_mode": "trainer"}, lora_metadata)
        == []
    )


def test_settings_that_differ_from_the_lora_are_named():
    lora_metadata = {"egox.mode": "paper", "egox.lambda_g": "1", "egox.gga_mode": "paper"}
    assert (
        contradictions({"lambda_g": 1.0, "gga_mode": "paper", "rays": "exact"}, lora_metadata) == []
    )
    assert contradictions({"lambda_g": 3.0, "gga_mode": "paper"}, lora_metadata) == [
        "the LoRA was trained with lambda_g 1, not 3.0"
    ]


def test_settings_of_a_newer_trainer_are_ignored():
    newer_metadata = {"egox.lambda_g": "learned", "egox.gga_mode": "newer", "egox.something": "new"}
    assert contradictions({"lambda_g": 3.0, "gga_mode": "released"}, newer_metadata) == []
    assert resolve_auto("gga_mode", "auto", newer_metadata) == "released"
