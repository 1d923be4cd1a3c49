"""Private memory of a process that goes from a take's files to the prior's previews, as the nodes
do.

Arguments: the repository, an empty folder, frames. Prints its peak in MB, without the float32
pictures and masks that the host's sockets hold by contract."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)

from egox_core.depth.roles import align_sources  # noqa: E402
from egox_core.depth.sources import image_depth  # noqa: E402
from egox_core.depth.trust import with_trust  # noqa: E402
from egox_core.previews.maps import coverage_preview, depth_preview, ego_depth_preview  # noqa: E402
from egox_core.previews.sheets import common_step, make_sheets  # noqa: E402
from egox_core.prior.options import prior_preset  # noqa: E402
from egox_core.prior.render import ego_depth, render_ego_prior  # noqa: E402
from egox_core.safe_files import write_json  # noqa: E402
from egox_core.scene.build import build_scene  # noqa: E402
from egox_core.takes.depth_inputs import file_source  # noqa: E402
from egox_core.takes.meta import read_meta  # noqa: E402
from egox_core.takes.take import load_take  # noqa: E402
from egox_train.video_writer import write_video  # noqa: E402

WIDTH, HEIGHT = 784, 448
PIXELS = HEIGHT * WIDTH


class Peak:
    """The most private memory that was seen, what sockets hold taken off."""

    def __init__(self) -> None:
        self.sockets, self.most, self._done = 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def look(self) -> None:
        with open("/proc/self/status", encoding="ascii") as status:
            anonymous = next(
                int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon")
            )
        self.most = max(self.most, anonymous - self.sockets)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.look()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        self.look()
        return self.most


def write_files(folder: Path, count: int) -> None:
    """A textured wall before which a box wanders."""
    wall = (
        np.random.default_rng(0)
        .integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        .repeat(8, 0)
        .repeat(8, 1)
    )
    wall = torch.from_numpy(wall)
    column = torch.arange(WIDTH).expand(HEIGHT, WIDTH)

    def box(t: int) -> torch.Tensor:
        return (column - 100 - (3 * t) % 500).abs() < 60

    write_video(
        folder / "exo.mp4", (wall.masked_fill(box(t)[..., None], 200) for t in range(count)), 20.0
    )
    maps = np.lib.format.open_memmap(folder / "depth.npy", "w+", np.float16, (count, HEIGHT, WIDTH))
    for t in range(count):
        maps[t] = torch.where(box(t), 1.5, 3 + 0.002 * column.float()).numpy()
    write_json(
        folder / "meta.json",
        {
            "prompt": "",
            "camera_intrinsics": [[560, 0, WIDTH / 2], [0, 560, HEIGHT / 2], [0, 0, 1]],
            "camera_extrinsics": np.eye(3, 4).tolist(),
            "ego_intrinsics": [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]],
            "ego_extrinsics": np.eye(3, 4)[None].repeat(count, 0).tolist(),
        },
    )


def main(folder: Path, count: int) -> float:
    write_files(folder, count)
    peak, step = Peak(), common_step(count)
    take = load_take(folder, frame_count=count)
    peak.sockets += 4 * 3 * PIXELS * count  # exo_images
    exo = take.read_exo().float().div_(255)
    # What the host's own nodes hold is not ours: one frame for all takes no room.
    first = take.depth.depth_m[:1].clone()
    disparity = (1 / first)[..., None].expand(count, -1, -1, 3)
    moving, sky = (mask.float().expand(count, -1, -1) for mask in (first < 2, first > 4.3))
    meta = read_meta(folder / "meta.json")
    depth, _ = align_sources(
        [file_source(folder / "depth.npy", meta, take.frames), image_depth(disparity)],
        frames=take.frames,
        dynamic_mask=moving,
        sky_mask=sky,
    )
    depth = with_trust(depth)
    peak.sockets += 4 * 3 * PIXELS * count  # Depth Align's preview, an IMAGE
    shown = depth_preview(depth.depth_m)
    make_sheets(shown, step=step)
    scene = build_scene(exo, depth)
    side = take.trajectory.camera.height
    peak.sockets += 4 * 3 * side * side * count  # the prior
    prior = render_ego_prior(scene, take.trajectory, prior_preset("released"))
    peak.sockets += 4 * 4 * side * side * count  # its coverage, a MASK, and its depth's preview
    coverage, (depth_picture, _) = prior.coverage.float(), ego_depth_preview(prior)
    for stream in (prior.rgb, coverage_preview(prior.rgb, prior.coverage), depth_picture, exo):
        make_sheets(stream, step=step)
    assert float(coverage.mean()) > 0.05 and len(ego_depth(prior).depth_m) == count
    return peak.stop() / 2**20


print(main(Path(sys.argv[2]), int(sys.argv[3])))
