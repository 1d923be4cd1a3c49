"""Test uploads of a take's files through the page's route."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.host.asking import multipart, request
from tests.paths import ROOT
from tests.prompts import inputs_of_type, node_id_of_type, run_successfully, shrink_graph
from tools.setup.api_client import ApiClient
from tools.setup.demo import DECODE, LOAD, read_node_text

TAKE = ROOT / "sample" / "synthetic_room"
Files = dict[str, bytes]


@pytest.fixture
def upload_folder(server_base) -> Iterator[Path]:
    """Yield the folder of uploads, empty before and after a test."""
    upload_dir = server_base.root / "input" / "egox"
    shutil.rmtree(upload_dir, ignore_errors=True)
    yield upload_dir
    shutil.rmtree(upload_dir, ignore_errors=True)


def upload(client: ApiClient, files: Files, **headers: str) -> tuple[int, Any]:
    """Send files to the upload route."""
    parts = ((f'name="file"; filename="{name}"', content) for name, content in files.items())
    answer = request(client, "/egox/upload", **multipart(*parts), **headers)
    return answer.status, answer.json()


def zip_files(files: Files) -> bytes:
    zip_stream = io.BytesIO()
    with zipfile.ZipFile(zip_stream, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return zip_stream.getvalue()


def sample_files() -> Files:
    return {name: (TAKE / name).read_bytes() for name in ("exo.mp4", "depth.npz", "meta.json")}


def depth_file(value: float) -> bytes:
    npz_stream = io.BytesIO()
    np.savez_compressed(npz_stream, depth_m=np.full((2, 8, 8), value, np.float16))
    return npz_stream.getvalue()


def list_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_an_archive_of_a_take_is_unpacked(client, upload_folder):
    status, reply = upload(
        client,
        {"my take.zip": zip_files({f"room/{name}": data for name, data in sample_files().items()})},
    )
    assert status == 200 and (reply["folder"], reply["reused"]) == ("my take", False), reply
    assert (
        reply["video"] == "egox/my take/exo.mp4"
        and reply["poses"] == reply["camera"] == "egox/my take/meta.json"
    )
    assert reply["frames"] == reply["depth_frames"] == 49
    assert list_files(upload_folder) == [
        "my take/depth.npz",
        "my take/exo.mp4",
        "my take/meta.json",
    ]


def npy_file() -> bytes:
    npy_stream = io.BytesIO()
    np.save(npy_stream, np.ones((8, 8), np.float32))
    return npy_stream.getvalue()


def test_an_upload_with_a_taken_name_gets_a_folder_with_a_date(client, upload_folder):
    replies = [upload(client, {"depth.npz": depth_file(value)})[1] for value in (1, 2, 3, 1, 2, 3)]
    folders = [reply["folder"] for reply in replies[:3]]
    assert folders[0] == "depth"
    assert len(set(folders)) == 3
    assert all(
        re.match(r"depth \d{4}-\d\d-\d\d \d\d\.\d\d", folder_name) for folder_name in folders[1:]
    ), folders
    assert [reply["folder"] for reply in replies[3:]] == folders
    assert [reply["reused"] for reply in replies] == [False] * 3 + [True] * 3
    assert {reply["name"] for reply in replies} == {"depth"}
    assert replies[1]["depth"] == f"egox/{folders[1]}/depth.npz"
    assert list_files(upload_folder) == sorted(
        f"{folder_name}/depth.npz" for folder_name in folders
    )


def test_uploaded_names_stay_in_the_upload_folder(client, upload_folder):
    status, reply = upload(client, {"../../con.npz": depth_file(1)})
    assert status == 200
    assert reply["depth"] == "egox/_con/_con.npz"
    status, reply = upload(
        client, {"/etc/../aux/./1.npy": npy_file(), "/etc/aux/2.npy": npy_file()}
    )
    assert status == 200 and reply["depth"] == "egox/etc", reply
    assert list_files(upload_folder) == ["_con/_con.npz", "etc/1.npy", "etc/2.npy"]
    assert not (upload_folder.parent.parent / "con.npz").exists()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no file"),
        ({"run.exe": b"MZ"}, "run.exe"),
        ({"depth.npz": b"no archive"}, "expected a zip archive"),
        ({"me.JPG": b"\xff\xd8\xff"}, "a photo"),
        ({"clip.WebP": b"RIFF....WEBPVP8X"}, "convert it to mp4"),
    ],
)
def test_an_upload_that_is_no_take_leaves_nothing_behind(client, upload_folder, files, reason):
    status, reply = upload(client, files)
    assert status == 400 and reason in reply["reason"], reply
    assert list_files(upload_folder) == []
    assert not list(upload_folder.iterdir())


def test_a_second_moving_video_is_reported_as_possible_ego_video(client, upload_folder):
    take_folder = ROOT / "sample" / "calm_room"
    files = {"head.mp4": "ego_ground_truth.mp4", "kitchen.mp4": "exo.mp4"}
    status, reply = upload(
        client, {name: (take_folder / file_name).read_bytes() for name, file_name in files.items()}
    )
    assert status == 200
    assert reply["video"] == "egox/kitchen/kitchen.mp4"
    assert not reply["unused"]
    upload(client, {"exo.mp4": (take_folder / "exo.mp4").read_bytes()})

    def send_answer(ego: str, exo: str) -> Any:
        return request(client, "/egox/upload/truth", json.dumps({"ego": ego, "exo": exo}).encode())

    ego, exo = reply["turning"], reply["video"]
    assert ego == "egox/kitchen/head.mp4"
    for wrong_pair in ((ego, "egox/exo/exo.mp4"), (ego, ego), ("sample/calm_room/exo.mp4", exo)):
        assert "two videos of one upload" in send_answer(*wrong_pair).json()["reason"]
    assert "egox/../x.mp4" in send_answer("egox/../x.mp4", exo).json()["reason"]
    assert send_answer(ego, exo).status == 200
    assert list_files(upload_folder) == [
        "exo/exo.mp4",
        "kitchen/ego_ground_truth.mp4",
        "kitchen/kitchen.mp4",
    ]


def test_an_ego_video_uploaded_after_a_run_is_compared_by_the_next(
    client, upload_folder, load_workflow
):
    """Check that the next run shows the PSNR to the uploaded video."""
    upload_names = {"kitchen.mp4": "exo.mp4", "head.mp4": "ego_ground_truth.mp4"}
    upload_names |= {name: name for name in ("depth.npz", "meta.json")}
    take_folder = ROOT / "sample" / "calm_room"
    _, reply = upload(
        client,
        {name: (take_folder / file_name).read_bytes() for name, file_name in upload_names.items()},
    )
    prompt = shrink_graph(load_workflow("egox_demo"), frames=1)
    inputs_of_type(prompt, LOAD)["file"] = reply["video"]
    assert "PSNR" not in read_node_text(run_successfully(client, prompt), prompt, DECODE)
    truth_body = json.dumps({"ego": reply["turning"], "exo": reply["video"]}).encode()
    assert request(client, "/egox/upload/truth", truth_body).status == 200
    second_outcome = run_successfully(client, prompt)
    assert "PSNR to the truth" in read_node_text(second_outcome, prompt, DECODE)
    assert node_id_of_type(prompt, "EgoXWanSampler") not in second_outcome.executed_nodes


def test_an_upload_beyond_comfyuis_limit_is_refused(client, upload_folder):
    byte_limit = request(client, "/egox/upload").json()["limit"]
    assert byte_limit == 100 * 2**20
    status, reply = upload(client, {"depth.npz": bytes(byte_limit + 2**20)})
    assert status == 413
    assert "--max-upload-size" in reply["reason"]
    assert "100 MB" in reply["reason"]
    assert not upload_folder.exists() or not list(upload_folder.iterdir())
