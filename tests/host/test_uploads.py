"""Files of a take through the page's route: into the input folder, told apart, never overwritten."""

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
from tests.host.prompts import id_of, of_type, ran, small
from tests.paths import ROOT
from tools.setup.api_client import ApiClient
from tools.setup.demo import DECODE, LOAD, words_of

TAKE = ROOT / "sample" / "synthetic_room"
Files = dict[str, bytes]


@pytest.fixture
def folder(server_base) -> Iterator[Path]:
    """Yield the folder of uploads, empty before and after."""
    place = server_base.root / "input" / "egox"
    shutil.rmtree(place, ignore_errors=True)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def send(client: ApiClient, files: Files, **headers: str) -> tuple[int, Any]:
    """Send files as the server's own page does, unless the headers say otherwise."""
    parts = ((f'name="file"; filename="{name}"', content) for name, content in files.items())
    answer = request(client, "/egox/upload", **multipart(*parts), **headers)
    return answer.status, answer.json()


def archive(files: Files) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return stream.getvalue()


def sample() -> Files:
    return {name: (TAKE / name).read_bytes() for name in ("exo.mp4", "depth.npz", "meta.json")}


def depth(value: float) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, depth_m=np.full((2, 8, 8), value, np.float16))
    return stream.getvalue()


def left(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_take_as_an_archive(client, folder):
    status, reply = send(
        client, {"my take.zip": archive({f"room/{name}": data for name, data in sample().items()})}
    )
    assert status == 200 and (reply["folder"], reply["reused"]) == ("my take", False), reply
    assert (
        reply["video"] == "egox/my take/exo.mp4"
        and reply["poses"] == reply["camera"] == "egox/my take/meta.json"
    )
    assert reply["frames"] == reply["depth_frames"] == 49
    assert left(folder) == ["my take/depth.npz", "my take/exo.mp4", "my take/meta.json"]


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((8, 8), np.float32))
    return stream.getvalue()


def test_a_name_that_is_taken(client, folder):
    names = [send(client, {"depth.npz": depth(value)})[1] for value in (1, 2, 3, 1, 2, 3)]
    folders = [n["folder"] for n in names[:3]]
    assert folders[0] == "depth" and len(set(folders)) == 3
    assert all(re.match(r"depth \d{4}-\d\d-\d\d \d\d\.\d\d", f) for f in folders[1:]), folders
    assert [n["folder"] for n in names[3:]] == folders
    assert [n["reused"] for n in names] == [False] * 3 + [True] * 3
    assert {n["name"] for n in names} == {"depth"}
    assert names[1]["depth"] == f"egox/{folders[1]}/depth.npz"
    assert left(folder) == sorted(f"{f}/depth.npz" for f in folders)


def test_names_lead_nowhere_else(client, folder):
    status, reply = send(client, {"../../con.npz": depth(1)})
    assert status == 200 and reply["depth"] == "egox/_con/_con.npz"
    status, reply = send(client, {"/etc/../aux/./1.npy": _npy(), "/etc/aux/2.npy": _npy()})
    assert status == 200 and reply["depth"] == "egox/etc", reply
    assert left(folder) == ["_con/_con.npz", "etc/1.npy", "etc/2.npy"]
    assert not (folder.parent.parent / "con.npz").exists()


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
def test_what_is_no_take_leaves_nothing_behind(client, folder, files, reason):
    status, reply = send(client, files)
    assert status == 400 and reason in reply["reason"], reply
    assert left(folder) == [] and not list(folder.iterdir())


def test_a_second_video_that_turns_is_asked_about(client, folder):
    room = ROOT / "sample" / "calm_room"
    files = {"head.mp4": "ego_ground_truth.mp4", "kitchen.mp4": "exo.mp4"}
    status, reply = send(client, {name: (room / file).read_bytes() for name, file in files.items()})
    assert status == 200 and reply["video"] == "egox/kitchen/kitchen.mp4" and not reply["unused"]
    send(client, {"exo.mp4": (room / "exo.mp4").read_bytes()})

    def answer(ego: str, exo: str) -> Any:
        return request(client, "/egox/upload/truth", json.dumps({"ego": ego, "exo": exo}).encode())

    ego, exo = reply["turning"], reply["video"]
    assert ego == "egox/kitchen/head.mp4"
    for wrong in ((ego, "egox/exo/exo.mp4"), (ego, ego), ("sample/calm_room/exo.mp4", exo)):
        assert "two videos of one upload" in answer(*wrong).json()["reason"]
    assert "egox/../x.mp4" in answer("egox/../x.mp4", exo).json()["reason"]
    assert answer(ego, exo).status == 200
    assert left(folder) == ["exo/exo.mp4", "kitchen/ego_ground_truth.mp4", "kitchen/kitchen.mp4"]


def test_a_truth_that_came_after_a_run_is_used_by_the_next(client, folder, load_workflow):
    """And nothing is sampled again."""
    names = {"kitchen.mp4": "exo.mp4", "head.mp4": "ego_ground_truth.mp4"}
    names |= {name: name for name in ("depth.npz", "meta.json")}
    room = ROOT / "sample" / "calm_room"
    _, reply = send(client, {name: (room / file).read_bytes() for name, file in names.items()})
    prompt = small(load_workflow("egox_demo"))
    of_type(prompt, LOAD)["file"] = reply["video"]
    assert "PSNR" not in words_of(ran(client, prompt), prompt, DECODE)
    answer = json.dumps({"ego": reply["turning"], "exo": reply["video"]}).encode()
    assert request(client, "/egox/upload/truth", answer).status == 200
    again = ran(client, prompt)
    assert "PSNR to the truth" in words_of(again, prompt, DECODE)
    assert id_of(prompt, "EgoXWanSampler") not in again.ran


def test_the_host_s_limit_is_named(client, folder):
    most = request(client, "/egox/upload").json()["limit"]
    assert most == 100 * 2**20
    status, reply = send(client, {"depth.npz": bytes(most + 2**20)})
    assert status == 413 and "--max-upload-size" in reply["reason"] and "100 MB" in reply["reason"]
    assert not folder.exists() or not list(folder.iterdir())


def test_another_page_may_not_send(client, folder):
    for headers in ({"Origin": "http://elsewhere"}, {"Sec_Fetch_Site": "cross-site"}):
        assert send(client, {"depth.npz": depth(1)}, **headers)[0] == 403
    assert not folder.exists()
