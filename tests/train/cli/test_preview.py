"""Test ``run.py preview``: its files, report and error messages."""

import json
import shutil

import av
import numpy as np
import pytest

from egox_core.safe_files import read_json
from egox_core.stages import load_clip
from egox_core.types import UNOBSERVED
from egox_train.cli.preview import main
from egox_train.data.clip_files import read_all, read_classes
from egox_train.video_writer import write_video
from lab.drawn import SyntheticSpec, make_take, write_take

SPEC = SyntheticSpec(
    seed=4, frames=9, fps=5.0, exo_width=128, exo_height=64, ego_size=64, edge_samples=1
)


@pytest.fixture(scope="module")
def take_folder(tmp_path_factory):
    take_folder = tmp_path_factory.mktemp("takes") / "täke with a space"
    write_take(make_take(SPEC), take_folder)
    return take_folder


def test_preview_command_writes_preview_film_classes_and_report(take_folder, tmp_path, capsys):
    words = ["--take", str(take_folder), "--frames", "9", "--out", str(tmp_path)]
    assert main([*words, "--shading", "off", "--scale", "as-is"]) == 0
    preview = read_all(tmp_path / "preview.mp4", 9, (64, 64)).numpy()
    with av.open(str(tmp_path / "film.mp4")) as container:
        film = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert film.shape == (9, 16 + 64, 128 + 64 + 64 + 8, 3)
    classes = read_classes(tmp_path / "seen.mkv", 9, (64, 64)).numpy()
    unobserved_mask = classes == UNOBSERVED
    assert 0.02 < unobserved_mask.mean() < 0.9
    assert preview[unobserved_mask].mean() > 20, "filled, and still marked as unobserved"
    film_preview = film[:, 16:, -64:].astype(int)
    assert np.abs(film_preview - preview.astype(int)).mean() < 6
    report = read_json(tmp_path / "report.json")
    assert report["preset"] == "exact" and (report["shading"], report["gain"]) == ("off", 1.0)
    assert "(no model), walls guessed" in report["notes"][0] and "preview" in report["seconds"]
    assert "no model" in capsys.readouterr().out


def test_single_files_give_the_same_preview_as_their_take(take_folder, tmp_path):
    """Check both doors with a depth whose unit the meta.json declares."""
    take_folder = shutil.copytree(take_folder, tmp_path / "cm")
    with np.load(take_folder / "depth.npz") as arrays:
        values = dict(arrays)
    np.savez(take_folder / "depth.npz", **values | {"depth_m": 100 * values["depth_m"]})
    content = read_json(take_folder / "meta.json") | {"declared": {"depth.unit": "cm"}}
    (take_folder / "meta.json").write_text(json.dumps(content), "utf-8")
    alone = {"--video": "exo.mp4", "--depth": "depth.npz", "--ego-path": "meta.json"}
    for name in alone.values():
        shutil.copyfile(take_folder / name, tmp_path / f"own_{name}")
    words = [word for flag, name in alone.items() for word in (flag, str(tmp_path / f"own_{name}"))]
    options = ["--frames", "9", "--scale", "as-is", "--exo-lens", "as-given"]
    assert main([*words, *options, "--out", str(tmp_path / "files")]) == 0
    assert main(["--take", str(take_folder), *options, "--out", str(tmp_path / "take")]) == 0
    from_files, from_take = (
        read_classes(tmp_path / name / "seen.mkv", 9, (64, 64)).numpy()
        for name in ("files", "take")
    )
    assert np.array_equal(from_files, from_take)  # seen.mkv is lossless, unlike the mp4


def test_a_half_of_a_stereo_video_is_declared(take_folder, tmp_path):
    clip, _ = load_clip(take_folder / "exo.mp4", frame_count=9, one_shot=True)
    write_video(tmp_path / "pair.mp4", clip.exo.repeat(1, 1, 2, 1), 5.0)
    shutil.copy(take_folder / "depth.npz", tmp_path / "pair.npz")
    words = ["--video", str(tmp_path / "pair.mp4"), "--depth", str(tmp_path / "pair.npz")]
    words += ["--ego-path", str(take_folder / "meta.json"), "--frames", "1", "--fill", "haze"]
    words += ["--out", str(tmp_path / "out")]
    assert main(words) == 1  # the depth is of one half
    assert main([*words, "--declare", "exo.part=left"]) == 0


def test_rays_without_a_lens_name_the_angle_which_both_ways_give(take_folder, tmp_path, capsys):
    shutil.copy(take_folder / "exo.mp4", tmp_path)
    with np.load(take_folder / "depth.npz") as arrays:
        np.savez(tmp_path / "rays.npz", depth=arrays["depth_m"])
    poses = np.array(read_json(take_folder / "meta.json")["ego_extrinsics"])
    c2w = np.linalg.inv(np.concatenate([poses, np.tile(np.eye(4)[3:], (len(poses), 1, 1))], 1))
    np.save(tmp_path / "head.npy", c2w)
    files = {"--video": "exo.mp4", "--depth": "rays.npz", "--ego-path": "head.npy"}
    words = [word for flag, name in files.items() for word in (flag, str(tmp_path / name))]
    words += ["--frames", "1", "--fill", "haze", "--draw-anyway", "--out", str(tmp_path / "out")]
    words += ["--declare", "depth.kind=ray, ego.direction=c2w, ego.axes=opencv"]
    assert main(words) == 1
    assert "declare exo.fov_deg" in capsys.readouterr().err
    lenses = set()
    for angle in (["--declare", "exo.fov_deg=70"], ["--exo-fov", "70"]):
        assert main([*words, *angle]) == 0
        facts = read_json(tmp_path / "out" / "report.json")["facts"]
        lenses |= {row.partition(" (by")[0] for row in facts if row.startswith("exo.lens")}
    assert lenses == {"exo.lens: pinhole, focal length 91 px at 128 px width"}
