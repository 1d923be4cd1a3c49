"""The raw exo lens of Ego-Exo4D: from its table, from the annotation, and against the wearer's picked head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from egox_core.cameras.model import project, rescale, unproject
from egox_core.data.egoexo4d import read_egoexo4d
from egox_core.data.gopro_calibs import read_gopro_calibs
from egox_core.errors import EgoXInputError
from egox_core.trajectory.poses import camera_centre, transform

PICTURE = (796, 448)  # the downscaled videos
HEADER = ("cam_uid,graph_uid,tx_world_cam,ty_world_cam,tz_world_cam,qx_world_cam,qy_world_cam,qz_world_cam,"
          "qw_world_cam,image_width,image_height,intrinsics_type," + ",".join(f"intrinsics_{i}" for i in range(8))
          + ",start_frame_idx,end_frame_idx,quality")
POSE = "g,0,0,0,0,0,0,1"


def row(name: str, focal: float, frames: tuple[int, int] = (-1, -1), quality: float = 1,
        lens: str = "KANNALABRANDTK3") -> str:
    return (f" {name},{POSE},3840,2160,{lens},{focal},{focal},1920,1080,0.03,0.05,-0.05,0.01,{frames[0]},{frames[1]},"
            f"{quality}")


def write_table(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((HEADER, *rows)) + "\n", encoding="utf-8")
    return path


def test_the_table_gives_good_rows_and_names_the_others(tmp_path: Path) -> None:
    notes: list[str] = []
    table = read_gopro_calibs(write_table(
        tmp_path / "gopro_calibs.csv", row("cam01", 1761.28), row("cam02", 1700, quality=0), row("cam03", 1750, (0, 9)),
        row("cam03", 1755, (20, 90)), row("cam04", 1700, lens="PINHOLE"), row("cam05", 1700, (9, 3))), notes)
    assert set(table) == {"cam01", "cam03"} and table["cam01"].frames is None
    assert table["cam01"].camera.fx == 1761.28 and table["cam01"].camera.distortion == (0.03, 0.05, -0.05, 0.01)
    assert table["cam03"].frames == (20, 90) and table["cam03"].camera.fx == 1755  # the longer stretch
    said = " ".join(notes)
    assert "cam02" in said and "quality 0" in said and "PINHOLE" in said and "frames 9 to 3" in said


def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(EgoXInputError, match="no column cam_uid"):
        read_gopro_calibs(tmp_path / "x.csv", [])


@pytest.fixture(scope="module")
def raw_folder(shared_dir: Path) -> Path:
    folder = shared_dir / "data" / "egoexo4d_raw"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/egoexo4d_raw, a take in the dataset's own layout")
    return folder


def test_the_picked_head_lies_where_the_exact_lens_sees_it(raw_folder: Path) -> None:
    """The glasses' camera against the glasses picked by eye, px of the downscaled pictures; 56.6 with K as the lens.

    What is left is the few cm between the picked bridge and the camera, tracking, and the picks' own 3 px.
    """
    (take,) = read_egoexo4d(raw_folder, [])
    picks = json.loads((raw_folder / "head_picks.json").read_text(encoding="utf-8"))
    squares, rays = [], {}
    for view in take.exos:
        camera = rescale(view.camera, *PICTURE)
        for frame, pick in picks.get(view.name, {}).items():
            head, pixel = camera_centre(take.ego_w2c[int(frame)]), torch.tensor(pick, dtype=torch.float64)
            uv, _ = project(camera, transform(view.w2c, head[None]))
            squares.append(float((uv[0] - pixel).square().sum()))
            ray, _ = unproject(camera, pixel)
            rays.setdefault(int(frame), []).append((camera_centre(view.w2c), view.w2c[:, :3].T @ ray))
    assert (sum(squares) / len(squares)) ** 0.5 < 25
    met = 0
    for frame, seen in rays.items():
        if len(seen) < 2:
            continue
        met += 1
        across = [torch.eye(3, dtype=torch.float64) - torch.outer(ray, ray) for _, ray in seen]
        meeting = torch.linalg.solve(sum(across), sum(a @ c for a, (c, _) in zip(across, seen, strict=True)))
        assert float((meeting - camera_centre(take.ego_w2c[frame])).norm()) < 0.25
    assert met >= 2


def test_the_takes_own_table_goes_first_and_as_given_is_a_pinhole(raw_folder: Path, takes, tmp_path: Path) -> None:
    source = takes.copy_raw(raw_folder, tmp_path / "raw", lambda content: None)
    (derived,) = read_egoexo4d(source, [])
    write_table(source / "takes" / derived.name / "trajectory" / "gopro_calibs.csv", row("cam01", 1700, (30, 60)),
                row("cam02", 1700, quality=0))
    (take,) = read_egoexo4d(source, [])
    views, before = {v.name: v for v in take.exos}, {v.name: v for v in derived.exos}
    assert views["cam01"].camera.fx == 1700 and views["cam02"].camera == before["cam02"].camera
    known = views["cam01"].known(torch.ones(100, dtype=torch.bool)).nonzero().flatten()
    assert (int(known[0]), int(known[-1])) == (30, 60)
    assert any("cam02" in note and "quality 0" in note for note in take.notes)
    (given,) = read_egoexo4d(source, [], "as given")
    assert all(v.camera.lens == "pinhole" and 1200 < v.camera.fx < 1300 and v.frames is None for v in given.exos)
    assert all(1740 < v.camera.fx < 1790 for v in derived.exos)
