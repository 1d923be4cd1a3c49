// What the upload of the user's own files says, in English.
export default {
  upload: "Upload own files",
  nodeLabel: "Own video, depth, poses",
  hint: "Video, depth, meta.json, or a .zip of a take; or drop them, or their folder, on the node",
  sending: "Uploading {size} MB …",
  failed: "Not uploaded. {reason}",
  tooLarge:
    "{size} MB, and the server takes {limit} MB. Start it with --max-upload-size {wanted}, or use its input folder.",
  tooMany: "More than {count} files: drop the folder of one take.",
  video: "video ({count} frames)",
  depth: "depth ({count} frames)",
  camera: "exo camera",
  poses: "ego poses",
  reused: "The same files were there already as {folder}.",
  renamed: "Other files are there as {name}, so these are {folder}.",
  given: "Set in: {nodes}.",
  several: "There are several nodes of a kind: choose the files there by hand.",
  unused: "Not used: {names}.",
};
