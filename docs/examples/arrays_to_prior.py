"""Draw an ego prior from arrays alone: here a red box before a wall, passed by a walking person."""

import numpy as np

from egox_core import stages
from egox_core.cameras import CameraModel

T, H, W = 5, 128, 224
exo = np.full((T, H, W, 3), 200, np.uint8)  # 0...255, or floats of 0...1
depth_m = np.full((T, H, W), 3.0)  # z in metres
exo[:, 40:90, 80:140] = (180, 50, 50)
depth_m[:, 40:90, 80:140] = 2.0
intrinsics = np.array([[200.0, 0, (W - 1) / 2], [0, 200.0, (H - 1) / 2], [0, 0, 1]])
w2c = np.tile(np.eye(3, 4), (T, 1, 1))  # world to ego camera; the exo camera is the world
w2c[:, 0, 3], w2c[:, 2, 3] = -np.linspace(0, 0.5, T), -1  # a metre ahead, then to the right

depth, _ = stages.align(depth_m, camera=intrinsics)
path, _ = stages.path(w2c, camera=CameraModel.pinhole(H, H, 100.0))
scene, _ = stages.scene(exo, depth)
prior, report = stages.prior(scene, path)  # rgb [T, H, H, 3] float32, coverage, depth_m
print(report.text())
