// What the previews say, in the languages of the node texts. {names} are filled in.

const TEXTS = {
  en: {
    view: "View", item: "Item of the list", side: "side by side", wipe: "wipe", left: "Left of the wipe", right: "Right of the wipe",
    play: "Play (space)", pause: "Pause (space)", frame: "Frame", of: "frame {frame} of {count}",
    wipeHandle: "Wipe", stage: "Preview. Space plays, arrow keys step, s side by side, w wipe, digits one picture.",
    loading: "Loading …", gone: "The preview's files are gone (the server was restarted). Run the graph again.",
    emptyDepth: "Run the graph: the aligned depth in metres appears here.",
    emptyPrior: "Run the graph: the ego prior, its coverage and depth appear here.",
    emptyLive: "While sampling, the ego video appears here in rough colours.",
    emptyCompare: "Run the graph: the ego video appears here. Connect exo_images, prior and ground_truth to compare.",
    emptyAttention: "Run the graph: attention appears here. Click in the ego picture to choose another pixel.",
    pick: "click a pixel", exo: "exo", prior: "prior", ego: "ego", truth: "ground truth",
    coverage: "coverage", depth: "depth", plot: "α, β, residual", weight: "g = 1 + cos", guided: "with GGA", plain: "without GGA",
  },
  ko: {
    view: "보기", item: "목록의 항목", side: "나란히", wipe: "와이프", left: "와이프 왼쪽", right: "와이프 오른쪽",
    play: "재생 (스페이스)", pause: "일시정지 (스페이스)", frame: "프레임", of: "{count}개 중 프레임 {frame}",
    wipeHandle: "와이프", stage: "미리보기. 스페이스 재생, 화살표로 한 프레임씩, s 나란히, w 와이프, 숫자 한 그림.",
    loading: "불러오는 중 …", gone: "미리보기 파일이 없습니다(서버가 다시 시작됨). 그래프를 다시 실행하세요.",
    emptyDepth: "그래프를 실행하면 정렬된 깊이(미터)가 여기에 나타납니다.",
    emptyPrior: "그래프를 실행하면 ego 프라이어와 커버리지, 깊이가 여기에 나타납니다.",
    emptyLive: "샘플링하는 동안 ego 비디오가 대략적인 색으로 여기에 나타납니다.",
    emptyCompare: "그래프를 실행하면 ego 비디오가 나타납니다. 비교하려면 exo_images, prior, ground_truth를 연결하세요.",
    emptyAttention: "그래프를 실행하면 어텐션이 나타납니다. ego 그림을 클릭해 다른 픽셀을 고르세요.",
    pick: "픽셀 클릭", exo: "exo", prior: "프라이어", ego: "ego", truth: "정답", coverage: "커버리지",
    depth: "깊이", plot: "α, β, 잔차", weight: "g = 1 + cos", guided: "GGA 있음", plain: "GGA 없음",
  },
  zh: {
    view: "视图", item: "列表中的项", side: "并排", wipe: "划像", left: "划像左侧", right: "划像右侧", play: "播放（空格）", pause: "暂停（空格）",
    frame: "帧", of: "第 {frame} 帧，共 {count} 帧", wipeHandle: "划像",
    stage: "预览。空格播放，方向键逐帧，s 并排，w 划像，数字键看单幅。",
    loading: "载入中 …", gone: "预览文件已不在（服务器重启过）。请再次运行。",
    emptyDepth: "运行后，此处显示对齐后的深度（米）。", emptyPrior: "运行后，此处显示 ego 先验、覆盖范围和深度。",
    emptyLive: "采样时，此处以粗略颜色显示 ego 视频。",
    emptyCompare: "运行后，此处显示 ego 视频。连接 exo_images、prior 和 ground_truth 即可对比。",
    emptyAttention: "运行后，此处显示注意力。在 ego 画面中点击可另选像素。",
    pick: "点击选像素", exo: "exo", prior: "先验", ego: "ego", truth: "真值", coverage: "覆盖", depth: "深度",
    plot: "α、β、残差", weight: "g = 1 + cos", guided: "有 GGA", plain: "无 GGA",
  },
  ja: {
    view: "表示", item: "リストの項目", side: "並べる", wipe: "ワイプ", left: "ワイプの左", right: "ワイプの右", play: "再生（スペース）",
    pause: "一時停止（スペース）", frame: "フレーム", of: "フレーム {frame} / {count}", wipeHandle: "ワイプ",
    stage: "プレビュー。スペースで再生、矢印でコマ送り、s で並べる、w でワイプ、数字で一枚表示。",
    loading: "読み込み中 …", gone: "プレビューのファイルがありません（サーバーが再起動されました）。もう一度実行してください。",
    emptyDepth: "実行すると、そろえた深度（メートル）がここに表示されます。",
    emptyPrior: "実行すると、ego のプライアと被覆、深度がここに表示されます。",
    emptyLive: "サンプリング中、ego 動画がおおまかな色でここに表示されます。",
    emptyCompare: "実行すると ego 動画が表示されます。比べるには exo_images、prior、ground_truth をつないでください。",
    emptyAttention: "実行するとアテンションが表示されます。ego 画像をクリックすると別の画素を選べます。",
    pick: "画素をクリック", exo: "exo", prior: "プライア", ego: "ego", truth: "正解", coverage: "被覆",
    depth: "深度", plot: "α、β、残差", weight: "g = 1 + cos", guided: "GGA あり", plain: "GGA なし",
  },
};

export function text(language, key, values = {}) {
  const texts = TEXTS[String(language).split("-")[0]] ?? TEXTS.en;
  const found = texts[key] ?? TEXTS.en[key];
  return found?.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
