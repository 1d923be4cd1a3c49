"""List search words in four languages by which users find the nodes.

ComfyUI's search compares a node's name and these words whatever the page's language, so all
languages are in one list."""

from typing import Any

from comfy_api.latest import io

EGO_WORDS = ("ego", "egocentric", "pov", "first person", "一人称視点", "1인칭 시점", "第一人称视角")
EXO_WORDS = ("exo", "exocentric", "third person", "三人称視点", "3인칭 시점", "第三人称视角")
PATH_WORDS = ("camera path", "camera trajectory", "カメラ軌道", "카메라 궤적", "相机轨迹")
CLOUD_WORDS = ("point cloud", "ply", "点群", "포인트 클라우드", "点云")
GEOMETRY_WORDS = ("geometry guided attention", "gga", "lambda", "ジオメトリ", "기하", "几何")

SEARCH_WORDS: dict[str, tuple[str, ...]] = {
    "EgoXLoadExoVideo": (
        *EXO_WORDS,
        "load video",
        "video input",
        "動画を読み込む",
        "비디오 불러오기",
        "加载视频",
    ),
    "EgoXRankExoCameras": (
        *EXO_WORDS,
        "best camera",
        "choose camera",
        "カメラ選択",
        "카메라 선택",
        "选择相机",
    ),
    "EgoXEgoPoseInput": (
        *EGO_WORDS,
        *PATH_WORDS,
        "head pose",
        "keyframes",
        "頭部姿勢",
        "머리 포즈",
        "头部姿态",
    ),
    "EgoXDepthAlign": (
        "depth",
        "moge",
        "depth anything",
        "align depth",
        "metric depth",
        "깊이 정렬",
        "深度对齐",
    ),
    "EgoXExoMotion": (
        *EXO_WORDS,
        *PATH_WORDS,
        "camera motion",
        "camera tracking",
        "handheld",
        "structure from motion",
        "カメラの動き",
        "카메라 움직임",
        "相机运动",
    ),
    "EgoXEstimateHeadPose": (
        "head pose",
        "head tracking",
        "ego pose",
        "openpose",
        "sam 3d body",
        "pov",
        "頭部姿勢推定",
        "머리 포즈 추정",
        "头部姿态估计",
    ),
    "EgoXBuildScene": (
        *CLOUD_WORDS,
        "unproject depth",
        "depth to points",
        "シーン",
        "장면",
        "场景",
    ),
    "EgoXFuseScenes": (
        *CLOUD_WORDS,
        "merge point clouds",
        "multi camera",
        "シーンを結合",
        "장면 결합",
        "合并场景",
    ),
    "EgoXRenderEgoPrior": (
        *EGO_WORDS,
        *CLOUD_WORDS,
        "render points",
        "novel view",
        "新規視点",
        "새 시점",
        "新视角",
    ),
    "EgoXDrawHands": (*EGO_WORDS, "hand pose", "skeleton", "手の描画", "손 그리기", "绘制手部"),
    "EgoXLoadLora": ("egox", "load lora", "wan lora", "LoRA読み込み", "LoRA 불러오기", "加载LoRA"),
    "EgoXText": (
        *EGO_WORDS,
        "text encode",
        "umt5",
        "clip text encode",
        "テキストエンコード",
        "텍스트 인코드",
        "文本编码",
    ),
    "EgoXCaptionRequest": (
        "caption",
        "describe video",
        "llm",
        "qwen",
        "vlm",
        "キャプション",
        "캡션",
        "字幕描述",
    ),
    "EgoXPrompt": (
        *EGO_WORDS,
        "prompt",
        "caption",
        "negative prompt",
        "プロンプト",
        "프롬프트",
        "提示词",
    ),
    "EgoXConditioning": (
        *EGO_WORDS,
        *EXO_WORDS,
        "image to video",
        "wan i2v",
        "条件付け",
        "컨디셔닝",
        "条件",
    ),
    "EgoXModelPatch": (
        *EGO_WORDS,
        *GEOMETRY_WORDS,
        "wan model patch",
        "モデルパッチ",
        "모델 패치",
        "模型补丁",
    ),
    "EgoXReleasedSampling": (
        "unipc",
        "scheduler",
        "sigmas",
        "flow shift",
        "スケジューラ",
        "스케줄러",
        "调度器",
    ),
    "EgoXWanSampler": (
        *EGO_WORDS,
        *GEOMETRY_WORDS,
        "exo to ego",
        "ksampler",
        "wan sampler",
        "サンプラー",
        "샘플러",
        "采样器",
    ),
    "EgoXSampleLong": (
        *EGO_WORDS,
        *GEOMETRY_WORDS,
        "long video",
        "extend video",
        "continue motion",
        "chunks",
        "長い動画",
        "긴 비디오",
        "长视频",
    ),
    "EgoXDecodeEgoHalf": (
        *EGO_WORDS,
        "vae decode",
        "fisheye to pinhole",
        "デコード",
        "디코드",
        "解码",
    ),
    "EgoXSecondEye": (
        *EGO_WORDS,
        "stereo",
        "vr180",
        "3d video",
        "side by side",
        "anaglyph",
        "立体視",
        "입체",
        "立体",
    ),
    "EgoXAttentionCapture": (
        "attention map",
        "record attention",
        "アテンション",
        "어텐션",
        "注意力",
    ),
    "EgoXAttentionView": (
        "attention map",
        "heat map",
        "where it looks",
        "アテンション",
        "어텐션",
        "注意力",
    ),
    "EgoXSweep": (
        "xy plot",
        "grid search",
        "lambda",
        "parameter sweep",
        "比較",
        "비교",
        "参数扫描",
    ),
    "EgoXLabelledGrid": (
        "video grid",
        "side by side",
        "compare videos",
        "並べて比較",
        "나란히 비교",
        "并排比较",
    ),
    "EgoXSaveRobotEpisode": (
        *EGO_WORDS,
        "lerobot",
        "robot dataset",
        "hands",
        "ロボット 学習データ",
        "로봇 데이터셋",
        "机器人数据集",
    ),
}
"""Search words by node id."""
ESSENTIALS = {
    "EgoXLoadExoVideo": "Video Tools",
    "EgoXEgoPoseInput": "Video Generation",
    "EgoXRenderEgoPrior": "Video Generation",
    "EgoXWanSampler": "Video Generation",
    "EgoXDecodeEgoHalf": "Video Generation",
}
"""ComfyUI's category of essential nodes, by node id."""


def node_schema(node_id: str, **parts: Any) -> io.Schema:
    """Make a node's schema, with its search words and its category of essential nodes."""
    return io.Schema(
        node_id=node_id,
        search_aliases=list(SEARCH_WORDS[node_id]),
        essentials_category=ESSENTIALS.get(node_id),
        **parts,
    )
