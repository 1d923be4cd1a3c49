// What the upload of the user's own files says, in Chinese.
export default {
  upload: "上传自己的文件",
  nodeLabel: "自己的视频、深度、位姿",
  hint: "视频、深度、meta.json 或整段素材的 .zip；也可连同文件夹拖放到节点上",
  sending: "正在上传 {size} MB…",
  failed: "未上传。{reason}",
  tooLarge:
    "{size} MB，而服务器一次最多接收 {limit} MB。请用 --max-upload-size {wanted} 启动，或把文件复制到其 input 文件夹。",
  tooMany: "文件超过 {count} 个：请拖放一段素材的文件夹。",
  video: "视频（{count} 帧）",
  depth: "深度（{count} 帧）",
  camera: "exo 相机",
  poses: "ego 位姿",
  reused: "相同的文件已作为 {folder} 存在。",
  renamed: "{name} 已是别的文件，所以这些存为 {folder}。",
  given: "已设置到：{nodes}。",
  several: "同类节点有多个，请在那里手动选择文件。",
  unused: "未使用：{names}。",
};
