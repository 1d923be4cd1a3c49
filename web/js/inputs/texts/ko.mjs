// What the rows of our nodes say beside the host's own texts, in Korean.
export default {
  showAdvanced: "고급 입력 표시",
  hideAdvanced: "고급 입력 숨기기",
};
