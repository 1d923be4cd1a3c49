// What the rows of our nodes say beside the host's own texts, in Japanese.
export default {
  showAdvanced: "詳細入力を表示",
  hideAdvanced: "詳細入力を隠す",
};
