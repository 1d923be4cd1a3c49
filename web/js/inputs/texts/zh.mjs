// What the rows of our nodes say beside the host's own texts, in Chinese.
export default {
  showAdvanced: "显示高级输入",
  hideAdvanced: "隐藏高级输入",
};
