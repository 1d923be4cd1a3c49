// What the rows of our nodes say beside the host's own texts, in English.
export default {
  showAdvanced: "Show advanced inputs",
  hideAdvanced: "Hide advanced inputs",
};
