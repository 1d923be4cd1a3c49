"""Test that files of unsupported kinds are refused with advice, and that text is read in any
Unicode."""

import json

import numpy as np
import pytest
import torch

from egox_core.arrays import as_frames, as_matrix, as_poses, as_tensor
from egox_core.exchange.camera_files import CameraFile
from egox_core.foreign_files import FOREIGN
from egox_core.safe_files import read_json, write_json
from egox_core.takes import open_depth
from egox_core.video import probe_video
from egox_core.wan import read_header
from egox_train.video_writer import write_video
from tests.refusals import refuses

READERS_BY_SUFFIX = {
    "json": lambda path: read_json(path, "meta file"),
    "npz": open_depth,
    "txt": CameraFile.read,
    "safetensors": lambda path: read_header(path, "LoRA"),
    "mp4": probe_video,
}
FIRST_BYTES = {
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"
    ): "Git LFS pointer.*git lfs pull",
    b"../.git/annex/objects/a/b": "git-annex",
    b"\xef\xbb\xbf\n<!DOCTYPE html><html>": "a web page.*download the file itself",
    b"<?xml version='1.0'?><Error><Code>AccessDenied": "XML",
    b"\0\x05\x16\x07\0\2\0\0Mac OS X": "._ file of macOS",
    b"bplist00\xd1": "iCloud",
    b"\x89MCAP0\r\n": "SVO2 of a ZED.*export mp4",
    b"#ROSBAG V2.0\n": "rosbag.*export the camera",
    b"SQLite format 3\0": "rosbag of ROS 2",
    b"VisionRe\0": "VRS.*vrs_to_mp4",
    b"\0\0\1\0RED2": "R3D.*ProRes",
    b".RMF\0\0\0\x12": "RealMedia.*mp4",
    b"\x89HDF\r\n\x1a\n": "HDF5.*npz",
    b"ply\nformat ascii 1.0\n": "a PLY",
    b"BLENDER-v300": "a Blender file.*transforms.json",
    b"Kaydara FBX Binary  \0": "an FBX",
    b"PXR-USDC": "a USD",
    b"%PDF-1.7": "a PDF",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive.*unpack",
    b"Rar!\x1a\x07\0": "a RAR",
    b"\x1f\x8b\x08\0": "a gzip",
    b"\xfd7zXZ\0": "an xz",
    b"\x28\xb5\x2f\xfd": "a zstd",
    b"a" * 257 + b"ustar": "a tar",
}


@pytest.mark.parametrize("suffix", READERS_BY_SUFFIX)
def test_unsupported_files_are_refused_by_kind(tmp_path, suffix):
    general_kinds = [kind for kind in FOREIGN if not kind.of_pictures]
    assert len(FIRST_BYTES) == len(general_kinds)
    foreign_file = tmp_path / f"file.{suffix}"
    for first_bytes, message_pattern in FIRST_BYTES.items():
        foreign_file.write_bytes(first_bytes + bytes(range(256)) * 8)
        with refuses(f"(?s){message_pattern}"), READERS_BY_SUFFIX[suffix](foreign_file):  # ty: ignore[invalid-context-manager]
            pass


@pytest.mark.parametrize(
    ("codec_tag", "message_pattern"),
    [
        ("encv", "encrypted .encv"),
        ("brxq", "Blackmagic RAW"),
        ("brst", "Blackmagic RAW"),
        ("CRAW", "Canon's RAW"),
        ("aprh", "ProRes RAW"),
        ("zzzz", "a codec that FFmpeg lacks .zzzz"),
    ],
)
def test_undecodable_video_codecs_are_refused_by_name(tmp_path, codec_tag, message_pattern):
    video_file = tmp_path / "a.mp4"
    write_video(video_file, torch.zeros(5, 32, 32, dtype=torch.uint8), 10)
    file_bytes = video_file.read_bytes()
    assert file_bytes.count(b"avc1") >= 1
    tag_position = file_bytes.index(b"avc1", file_bytes.index(b"stsd"))
    video_file.write_bytes(
        file_bytes[:tag_position] + codec_tag.encode() + file_bytes[tag_position + 4 :]
    )
    with refuses(message_pattern):
        probe_video(video_file)


@pytest.mark.parametrize(
    ("encoding", "outcome"),
    [
        ("utf-8-sig", None),
        ("utf-16", None),  # as PowerShell writes
        ("utf-16-le", None),
        ("utf-16-be", None),
        ("utf-32", None),
        ("gbk", "no Unicode.*gbk"),
        ("shift_jis", "no Unicode.*shift_jis"),
        ("cp1252", "no Unicode.*cp1252"),
    ],
)
def test_text_is_read_in_any_unicode(tmp_path, encoding, outcome):
    prompt = {"gbk": "厨房", "shift_jis": "台所で", "cp1252": "café"}.get(encoding, "café 厨房")
    meta_file = tmp_path / "meta.json"
    meta_file.write_bytes(json.dumps({"prompt": prompt}, ensure_ascii=False).encode(encoding))
    if outcome is None:
        assert read_json(meta_file) == {"prompt": prompt}
        return
    with refuses(outcome):
        read_json(meta_file)


def test_npz_of_other_arrays_is_refused_as_a_path(tmp_path):
    np.savez(tmp_path / "a.npz", points=np.zeros(3))
    with refuses("camera path: got a.npz, an npz of points.*ViPE or GVHMR"):
        CameraFile.read(tmp_path / "a.npz")


def test_undecodable_names_and_unusual_arrays_are_accepted(tmp_path):
    undecodable_name = b"caf\xe9".decode(
        "utf-8", "surrogateescape"
    )  # as Linux hands out a name that is no UTF-8
    write_json(tmp_path / "report.json", {"take": undecodable_name, "prompt": "厨房"})
    assert read_json(tmp_path / "report.json") == {"take": undecodable_name, "prompt": "厨房"}
    assert "厨房" in (tmp_path / "report.json").read_text("utf-8")
    frames = torch.rand(2, 8, 8, 3, requires_grad=True)
    poses = torch.eye(4)[:3].repeat(2, 1, 1).requires_grad_()
    assert not as_frames(frames, "frames").requires_grad
    assert not as_poses(poses, "poses").requires_grad
    assert not as_matrix(poses[0], "pose", "rows").requires_grad
    for unusual_array in (
        np.eye(3, dtype=np.longdouble),
        np.eye(3, dtype=object),
        torch.eye(3).to_sparse(),
    ):
        assert torch.equal(as_tensor(unusual_array, "K", 3, 3).double(), torch.eye(3).double())
    for unusual_array in (torch.eye(3, device="meta"), np.array([["1"]]), np.array([[{}]])):
        with refuses("K: got .* of .*; expected numbers"):
            as_tensor(unusual_array, "K", None, None)
