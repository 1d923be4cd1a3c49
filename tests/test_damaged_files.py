"""Readers of damaged files answer, or refuse in our words, soon. No bug is reported as damage.

``EGOX_SEED`` tries other damage than the committed seeds.
"""

import io
import json
import os
import random
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from egox_core.archives import open_member, open_zip
from egox_core.cameras.model import CameraModel
from egox_core.cameras.presets import preset_camera
from egox_core.errors import EgoXInputError
from egox_core.exchange.paths import export_path, import_path
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.frames import Frames
from egox_core.hands.files import read_hands, write_hands
from egox_core.page.uploads import contents, find_take_files, unpack_uploads
from egox_core.robots.robot_set import open_set
from egox_core.takes.depth_readers import open_depth
from egox_core.takes.meta import depth_camera, read_meta
from egox_core.trajectory.head_payloads import mhr_people, openpose_people
from egox_core.trajectory.head_points import choose_person
from egox_core.video.clip import open_clip
from egox_core.video.reader import decode_frames, probe_video
from egox_core.wan.lora_keys import convert_lora
from egox_train.data.cache_store import INDEX, CacheReader
from egox_train.data.captions import read_captions
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.gopro_calibs import COLUMNS
from egox_train.data.manifest import read_manifest, write_manifest
from egox_train.data.take_list import TAKE_LIST
from egox_train.takes.head_files import read_keypoints
from egox_train.takes.mask_files import find_mask, open_mask
from egox_train.wan.weights import file_metadata, weights_hash
from tests.core.robots.episodes import episode, hands
from tests.core.video.test_timing import tone, with_sound
from tests.damage import damaged
from tests.frames_in_use import frames_in_use
from tests.path_forms import FORMS, Poses
from tests.refusals import refuses
from tests.train.clip_record import clip_record
from tests.train.prepared_takes import EGO_POSE, EXO_POSE, write_egoexo4d, write_lamps
from tests.train.tiny_cache import make_cache

try:
    import OpenEXR
except ImportError:  # the extra `geometry`
    OpenEXR = None

SEED = int(os.environ.get("EGOX_SEED", "38"))
SECONDS = 10.0  # of processors; none may take more
CAMERA = preset_camera("aria_released", 64)
K = [[70.0, 0, 42], [0, 70.0, 24], [0, 0, 1]]
META = {
    "prompt": "x",
    "camera_intrinsics": K,
    "camera_extrinsics": EXO_POSE,
    "ego_intrinsics": K,
    "ego_extrinsics": [EGO_POSE] * 5,
    "ego_camera": CAMERA.to_json(),
    "exo_path": "a/take/exo.mp4",
}
KEYS = {
    "up": [0, -1, 0],
    "interpolation": "spline",
    "keyframes": [
        {"frame": i, "position": [0.1 * i, 0, 1], "yaw_deg": i, "pitch_deg": 0, "roll_deg": 0}
        for i in range(0, 20, 4)
    ],
}


def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    """Save arrays with one of numpy's functions, and return the bytes."""
    save(out := io.BytesIO(), *arrays, **named)
    return out.getvalue()


npz, npy = partial(saved, np.savez_compressed), partial(saved, np.save)


def png(dtype: type, value: int = 200) -> bytes:
    return cv2.imencode(".png", np.full((24, 42), value, dtype))[1].tobytes()


def text(content: object) -> bytes:
    return json.dumps(content).encode()


def written(make: Callable[[Path], object], folder: Path) -> dict[str, bytes]:
    """Read the files that ``make`` leaves, by their names below ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    make(folder)
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def lay_out(tree: dict[str, bytes], folder: Path) -> None:
    for file, content in tree.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def openpose(rng: np.random.Generator) -> list[dict]:
    return [
        {
            "canvas_width": 84,
            "canvas_height": 48,
            "people": [{"pose_keypoints_2d": rng.random(75).tolist()}],
        }
        for _ in range(3)
    ]


def lora() -> bytes:
    part = "transformer.blocks.0.attn1.to_q"
    return save(
        {
            f"{part}.lora_A.weight": torch.ones(2, 4),
            f"{part}.lora_B.weight": torch.ones(4, 2),
            f"{part}.alpha": torch.tensor(2.0),
        },
        {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 2, "transformer.r": 2})},
    )


def manifest(folder: Path) -> bytes:
    write_manifest(folder / "manifest.jsonl", [clip_record("a", files={})])
    return (folder / "manifest.jsonl").read_bytes()


def videos(folder: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi", "a.webm.mkv"):
        write_lamps(folder / name, (64, 32), [(20, 10)], 6, 10)


def heard_videos(folder: Path) -> None:
    for name, layout, codec in (
        ("a.mp4", "7.1", "aac"),
        ("a.mov", "7.1", "pcm_s16le"),
        ("a.mkv", "quad", "flac"),
        ("a.ts", "stereo", "mp2"),
        ("a.avi", "mono", "libmp3lame"),
    ):
        channels = {"mono": 1, "stereo": 2, "quad": 4}.get(layout, 8)
        with_sound(folder / name, tone(48000, channels), 48000, layout, codec)


def write_exrs(folder: Path) -> None:
    """Write colours and depth in layers, a window that is smaller, and two parts."""
    (folder / "d").mkdir()
    depth = np.ones((24, 42), np.float32)
    ends = (np.array([3, 2], np.int32), np.array([44, 25], np.int32))
    display_window = (np.zeros(2, np.int32), np.array([49, 29], np.int32))
    header = {"type": OpenEXR.scanlineimage, "dataWindow": ends, "displayWindow": display_window}
    channels = {"R": depth, "G": depth, "B": 2 * depth, "depth.Z": depth}
    parts = [OpenEXR.Part({**header, "name": f"part{i}"}, {**channels}) for i in range(2)]
    for number, packing in enumerate((OpenEXR.ZIP_COMPRESSION, OpenEXR.NO_COMPRESSION)):
        for part in parts:
            part.header["compression"] = packing
        with OpenEXR.File(parts[: number + 1]) as file:
            file.write(str(folder / "d" / f"{number}.exr"))


def seeds(folder: Path) -> dict[str, list[dict[str, bytes]]]:
    """Write small right inputs for each reader, each as files by name."""
    rng = np.random.default_rng(0)
    depth = (1 + rng.random((4, 24, 42))).astype(np.float16)
    moving = rng.random((4, 24, 42)) > 0.5
    solid = rng.random((3, 70, 3)).astype(np.float32)
    mhr = {
        "pred_keypoints_3d": solid,
        "pred_cam_t": np.ones((3, 3), np.float32),
        "focal_length": np.ones(3),
        "image_size": np.array([48, 84]),
    }
    movies = written(videos, folder / "videos")
    heard = written(heard_videos, folder / "sounds")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("take/depth.npz", npz(depth_m=depth))
        archive.writestr("take/meta.json", text(META))
    blender = {
        "w": 64,
        "h": 48,
        "fl_x": 50,
        "camera_angle_x": 0.8,
        "frames": [{"time": i / 5, "transform_matrix": np.eye(4).tolist()} for i in range(5)],
    }
    keyframes = {
        "format": "egox_trajectory",
        "version": 1,
        "camera": CAMERA.to_json(),
        "times_s": [i / 5 for i in range(5)],
        "w2c": [EGO_POSE] * 5,
        "exo_w2c": [EXO_POSE] * 5,
        "exo_camera": CameraModel(
            lens="pinhole", width=84, height=48, fx=70, fy=70, cx=42, cy=24
        ).to_json(),
        "meta_intrinsics": K,
        "confidence": [1.0] * 5,
    }
    colmap = {
        "cameras.txt": b"1 PINHOLE 64 48 50 50 32 24\n",
        "images.txt": "".join(f"{i} 1 0 0 0 0 0 {i} 1 a{i}.png\n\n" for i in range(1, 10)).encode(),
    }
    poses = Poses(np.eye(3, 4)[None].repeat(9, 0), np.array(K), (84, 48), 9.0)
    others = []
    for form in ("colmap binary", "tum", "chan", "gvhmr", "omnicam"):
        with TemporaryDirectory() as place:
            FORMS[form](Path(place), poses)
            others.append({file.name: file.read_bytes() for file in Path(place).iterdir()})
    row = "cam01,3840,2160,KANNALABRANDTK3,1700,1700,1920,1080,0,0,0,0,-1,-1,1"
    calibs = ",".join((*COLUMNS, "start_frame_idx", "end_frame_idx", "quality")) + f"\n{row}\n"
    aria = text(
        {
            "CameraCalibrations": [
                {
                    "Label": "camera-rgb",
                    "Projection": {
                        "Name": "FisheyeRadTanThinPrism",
                        "Params": [610, 704, 704, *[0.01] * 12],
                    },
                }
            ]
        }
    )
    dataset = written(lambda f: write_egoexo4d(f, "t1", frames=5), folder / "dataset") | {
        "takes/t1/trajectory/gopro_calibs.csv": calibs.encode(),
        "takes/t1/trajectory/online_calibration.jsonl": aria,
        TAKE_LIST: text(
            [{"take_name": "t1", "take_uid": "uid-t1", "task_start_sec": 0.0, "task_end_sec": 1.0}]
        ),
    }
    return {
        "sound": [{"f" + Path(name).suffix: content} for name, content in heard.items()],
        "video": [{"f" + Path(name).suffix: content} for name, content in movies.items()],
        "depth": [
            {"d.npz": npz(depth_m=depth, dynamic=moving)},
            {"d.npz": saved(np.savez, depth_m=depth, dynamic=moving)},
            {"d.npy": npy(depth)},
            {f"d/{i}.png": png(np.uint16) for i in range(3)},
            {f"d/{i}.npy": npy(depth[0]) for i in range(3)},
            *([] if OpenEXR is None else [written(write_exrs, folder / "exr")]),
        ],
        "mask": [
            {"m.npz": npz(mask=moving)},
            {f"m/{i}.png": png(np.uint8, 255) for i in range(3)},
        ],
        "meta": [
            {"meta.json": text(META)},
            {"meta.json": text({"test_datasets": [META, META]})},
            {
                "intrinsics/a.npz": npz(
                    data=np.tile([50.0, 50, 42, 24], (4, 1)), inds=np.arange(4)
                ),
                "pose/a.npz": npz(data=np.stack([np.eye(4)] * 4), inds=np.arange(4)),
            },
        ],
        "trajectory": [
            {"t.json": text(keyframes)},
            {"t.json": text(KEYS)},
            {"t.json": text(blender)},
            {"t.json": text(META)},
            colmap,
            *others,
        ],
        "editor": [
            {"t.json": text(KEYS)},
            {"t.json": text(keyframes)},
            {"t.json": text(blender)},
            colmap,
        ],
        "keypoints": [
            {"k.json": text(openpose(rng))},
            {"k.npz": npz(**mhr)},
            {f"k/{i}.json": text(openpose(rng)[0]) for i in range(3)},
        ],
        "payload": [
            {"openpose": text(openpose(rng))},
            {
                "mhr": text(
                    {
                        "image_size": [48, 84],
                        "frames": [
                            [{k: v[0].tolist() for k, v in mhr.items() if k != "image_size"}]
                        ],
                    }
                )
            },
        ],
        "hands": [written(lambda f: write_hands(hands(5), f / "hands.json"), folder / "hands")],
        "robots": [written(write_robots, folder / "robots")],
        "weights": [{"w.safetensors": lora()}],
        "cache": [written(lambda f: make_cache(f, clips=2), folder / "cache")],
        "lists": [
            {"manifest.jsonl": manifest(folder)},
            {"captions.json": text({"a": "x", "b": "y"})},
        ],
        "egoexo4d": [dataset],
        "upload": [
            {"take.zip": zipped.getvalue()},
            {"depth.npz": npz(depth_m=depth), "meta.json": text(META)},
        ],
    }


def read_videos(folder: Path) -> None:
    for file in folder.iterdir():
        info = probe_video(file)
        assert sum(1 for _ in decode_frames(file, info, list(range(min(8, info.frame_count)))))


def read_sounds(folder: Path) -> None:
    for file in folder.iterdir():
        sound = open_clip(file, frame_count=None).sound()
        assert sound is None or sound.waveform.isfinite().all()


def read_depth(folder: Path) -> None:
    for file in folder.iterdir():
        with open_depth(file) as depth:
            frames = list(depth.read(list(range(min(8, depth.numbering.count)))))
        assert all(frame.ndim == 2 and frame.dtype == np.float32 for frame, _ in frames)


def read_masks(folder: Path) -> None:
    mask = find_mask(folder, "m")
    with open_mask(mask) as frames:
        assert all(frame.ndim == 2 for frame in frames(list(range(min(8, mask.numbering.count)))))


def read_metas(folder: Path) -> None:
    for file in (folder / "meta.json", folder / "intrinsics" / "a.npz"):
        if file.is_file():
            depth_camera(read_meta(file, "0"), (84, 48))


def read_paths(folder: Path) -> None:
    path = max(folder.iterdir(), key=lambda file: file.name)  # not COLMAP's cameras
    assert torch.isfinite(read_trajectory(path, CAMERA)[0].ego.w2c).all()


def edit_paths(folder: Path) -> None:
    clip = Frames.stated([0, 1], [0.0, 0.4], 9)
    texts = {p.name: p.read_text("utf-8", errors="replace") for p in folder.iterdir()}
    document, _ = import_path(texts, CAMERA, clip)
    for form in ("meta", "blender", "colmap", "trajectory"):
        assert export_path(form, document, CAMERA, clip)[1]


def read_points(folder: Path) -> None:
    for path in folder.iterdir():
        assert len(read_keypoints(path, frames_in_use(range(5), (84, 48)), person=0).uv)


def read_payloads(folder: Path) -> None:
    """Read payloads as Python values, as sockets bring them."""
    readers = {"openpose": openpose_people, "mhr": mhr_people}
    for path in folder.iterdir():
        try:
            payload = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        assert np.isfinite(choose_person(readers[path.name](payload), index=0).uv).all()


def read_weights(folder: Path) -> None:
    file = folder / "w.safetensors"
    metadata = file_metadata(file, "weights")
    weights_hash(file)
    try:
        state = load_file(file)
    except (ValueError, OSError, SafetensorError):  # of the library, which loads after these checks
        return
    convert_lora(state, metadata)


def read_cache(folder: Path) -> None:
    reader = CacheReader(folder)
    for clip in reader.clips("train"):
        reader.tensors(clip, ["exo", "ego"])
    assert (folder / INDEX).is_file()


def read_lists(folder: Path) -> None:
    for file in folder.iterdir():
        read_manifest(file) if file.suffix == ".jsonl" else read_captions(file)


def read_dataset(folder: Path) -> None:
    skipped: list[tuple[str, str]] = []
    assert len(list(read_egoexo4d(folder, skipped))) + len(skipped) == 1


def take_upload(folder: Path) -> None:
    unpack_uploads(folder)
    find_take_files(contents(folder))


def write_robots(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="writes parquet")
    with open_set(folder) as robots:
        robots.append(episode(0))


def read_robots(folder: Path) -> None:
    with open_set(folder) as robots:
        assert len(robots) <= 1


READERS: dict[str, Callable[[Path], None]] = {
    "video": read_videos,
    "sound": read_sounds,
    "depth": read_depth,
    "mask": read_masks,
    "meta": read_metas,
    "trajectory": read_paths,
    "editor": edit_paths,
    "keypoints": read_points,
    "payload": read_payloads,
    "hands": lambda folder: read_hands(folder / "hands.json"),
    "robots": read_robots,
    "weights": read_weights,
    "cache": read_cache,
    "lists": read_lists,
    "egoexo4d": read_dataset,
    "upload": take_upload,
}


@pytest.fixture(scope="module")
def intact_files(tmp_path_factory) -> dict[str, list[dict[str, bytes]]]:
    return seeds(tmp_path_factory.mktemp("seeds"))


def run_damaged(
    reader: str, files: list[dict[str, bytes]], folder: Path, count: int, seed: int
) -> list[str]:
    """List the files that ended in another exception than ours, or took too long: seed, kind of
    error, and place."""
    wrong = []
    for number in range(count):
        name = f"{seed}:{reader}:{number}"
        rng = random.Random(name)
        shutil.rmtree(folder, ignore_errors=True)
        tree = dict(rng.choice(files))
        target = rng.choice(list(tree))
        tree[target] = damaged(tree[target], rng)
        lay_out(tree, folder)
        start = time.process_time()
        try:
            READERS[reader](folder)
        except EgoXInputError:
            pass
        except Exception as error:  # all others are what is looked for
            last = error.__traceback__
            while last.tb_next is not None:
                last = last.tb_next
            place = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}"
            wrong.append(f"{name} {target} {type(error).__name__} {place}: {error!s:.120}")
        if (seconds := time.process_time() - start) > SECONDS:
            wrong.append(f"{name} {target}: {seconds:.1f} s")
    return wrong


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused_in_our_words(reader, intact_files, tmp_path):
    for number, tree in enumerate(intact_files[reader]):  # or the damage would not be what is tried
        folder = tmp_path / f"intact {number}"
        lay_out(tree, folder)
        READERS[reader](folder)
    assert run_damaged(reader, intact_files[reader], tmp_path / "files", 24, SEED) == []


@pytest.mark.parametrize("error", [AttributeError, TypeError, KeyError])
@pytest.mark.parametrize(
    "reader, place",
    [
        ("video", "egox_core.video.reader._shown_picture"),
        ("depth", "egox_core.takes.depth_readers._check_shape"),
        ("mask", "egox_train.takes.mask_files._array_header"),
        ("meta", "egox_core.takes.meta.validate_w2c"),
        ("trajectory", "egox_core.exchange.blender._camera_of"),
        ("keypoints", "egox_core.trajectory.head_payloads._hide_far_points"),
        ("egoexo4d", "egox_train.data.egoexo4d._ego_poses"),
        ("weights", "egox_core.wan.weights._is_entry"),
    ],
)
def test_a_bug_of_ours_is_not_told_as_damage(
    reader, place, error, intact_files, tmp_path, monkeypatch
):
    def broken(*_, **__):
        raise error("planted")

    monkeypatch.setattr(place, broken)
    met = 0
    for number, tree in enumerate(intact_files[reader]):
        folder = tmp_path / str(number)
        lay_out(tree, folder)
        try:
            READERS[reader](folder)
        except error as met_error:
            assert "planted" in str(met_error)
            met += 1
    assert met > 0


def test_damaged_compressed_frames_are_named(tmp_path):
    """Deflate fails in the middle of a read, after header and directory were found to be right."""
    content = bytearray(npz(depth_m=np.random.default_rng(0).random((4, 64, 64))))
    content[4000:4040] = bytes(40)
    (tmp_path / "d.npz").write_bytes(content)
    with refuses("depth d.npz: got damaged data"), open_depth(tmp_path / "d.npz") as depth:
        list(depth.read([0, 1, 2, 3]))
    with open_zip(tmp_path / "d.npz") as archive, pytest.raises((zlib.error, zipfile.BadZipFile)):
        archive.read("depth_m.npy")
    with (
        open_zip(tmp_path / "d.npz") as archive,
        refuses("the array"),
        open_member(archive, "depth_m.npy", "the array") as stream,
    ):
        stream.read()
