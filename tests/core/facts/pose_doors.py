"""Write a camera path as the programs do that have a form of their own, for tests.

Each function writes OpenCV c2w matrices [T, 4, 4] with times in seconds, and returns the file to
give."""

import json

import numpy as np
from scipy.spatial.transform import Rotation

FLIP_YZ = np.diag([1.0, -1, -1, 1])


def turned(c2w):
    """Turn camera and world from OpenCV's axes to OpenGL's."""
    return FLIP_YZ @ c2w @ FLIP_YZ


def quaternions(c2w):  # x y z w
    return Rotation.from_matrix(c2w[:, :3, :3]).as_quat()


def write_json(file, content):
    file.write_text(json.dumps(content), "utf-8")
    return file


def kitti(folder, c2w, times):
    np.savetxt(folder / "00.txt", c2w[:, :3].reshape(len(c2w), 12), fmt="%.17g")
    return folder / "00.txt"


def kitti_360(folder, c2w, times):
    rows = np.c_[np.arange(len(c2w)), c2w.reshape(len(c2w), 16)]
    np.savetxt(folder / "cam0_to_world.txt", rows, fmt="%.17g")
    return folder / "cam0_to_world.txt"


def npy(folder, c2w, times):
    np.save(folder / "head.npy", c2w[:, None])  # Vision Pro's streamer has an axis more
    return folder / "head.npy"


def arkit_columns(folder, c2w, times):
    """Write ARKit's matrices column by column, as simd has them."""
    return write_json(folder / "arkit.json", turned(c2w).transpose(0, 2, 1).tolist())


def arkit_numbers(folder, c2w, times):
    return write_json(folder / "arkit.json", turned(c2w).reshape(len(c2w), 16).tolist())


def euroc(folder, c2w, times):
    header = (
        "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], "
        "q_RS_z [], v_RS_R_x [m s^-1], b_w_RS_S_x [rad s^-1], b_a_RS_S_x [m s^-2]"
    )
    x, y, z, w = quaternions(c2w).T
    nanoseconds = np.round(1403636580838555648 + 1e9 * times).astype(np.int64)
    lines = [
        ",".join([str(stamp), *(f"{value:.12g}" for value in row)])
        for stamp, row in zip(
            nanoseconds, np.c_[c2w[:, :3, 3], w, x, y, z, np.full((len(c2w), 3), 7)], strict=True
        )
    ]
    (folder / "data.csv").write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return folder / "data.csv"


def optitrack(folder, c2w, times):
    lines = [
        "Format Version,1.23,Take Name,take,Capture Frame Rate,120,Export Frame Rate,120,Rotation "
        "Type,Quaternion,Length Units,Millimeters,Coordinate Space,Global",
        "",
        ",Type" + ",Rigid Body" * 8 + ",Rigid Body Marker" * 3,
        ",Name" + ",hat" * 8 + ",hat:Marker1" * 3,
        ",ID" + ',"1"' * 8 + ',"2"' * 3,
        ",," + "Rotation," * 4 + "Position," * 3 + "Mean Marker Error" + ",Position" * 3,
        "Frame,Time (Seconds),X,Y,Z,W,X,Y,Z,,X,Y,Z",
    ]
    for frame, (time, quaternion, matrix) in enumerate(
        zip(times, quaternions(c2w), c2w, strict=True)
    ):
        values = [time, *quaternion, *(1000 * matrix[:3, 3]), 0.0, 9, 9, 9]
        lines.append(",".join([str(frame), *(f"{value:.12g}" for value in values)]))
    lines.insert(-1, f"{len(c2w)},{times[-1]:.6f},,,,,,,,,,,")  # a lost frame
    (folder / "take.csv").write_text("\r\n".join(lines), "utf-8")
    return folder / "take.csv"


def aria(folder, c2w, times):
    header = (
        "graph_uid,tracking_timestamp_us,utc_timestamp_ns,tx_world_device,ty_world_device,"
        "tz_world_device,qx_world_device,qy_world_device,qz_world_device,qw_world_device,"
        "device_linear_velocity_x_device,angular_velocity_x_device,gravity_x_world,quality_score"
    )
    lines = [
        ",".join(
            [
                "0f6c",
                str(round(149202610 + 1e6 * time)),
                "-1",
                *(f"{value:.12g}" for value in (*matrix[:3, 3], *quaternion, 5, 5, 5, 1)),
            ]
        )
        for time, quaternion, matrix in zip(times, quaternions(c2w), c2w, strict=True)
    ]
    file = folder / "closed_loop_trajectory.csv"
    file.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return file


def record3d(folder, c2w, times):
    matrices = turned(c2w)
    content = {
        "w": 64,
        "h": 32,
        "fps": 30,
        "K": [40.0, 0, 0, 0, 41.0, 0, 31.0, 15.0, 1],  # column by column
        "poses": np.c_[quaternions(matrices), matrices[:, :3, 3]].tolist(),
        "frameTimestamps": times.tolist(),
        "perFrameIntrinsicCoeffs": [[40.0, 41.0, 31.0, 15.0]] * len(c2w),
    }
    return write_json(folder / "metadata.json", content)


def polycam(folder, c2w, times):
    for time, matrix in zip(times, turned(c2w), strict=True):
        content = {
            f"t_{row}{column}": matrix[row, column] for row in range(3) for column in range(4)
        }
        content |= {"fx": 40.0, "fy": 41.0, "cx": 31.0, "cy": 15.0, "width": 64, "height": 32}
        file = write_json(folder / f"{round(1e6 * (7000 + time))}.json", content)
    return file


def depth_anything_3(folder, c2w, times):
    w2c = np.linalg.inv(c2w)[:, :3].astype(np.float32)
    depth = np.full((len(c2w), 16, 32), 2, np.float32)
    k = np.tile(np.array([[20, 0, 16], [0, 20, 8], [0, 0, 1]], np.float32), (len(c2w), 1, 1))
    np.savez(folder / "results.npz", depth=depth, conf=depth, extrinsics=w2c, intrinsics=k)
    return folder / "results.npz"


def vggt(folder, c2w, times):
    w2c = np.linalg.inv(c2w)[:, :3].astype(np.float32)
    depth = np.full((len(c2w), 16, 32, 1), 2, np.float32)
    k = np.tile(np.array([[20, 0, 16], [0, 20, 8], [0, 0, 1]], np.float32), (len(c2w), 1, 1))
    arrays = {"depth_conf": depth[..., 0], "world_points": depth.repeat(3, -1), "intrinsic": k}
    arrays |= {"pose_enc": np.zeros((len(c2w), 9), np.float32), "extrinsic": w2c}
    np.savez(folder / "predictions.npz", depth=depth, **arrays)
    return folder / "predictions.npz"


def megasam(folder, c2w, times):
    depths = np.full((len(c2w), 16, 32), 2, np.float16)
    np.savez(folder / "sgd_cvd_hr.npz", depths=depths, intrinsic=np.eye(3), cam_c2w=c2w)
    return folder / "sgd_cvd_hr.npz"
