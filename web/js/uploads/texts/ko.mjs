// What the upload of the user's own files says, in Korean.
export default {
  upload: "내 파일 업로드",
  nodeLabel: "내 영상, 깊이, 자세",
  hint: "영상, 깊이, meta.json 또는 테이크의 .zip. 폴더째 노드 위에 놓아도 됩니다",
  sending: "{size} MB 업로드 중…",
  failed: "업로드하지 못했습니다. {reason}",
  tooLarge:
    "{size} MB인데 서버는 한 번에 {limit} MB까지 받습니다. --max-upload-size {wanted} 옵션으로 시작하거나 파일을 input 폴더에 복사하세요.",
  tooMany: "파일이 {count}개를 넘습니다. 한 테이크의 폴더를 놓으세요.",
  video: "영상({count}프레임)",
  depth: "깊이({count}프레임)",
  camera: "exo 카메라",
  poses: "ego 자세",
  reused: "같은 파일이 {folder}(으)로 이미 있습니다.",
  renamed: "{name}에 다른 파일이 있어 {folder}(으)로 저장했습니다.",
  given: "설정된 노드: {nodes}.",
  several: "같은 종류의 노드가 여러 개 있습니다. 거기서는 파일을 직접 고르세요.",
  unused: "쓰지 않음: {names}.",
};
