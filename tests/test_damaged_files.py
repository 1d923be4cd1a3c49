"""Test that readers of damaged files neither crash nor hang.

``EGOX_SEED`` tries other damage than the committed seeds.
"""

import io
import json
import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from egox_core.cameras.presets import preset_camera
from egox_core.errors import EgoXInputError
from egox_core.exchange.paths import export_path, import_path
from egox_core.exchange.trajectory_files import read_trajectory
from egox_core.frames import Frames
from egox_core.hands.files import read_hands, write_hands
from egox_core.page.uploads import contents, find_take_files, unpack_uploads
from egox_core.robots.robot_set import open_set
from egox_core.takes.depth_readers import open_depth
from egox_core.takes.meta import read_meta
from egox_core.takes.take_cameras import meta_lens
from egox_core.trajectory.head_payloads import mhr_people, openpose_people
from egox_core.trajectory.head_points import choose_person
from egox_core.video import decode_frames, probe_video
from egox_core.video.clip import open_clip
from egox_core.wan.lora_conversion import convert_lora
from egox_train.data.cache_store import INDEX_FILE, CacheReader
from egox_train.data.captions import read_captions
from egox_train.data.egoexo4d import read_egoexo4d
from egox_train.data.gopro_calibs import COLUMNS
from egox_train.data.manifest import read_manifest, write_manifest
from egox_train.data.take_list import TAKE_LIST
from egox_train.takes.head_files import read_keypoints
from egox_train.takes.mask_files import find_mask, open_mask
from egox_train.wan.weights import file_metadata, weights_hash
from tests.core.robots.episodes import make_episode, moving_hands
from tests.core.video.test_timing import sine_tone, write_video_with_sound
from tests.damage import damage_content
from tests.frames_in_use import frames_in_use
from tests.path_forms import FORMS, Poses
from tests.paths import read_folder_files
from tests.train.clip_record import clip_record
from tests.train.prepared_takes import EGO_POSE, EXO_POSE, write_egoexo4d, write_lamps
from tests.train.tiny_cache import make_cache

try:
    import OpenEXR
except ImportError:  # the extra `geometry`
    OpenEXR = None

SEED = int(os.environ.get("EGOX_SEED", "38"))
MAX_CPU_SECONDS = 10.0  # of processors; none may take more
EGO_CAMERA = preset_camera("aria_released", 64)
EXO_INTRINSICS = [[70.0, 0, 42], [0, 70.0, 24], [0, 0, 1]]
META_CONTENT = {
    "prompt": "x",
    "camera_intrinsics": EXO_INTRINSICS,
    "camera_extrinsics": EXO_POSE,
    "ego_intrinsics": EXO_INTRINSICS,
    "ego_extrinsics": [EGO_POSE] * 5,
    "ego_camera": EGO_CAMERA.to_json(),
    "exo_path": "a/take/exo.mp4",
}
KEYFRAMES = {
    "up": [0, -1, 0],
    "interpolation": "spline",
    "keyframes": [
        {"frame": i, "position": [0.1 * i, 0, 1], "yaw_deg": i, "pitch_deg": 0, "roll_deg": 0}
        for i in range(0, 20, 4)
    ],
}


def saved_bytes(
    save_arrays: Callable[..., None], *arrays: np.ndarray, **named_arrays: np.ndarray
) -> bytes:
    """Save arrays in one of numpy's file formats, and return the file's bytes."""
    save_arrays(buffer := io.BytesIO(), *arrays, **named_arrays)
    return buffer.getvalue()


npz_bytes, npy_bytes = partial(saved_bytes, np.savez_compressed), partial(saved_bytes, np.save)


def png_bytes(dtype: type, value: int = 200) -> bytes:
    return cv2.imencode(".png", np.full((24, 42), value, dtype))[1].tobytes()


def json_bytes(content: object) -> bytes:
    return json.dumps(content).encode()


def read_written_files(write_files: Callable[[Path], object], folder: Path) -> dict[str, bytes]:
    """Read the files that a function writes into a folder, by relative path."""
    folder.mkdir()
    write_files(folder)
    return read_folder_files(folder)


def write_tree(tree: dict[str, bytes], folder: Path) -> None:
    for file_name, content in tree.items():
        (folder / file_name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file_name).write_bytes(content)


def random_openpose(rng: np.random.Generator) -> list[dict]:
    return [
        {
            "canvas_width": 84,
            "canvas_height": 48,
            "people": [{"pose_keypoints_2d": rng.random(75).tolist()}],
        }
        for _ in range(3)
    ]


def lora_bytes() -> bytes:
    layer = "transformer.blocks.0.attn1.to_q"
    return save(
        {
            f"{layer}.lora_A.weight": torch.ones(2, 4),
            f"{layer}.lora_B.weight": torch.ones(4, 2),
            f"{layer}.alpha": torch.tensor(2.0),
        },
        {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 2, "transformer.r": 2})},
    )


def manifest_bytes(folder: Path) -> bytes:
    write_manifest(folder / "manifest.jsonl", [clip_record("a", files={})])
    return (folder / "manifest.jsonl").read_bytes()


def write_test_videos(folder: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.avi", "a.webm.mkv"):
        write_lamps(folder / name, (64, 32), [(20, 10)], 6, 10)


def write_sound_videos(folder: Path) -> None:
    for name, layout, codec in (
        ("a.mp4", "7.1", "aac"),
        ("a.mov", "7.1", "pcm_s16le"),
        ("a.mkv", "quad", "flac"),
        ("a.ts", "stereo", "mp2"),
        ("a.avi", "mono", "libmp3lame"),
    ):
        channels = {"mono": 1, "stereo": 2, "quad": 4}.get(layout, 8)
        write_video_with_sound(folder / name, sine_tone(48000, channels), 48000, layout, codec)


def write_exrs(folder: Path) -> None:
    """Write small OpenEXR files with colour and depth layers."""
    (folder / "d").mkdir()
    depth = np.ones((24, 42), np.float32)
    data_window = (np.array([3, 2], np.int32), np.array([44, 25], np.int32))
    display_window = (np.zeros(2, np.int32), np.array([49, 29], np.int32))
    exr_header = {
        "type": OpenEXR.scanlineimage,
        "dataWindow": data_window,
        "displayWindow": display_window,
    }
    channels = {"R": depth, "G": depth, "B": 2 * depth, "depth.Z": depth}
    exr_parts = [OpenEXR.Part({**exr_header, "name": f"part{i}"}, {**channels}) for i in range(2)]
    for compression_index, compression in enumerate(
        (OpenEXR.ZIP_COMPRESSION, OpenEXR.NO_COMPRESSION)
    ):
        for part in exr_parts:
            part.header["compression"] = compression
        with OpenEXR.File(exr_parts[: compression_index + 1]) as file:
            file.write(str(folder / "d" / f"{compression_index}.exr"))


def intact_examples(folder: Path) -> dict[str, list[dict[str, bytes]]]:
    """Write small valid input files for each reader, and return their bytes by name."""
    rng = np.random.default_rng(0)
    depth_maps = (1 + rng.random((4, 24, 42))).astype(np.float16)
    dynamic_mask = rng.random((4, 24, 42)) > 0.5
    points_3d = rng.random((3, 70, 3)).astype(np.float32)
    mhr_arrays = {
        "pred_keypoints_3d": points_3d,
        "pred_cam_t": np.ones((3, 3), np.float32),
        "focal_length": np.ones(3),
        "image_size": np.array([48, 84]),
    }
    video_files = read_written_files(write_test_videos, folder / "videos")
    sound_files = read_written_files(write_sound_videos, folder / "sounds")
    zip_buffer = io.BytesIO()
    with zipfile.ZipFile(zip_buffer, "w") as archive:
        archive.writestr("take/depth.npz", npz_bytes(depth_m=depth_maps))
        archive.writestr("take/meta.json", json_bytes(META_CONTENT))
    w2c = np.eye(3, 4)[None].repeat(9, 0)
    camera_poses = Poses(w2c, np.array(EXO_INTRINSICS), (84, 48), 9.0, w2c)
    pose_files = {
        form: read_written_files(partial(FORMS[form], path=camera_poses), folder / form)
        for form in FORMS.keys() - {"vipe"}
    }
    csv_row = "cam01,3840,2160,KANNALABRANDTK3,1700,1700,1920,1080,0,0,0,0,-1,-1,1"
    calibration_csv = (
        ",".join((*COLUMNS, "start_frame_idx", "end_frame_idx", "quality")) + f"\n{csv_row}\n"
    )
    aria_calibration = json_bytes(
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
    dataset_files = read_written_files(
        lambda f: write_egoexo4d(f, "t1", frames=5), folder / "dataset"
    ) | {
        "takes/t1/trajectory/gopro_calibs.csv": calibration_csv.encode(),
        "takes/t1/trajectory/online_calibration.jsonl": aria_calibration,
        TAKE_LIST: json_bytes(
            [{"take_name": "t1", "take_uid": "uid-t1", "task_start_sec": 0.0, "task_end_sec": 1.0}]
        ),
    }
    return {
        "sound": [{"f" + Path(name).suffix: content} for name, content in sound_files.items()],
        "video": [{"f" + Path(name).suffix: content} for name, content in video_files.items()],
        "depth": [
            {"d.npz": npz_bytes(depth_m=depth_maps, dynamic=dynamic_mask)},
            {"d.npz": saved_bytes(np.savez, depth_m=depth_maps, dynamic=dynamic_mask)},
            {"d.npy": npy_bytes(depth_maps)},
            {f"d/{i}.png": png_bytes(np.uint16) for i in range(3)},
            {f"d/{i}.npy": npy_bytes(depth_maps[0]) for i in range(3)},
            *([] if OpenEXR is None else [read_written_files(write_exrs, folder / "exr")]),
        ],
        "mask": [
            {"m.npz": npz_bytes(mask=dynamic_mask)},
            {f"m/{i}.png": png_bytes(np.uint8, 255) for i in range(3)},
        ],
        "meta": [
            {"meta.json": json_bytes(META_CONTENT)},
            {"meta.json": json_bytes({"test_datasets": [META_CONTENT, META_CONTENT]})},
            {
                "intrinsics/a.npz": npz_bytes(
                    data=np.tile([50.0, 50, 42, 24], (4, 1)), inds=np.arange(4)
                ),
                "pose/a.npz": npz_bytes(data=np.stack([np.eye(4)] * 4), inds=np.arange(4)),
            },
        ],
        "trajectory": [
            {"t.json": json_bytes(KEYFRAMES)},
            *(pose_files[form] for form in sorted(pose_files)),
        ],
        "editor": [
            {"t.json": json_bytes(KEYFRAMES)},
            *(pose_files[form] for form in ("ours", "transforms", "colmap text")),
        ],
        "keypoints": [
            {"k.json": json_bytes(random_openpose(rng))},
            {"k.npz": npz_bytes(**mhr_arrays)},
            {f"k/{i}.json": json_bytes(random_openpose(rng)[0]) for i in range(3)},
        ],
        "payload": [
            {"openpose": json_bytes(random_openpose(rng))},
            {
                "mhr": json_bytes(
                    {
                        "image_size": [48, 84],
                        "frames": [
                            [{k: v[0].tolist() for k, v in mhr_arrays.items() if k != "image_size"}]
                        ],
                    }
                )
            },
        ],
        "hands": [
            read_written_files(
                lambda f: write_hands(moving_hands(5), f / "hands.json"), folder / "hands"
            )
        ],
        "robots": [read_written_files(write_robots, folder / "robots")],
        "weights": [{"w.safetensors": lora_bytes()}],
        "cache": [read_written_files(lambda f: make_cache(f, clips=2), folder / "cache")],
        "lists": [
            {"manifest.jsonl": manifest_bytes(folder)},
            {"captions.json": json_bytes({"a": "x", "b": "y"})},
        ],
        "egoexo4d": [dataset_files],
        "upload": [
            {"take.zip": zip_buffer.getvalue()},
            {"depth.npz": npz_bytes(depth_m=depth_maps), "meta.json": json_bytes(META_CONTENT)},
        ],
    }


def read_videos(folder: Path) -> None:
    for file in folder.iterdir():
        video_info = probe_video(file)
        assert sum(
            1 for _ in decode_frames(file, video_info, list(range(min(8, video_info.frame_count))))
        )


def read_sounds(folder: Path) -> None:
    for file in folder.iterdir():
        sound = open_clip(file, frame_count=None).sound()
        assert sound is None or sound.waveform.isfinite().all()


def read_depth(folder: Path) -> None:
    for file in folder.iterdir():
        with open_depth(file) as depth:
            depth_maps = list(depth.read(list(range(min(8, depth.numbering.count)))))
        assert all(frame.ndim == 2 and frame.dtype == np.float32 for frame, _ in depth_maps)


def read_masks(folder: Path) -> None:
    mask_file = find_mask(folder, "m")
    with open_mask(mask_file) as read_frames:
        assert all(
            frame.ndim == 2 for frame in read_frames(list(range(min(8, mask_file.numbering.count))))
        )


def read_meta_files(folder: Path) -> None:
    for file in (folder / "meta.json", folder / "intrinsics" / "a.npz"):
        if file.is_file():
            meta_lens(read_meta(file, "0"), (84, 48), Frames.of_count(1))


def read_pose_files(folder: Path) -> None:
    pose_file = max(folder.iterdir(), key=lambda file: file.name)  # not COLMAP's cameras
    assert torch.isfinite(read_trajectory(pose_file, EGO_CAMERA)[0].ego.w2c).all()


def export_pose_files(folder: Path) -> None:
    clip = Frames.stated([0, 1], [0.0, 0.4], 9)
    texts_by_name = {p.name: p.read_text("utf-8", errors="replace") for p in folder.iterdir()}
    keyframe_document, _ = import_path(texts_by_name, EGO_CAMERA, clip)
    for form in ("meta", "blender", "colmap", "trajectory"):
        assert export_path(form, keyframe_document, EGO_CAMERA, clip)[1]


def read_keypoint_files(folder: Path) -> None:
    for path in folder.iterdir():
        assert len(read_keypoints(path, frames_in_use(range(5), (84, 48)), person=0).uv)


def read_payloads(folder: Path) -> None:
    """Read a file of head detections as the values that a ComfyUI node would pass."""
    readers = {"openpose": openpose_people, "mhr": mhr_people}
    for path in folder.iterdir():
        try:
            payload = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        assert np.isfinite(choose_person(readers[path.name](payload), index=0).uv).all()


def read_weights(folder: Path) -> None:
    weight_file = folder / "w.safetensors"
    metadata = file_metadata(weight_file, "weights")
    weights_hash(weight_file)
    try:
        weight_tensors = load_file(weight_file)
    except (ValueError, OSError, SafetensorError):  # of the library, which loads after these checks
        return
    convert_lora(weight_tensors, metadata)


def read_cache(folder: Path) -> None:
    cache_reader = CacheReader(folder)
    for clip in cache_reader.clips("train"):
        cache_reader.tensors(clip, ["exo", "ego"])
    assert (folder / INDEX_FILE).is_file()


def read_lists(folder: Path) -> None:
    for file in folder.iterdir():
        read_manifest(file) if file.suffix == ".jsonl" else read_captions(file)


def read_egoexo4d_dataset(folder: Path) -> None:
    skipped_takes: list[tuple[str, str]] = []
    assert len(list(read_egoexo4d(folder, skipped_takes))) + len(skipped_takes) == 1


def unpack_upload(folder: Path) -> None:
    unpack_uploads(folder)
    find_take_files(contents(folder))


def write_robots(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="writes parquet")
    with open_set(folder) as robot_set:
        robot_set.append(make_episode(0))


def read_robots(folder: Path) -> None:
    with open_set(folder) as robot_set:
        assert len(robot_set) <= 1


READERS: dict[str, Callable[[Path], None]] = {
    "video": read_videos,
    "sound": read_sounds,
    "depth": read_depth,
    "mask": read_masks,
    "meta": read_meta_files,
    "trajectory": read_pose_files,
    "editor": export_pose_files,
    "keypoints": read_keypoint_files,
    "payload": read_payloads,
    "hands": lambda folder: read_hands(folder / "hands.json"),
    "robots": read_robots,
    "weights": read_weights,
    "cache": read_cache,
    "lists": read_lists,
    "egoexo4d": read_egoexo4d_dataset,
    "upload": unpack_upload,
}


@pytest.fixture(scope="module")
def intact_files(tmp_path_factory) -> dict[str, list[dict[str, bytes]]]:
    return intact_examples(tmp_path_factory.mktemp("seeds"))


def list_failures(
    reader_name: str, examples: list[dict[str, bytes]], folder: Path, count: int, seed: int
) -> list[str]:
    """List the damaged files that made a reader hang or crash."""
    failures = []
    for case_number in range(count):
        case_name = f"{seed}:{reader_name}:{case_number}"
        rng = random.Random(case_name)
        shutil.rmtree(folder, ignore_errors=True)
        damaged_example = dict(rng.choice(examples))
        damaged_name = rng.choice(list(damaged_example))
        damaged_example[damaged_name] = damage_content(damaged_example[damaged_name], rng)
        write_tree(damaged_example, folder)
        start_seconds = time.process_time()
        try:
            READERS[reader_name](folder)
        except EgoXInputError:
            pass
        except Exception as error:  # all others are what is looked for
            last_frame = error.__traceback__
            while last_frame.tb_next is not None:
                last_frame = last_frame.tb_next
            location = f"{Path(last_frame.tb_frame.f_code.co_filename).name}:{last_frame.tb_lineno}"
            failures.append(
                f"{case_name} {damaged_name} {type(error).__name__} {location}: {error!s:.120}"
            )
        if (seconds := time.process_time() - start_seconds) > MAX_CPU_SECONDS:
            failures.append(f"{case_name} {damaged_name}: {seconds:.1f} s")
    return failures


@pytest.mark.parametrize("reader_name", READERS)
def test_damaged_files_are_read_or_refused_with_an_input_error(reader_name, intact_files, tmp_path):
    for example_number, example in enumerate(
        intact_files[reader_name]
    ):  # intact files must be readable
        folder = tmp_path / f"intact {example_number}"
        write_tree(example, folder)
        READERS[reader_name](folder)
    assert list_failures(reader_name, intact_files[reader_name], tmp_path / "files", 24, SEED) == []


@pytest.mark.parametrize("error_type", [AttributeError, TypeError, KeyError])
@pytest.mark.parametrize(
    "reader_name, patched_function",
    [
        ("video", "egox_core.video.reader._shown_picture"),
        ("depth", "egox_core.takes.depth_readers._check_shape"),
        ("mask", "egox_train.takes.mask_files._array_header"),
        ("meta", "egox_core.facts.poses.validate_w2c"),
        ("trajectory", "egox_core.exchange.blender._camera_of"),
        ("keypoints", "egox_core.trajectory.head_payloads._hide_far_points"),
        ("egoexo4d", "egox_train.data.egoexo4d._ego_poses"),
        ("weights", "egox_core.wan.weights._is_entry"),
    ],
)
def test_programming_error_is_not_reported_as_damage(
    reader_name, patched_function, error_type, intact_files, tmp_path, monkeypatch
):
    def raise_planted_error(*_, **__):
        raise error_type("planted")

    monkeypatch.setattr(patched_function, raise_planted_error)
    raised_count = 0
    for example_number, example in enumerate(intact_files[reader_name]):
        folder = tmp_path / str(example_number)
        write_tree(example, folder)
        try:
            READERS[reader_name](folder)
        except error_type as raised_error:
            assert "planted" in str(raised_error)
            raised_count += 1
    assert raised_count > 0
