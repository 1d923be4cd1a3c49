// What the upload of the user's own files says, in Japanese.
export default {
  upload: "自分のファイルをアップロード",
  nodeLabel: "自分の動画・深度・姿勢",
  hint: "動画、深度、meta.json、またはテイクの .zip。フォルダーごとノードへドロップしても可",
  sending: "{size} MB をアップロード中…",
  failed: "アップロードできませんでした。{reason}",
  tooLarge:
    "{size} MB ですが、サーバーが一度に受け取れるのは {limit} MB です。--max-upload-size {wanted} を付けて起動するか、ファイルを input フォルダーにコピーしてください。",
  tooMany: "ファイルが {count} 個を超えています。1 つのテイクのフォルダーをドロップしてください。",
  video: "動画（{count} フレーム）",
  depth: "深度（{count} フレーム）",
  camera: "exo カメラ",
  poses: "ego 姿勢",
  reused: "同じファイルが {folder} としてすでにあります。",
  renamed: "{name} には別のファイルがあるため、{folder} としました。",
  given: "設定先: {nodes}。",
  several: "同じ種類のノードが複数あります。そこでは手でファイルを選んでください。",
  unused: "未使用: {names}。",
};
