"""List the file names of a take folder and the suffixes of video files."""

EXO = "exo.mp4"
DEPTH = "depth.npz"
META = "meta.json"
HEAD_KEYPOINTS = "head_keypoints.json"  # what a detector saw of the people in it, OpenPose's form
HANDS = "hands.json"  # both of the wearer's hands, joints in metres
HEAD_TRAJECTORY = "head_trajectory.json"  # the wearer's camera as estimated from keypoints
TRUTH = "ego_ground_truth.mp4"  # where the ego video is known
PRIOR = "ego_prior.mp4"  # of a prepared clip
SEEN = "seen.mkv"  # of a prior or a prepared clip: which class each ego pixel has
# of a prepared clip: key ``coverage`` [T, H, W] bool, where the prior holds something
COVERAGE = "coverage.npz"
DEPTH_NAMES = (
    DEPTH,
    "depth.zip",
    "depth.npy",
    "depth",
)  # of a take's depth, the first that exists; the last: a folder
VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".mts",
    ".m2ts",
    ".mxf",
    ".lrv",
)  # containers that PyAV decodes, in lower case
