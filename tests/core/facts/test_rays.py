"""Test that depth along rays is z of the same maps, however the exo lens is given."""

import itertools

import numpy as np
import pytest
import torch

from egox_core.cameras import CameraModel
from egox_core.stages import align
from egox_core.takes import load_depth_file, read_meta
from tests.core.facts.pose_doors import write_json
from tests.frames_in_use import frames_in_use
from tests.refusals import refuses

SOURCE, COUNT = (160, 90), 3
LENS = CameraModel.pinhole(*SOURCE, 110.0)
FRAMES = {
    "native": frames_in_use(range(COUNT), SOURCE),
    "half": frames_in_use(range(COUNT), (80, 45), source_size=SOURCE),
    "cropped": frames_in_use(range(COUNT), (112, 80), source_size=SOURCE),
}
MAP_SIZES = {"native": SOURCE, "half": (80, 45)}
K = LENS.intrinsics
EXACT = {"exo_camera": LENS.to_json()}
LENS_GIVERS = {
    "camera": lambda folder: {"camera": LENS},
    "camera of twice the size": lambda folder: {"camera": LENS.rescale(320, 180)},
    "K": lambda folder: {"camera": K},
    "angle": lambda folder: {"fov_deg": view_deg(160)},
    "exo_camera": lambda folder: {"meta": meta_of(folder, EXACT)},
    "camera_intrinsics": lambda folder: {"meta": meta_of(folder, {})},
}


def view_deg(width: int) -> float:
    """Compute the angle that ``width`` px of the source's middle show."""
    return float(np.degrees(2 * np.arctan(width / 2 / LENS.fx)))


def meta_of(folder, more):
    content = {"camera_intrinsics": K.tolist(), "prompt": ""} | more
    return read_meta(write_json(folder / "meta.json", content))


def maps_of(size):
    """Make z of a slanted wall and the distances of the same points, [T, H, W] float32."""
    lens = LENS.rescale(*size)
    rows, columns = np.mgrid[: size[1], : size[0]]
    z = 3 + columns / size[0] + 0.5 * rows / size[1]
    z = np.broadcast_to(z, (COUNT, *z.shape)).astype(np.float32)
    return z, (z * lens.ray_lengths().numpy()).astype(np.float32)


def as_source(folder, form, name, values, **more):
    if form == "array":
        return values
    np.savez(folder / f"{name}.npz", depth=values, **more)
    return folder / f"{name}.npz"


@pytest.mark.parametrize(
    ("giver", "form", "frames", "map_size"),
    [
        *itertools.product(LENS_GIVERS, ["file", "array"], ["cropped"], ["half"]),
        *itertools.product(["camera"], ["file"], FRAMES, ["native"]),
    ],
)
def test_rays_are_z_of_the_same_maps(giver, form, frames, map_size, tmp_path):
    options = LENS_GIVERS[giver](tmp_path)
    if "fov_deg" in options:
        options["fov_deg"] = view_deg(FRAMES[frames].rectangle[2])
    z, rays = maps_of(MAP_SIZES[map_size])
    options["frames"] = FRAMES[frames]
    expected, _ = align(as_source(tmp_path, form, "z", z), **options)
    depth, _ = align(as_source(tmp_path, form, "rays", rays), declared="depth.kind=ray", **options)
    assert depth.exo.camera == expected.exo.camera
    difference_m = (depth.depth_m - expected.depth_m).abs()
    assert float(difference_m.nan_to_num(0).max()) < 1e-3
    assert torch.equal(depth.depth_m.isnan(), expected.depth_m.isnan())


@pytest.mark.parametrize("frames", FRAMES)
def test_rays_of_a_file_with_its_k_are_z(frames, tmp_path):
    z, rays = maps_of((80, 45))
    k = {"K": LENS.rescale(80, 45).intrinsics.numpy()}
    expected, _ = align(as_source(tmp_path, "file", "z", z, **k), frames=FRAMES[frames])
    file = as_source(tmp_path, "file", "rays", rays, **k)
    depth, _ = align(file, frames=FRAMES[frames], declared="depth.kind=ray")
    assert float((depth.depth_m - expected.depth_m).abs().nan_to_num(0).max()) < 1e-3
    # the depth's own camera serves where a caller reads the file by itself
    alone = load_depth_file(file, meta_of(tmp_path, {"declared": {"depth.kind": "ray"}}), None)
    assert float((alone.depth.depth_m - torch.from_numpy(z)).abs().max()) < 1e-3


@pytest.mark.parametrize("form", ["file", "array"])
def test_rays_without_a_lens_are_refused_and_the_remedies_work(form, tmp_path):
    z, rays = maps_of(SOURCE)
    depth = as_source(tmp_path, form, "rays", rays)
    with refuses("depth.kind: got ray, .*without a lens.*give camera, meta or fov_deg"):
        align(depth, declared="depth.kind=ray")
    for giver in ("camera", "exo_camera", "angle"):
        aligned, _ = align(depth, declared="depth.kind=ray", **LENS_GIVERS[giver](tmp_path))
        assert float((aligned.depth_m - torch.from_numpy(z)).abs().max()) < 1e-3


def test_a_sockets_depth_is_z(tmp_path):
    """Check that MoGe's maps stay z with every lens, and that rays are refused there."""
    z, _ = maps_of(SOURCE)
    normal_k = torch.tensor([[0.7, 0, 0.5], [0, 1.25, 0.5], [0, 0, 1]]).expand(COUNT, 3, 3)
    payload = {"depth": torch.from_numpy(z.copy()), "intrinsics": normal_k, "normal": torch.ones(1)}
    for give in LENS_GIVERS.values():
        options = give(tmp_path)
        depth, _ = align(sockets={"moge_geometry": payload}, **options)
        assert torch.equal(depth.depth_m, payload["depth"])
    with refuses("declared depth.kind: got a fact that these maps"):
        align(sockets={"moge_geometry": payload}, camera=LENS, declared="depth.kind=ray")
