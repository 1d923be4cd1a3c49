"""Test declarations that are refused: wrong ones, and those that a door has no use for."""

import json
import re

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel, CameraPath
from egox_core.facts import Declared, StatedLens, ceiling_of, settle_lens
from egox_core.facts.table import FACTS
from egox_core.stages import align, path
from egox_core.takes import read_meta
from egox_core.types import DepthVideo
from tests.core.facts.test_table import COUNT, FRAMES, LENS
from tests.paths import ROOT
from tests.refusals import refuses

W2C = torch.eye(3, 4).double().repeat(COUNT, 1, 1)
DEPTH = torch.full((COUNT, LENS.height, LENS.width), 2.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ego.unit=stones", "ego.unit"),
        ("ego.unti=cm", "ego.unit"),
        ("depth.kind=disparity", "inverse"),
        ("ego.unit", "FACT=VALUE"),
        ("ego.unit=cm; ego.unit=m", "second time"),
        ("depth.far_m=-1", "positive"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_choices(text, named):
    with refuses(named):
        Declared.of(text)


@pytest.mark.parametrize(
    ("sources", "is_refused"),
    [
        ("depth meta", True),
        ("meta caller", True),
        ("file caller", True),
        ("meta file", False),
        ("caller model", False),
        ("meta angle", False),
        ("file guess", False),
    ],
)
def test_two_lenses_that_differ_are_refused_where_both_are_known(sources, is_refused):
    """Check the first source's lens against a longer one, and the row of those that may differ."""
    lenses = LENS, CameraModel.pinhole(LENS.width, LENS.height, 2 * LENS.fx)
    stated = [
        StatedLens(lens=lens, by=source, source=source)
        for lens, source in zip(lenses, sources.split(), strict=True)
    ]
    if is_refused:
        with refuses("leave camera out"):
            settle_lens(stated)
        return
    for each in (stated, stated[::-1]):
        chosen, row = settle_lens(each)
        assert chosen.lens == LENS
        assert bool(row.others) == ("guess" not in sources)


def test_a_declaration_that_the_source_has_no_use_for_is_refused(tmp_path):
    with refuses("ego.time_offset_s"):
        path(W2C, frames=FRAMES, declared="ego.time_offset_s=1")
    with refuses("ego.world_axes"):
        path(W2C, frames=FRAMES, declared="ego.world_axes=stored")
    file = tmp_path / "meta.json"
    file.write_text(json.dumps({"ego_extrinsics": W2C.tolist()}), "utf-8")
    with refuses("read_meta"):
        path(read_meta(file), frames=FRAMES, declared="ego.unit=cm")
    assert path(read_meta(file), frames=FRAMES)[0].facts
    relative = DepthVideo(depth_m=DEPTH, exo=CameraPath.of_exo(LENS))
    with refuses("depth.unit"):
        align(relative, declared="depth.unit=cm")
    for door, fact in (
        ("exo.unit", "exo.unit"),
        ("ego.unit", "ego.unit"),
        ("exo.part", "exo.part"),
    ):
        value = "left" if door == "exo.part" else "cm"
        with refuses(fact):
            align(DEPTH, camera=LENS, declared=f"{door}={value}")
    with refuses("give camera, meta or fov_deg"):
        align(DEPTH, declared="depth.kind=ray")


def test_where_whole_videos_are_read_a_part_is_refused_with_the_filter_that_cuts_it():
    Declared.of("exo.part=whole").check_whole_video("take")
    for part, words in (("left", "iw/2:ih:0:0"), ("right", "ih:iw/2:0"), ("mirrored", "hflip")):
        with refuses(words):
            Declared.of({"exo.part": part}).check_whole_video("take")


def test_declarations_are_separated_by_commas_semicolons_or_lines():
    declared = Declared.of(
        "depth.unit=cm, ego.world=take; ego.quaternion=wxyz\nego.time_factor=1e-9"
    )
    assert [value for _, (value, *_) in declared.declarations] == [0.01, "take", "wxyz", 1e-9]


def test_the_page_lists_every_fact_with_its_choices():
    page = (ROOT / "docs" / "conventions.md").read_text("utf-8")
    lines = page.split("## What a file leaves open")[1].split("\n## ")[0].splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    values_by_fact = {fact: row[1] for row in rows for fact in re.findall(r"`(.*?)`", row[0])}
    assert values_by_fact.keys() == FACTS.keys()
    for name, fact in FACTS.items():
        choices = {f"`{word}`" for word in re.findall(r"[a-z0-9]+", fact.expected)}
        if len(choices) > 1 and re.fullmatch(r"[a-z0-9]+(, [a-z0-9]+)*", fact.expected):
            assert choices == set(re.findall(r"`\w+`", values_by_fact[name])), name


@pytest.mark.parametrize(
    ("top", "share", "below", "is_ceiling"),
    [
        (65535, 0.01, 0.94, True),
        (4095, 0.01, 0.94, True),
        (2**31 - 1, 0.01, 0.9, True),
        (65535, 0.004, 0.94, False),  # specks
        (65535, 0.01, 0.96, True),  # a speck below it
        (4095, 0.01, 4090 / 4095, True),
        (65534, 0.01, 0.94, False),
        (511, 0.01, 0.94, False),  # too few steps
        (65535.5, 0.01, 0.94, False),
    ],
)
def test_the_largest_number_of_a_type_is_no_depth(top, share, below, is_ceiling):
    depth = np.full((100, 100), np.floor(0.5 * top), np.float32)
    depth[0, 0] = np.floor(below * top)
    depth.flat[1 : 1 + round(share * depth.size)] = top
    assert ceiling_of(depth) == (np.float32(top) if is_ceiling else None)
    wall = depth.copy()
    wall[10, :11] = np.floor(0.96 * top)  # that goes on, and is a tenth as common
    assert ceiling_of(wall) is None
    depth[50, 50], depth[50, 51] = 0.5, np.nan
    assert ceiling_of(depth) is None  # a map of other than whole numbers


@pytest.mark.parametrize(
    ("top", "step", "is_ceiling"),
    [
        (65535, 1 / 1000, True),
        (65535, 1 / 5000, True),
        (4095, 1 / 1000, True),
        (60000, 1 / 1000, False),
        (65535, 1.0001 / 1000, True),  # as scaled to metres
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_number_of_a_type_is_found_in_metres(top, step, is_ceiling, dtype):
    depth = np.random.default_rng(0).integers(1, int(0.9 * top), (120, 160)).astype(dtype)
    depth[:2], depth[3, :9] = top, np.nan
    maps = depth * dtype(step)
    found = ceiling_of(maps)
    assert found == (float(np.nanmax(maps)) if is_ceiling else None)
    maps[5, 6] = 1.00037 * step * 7.5  # between two steps, and not in the sample
    assert ceiling_of(maps) is None
    few_levels = np.where(depth < top / 2, np.float32(2), np.float32(10))
    assert ceiling_of(few_levels) is None


def test_a_number_for_nothing_is_none_in_maps_before_either(tmp_path):
    maps = np.full((COUNT, LENS.height, LENS.width), 2000, np.uint16)
    maps[0, 0, 0] = maps[3, :5] = maps[4, 7, 7] = 65535
    np.save(tmp_path / "depth.npy", maps)
    options = {"frames": FRAMES, "camera": LENS}
    depth, report = align(tmp_path / "depth.npy", declared="depth.unit=mm", **options)
    assert torch.equal(torch.isnan(depth.depth_m), torch.from_numpy(maps == 65535))
    assert "65535" in report.text() and "depth.far_m" in report.text()
    declared = "depth.unit=mm, depth.far_m=66"
    depth, _ = align(tmp_path / "depth.npy", declared=declared, **options)
    assert not torch.isnan(depth.depth_m).any()


def test_fields_of_a_meta_json_that_mean_a_fact_are_named(tmp_path):
    facts = {"units": "cm", "axisConvention": "opengl", "pose_scale": 2, "frameNumbers": [0]}
    other = {"fps": 30, "inside": 1, "upscaled": 2, "timescale": 3, "operator": "a", "seaside": 4}
    content = {"ego_extrinsics": W2C.tolist(), "camera_intrinsics": LENS.intrinsics.tolist()}
    file = tmp_path / "meta.json"
    for fields, named in ((facts, "axisConvention, frameNumbers, pose_scale, units"), (other, "")):
        file.write_text(json.dumps(content | fields | other), "utf-8")
        reports = (
            path(file, frames=FRAMES)[0].facts,
            path(read_meta(file), frames=FRAMES)[0].facts,
            align(DEPTH, meta=read_meta(file), frames=FRAMES)[1].facts,
        )
        for rows in reports:
            assert [row.value for row in rows if row.fact == "fields not read"] == [named][
                : len(named)
            ]
