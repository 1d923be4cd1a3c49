// Files that carry a workflow, which a drop opens instead of uploading them.

const MOST = 2 ** 23; // bytes read at either end, where containers keep what they carry
const WORDS = /(class_type|last_node_id|lastNodeId)\\*"\s*:/; // of a prompt or a saved workflow, quoted once or twice

export async function carriesWorkflow(file) {
  const ends = [file.slice(0, MOST), file.slice(Math.max(MOST, file.size - MOST))];
  const texts = await Promise.all(ends.map((end) => end.text()));
  return texts.some((text) => WORDS.test(text));
}

// A drop as it is now: the page forgets it as soon as one waits for something.
export function keptDrop({ dataTransfer }) {
  const kept = new DataTransfer();
  for (const type of dataTransfer.types)
    if (type !== "Files") kept.setData(type, dataTransfer.getData(type));
  for (const file of dataTransfer.files) kept.items.add(file);
  return new DragEvent("drop", { dataTransfer: kept });
}

// The one file of a drop, or the one that it names: the page's own lists drag an address of the
// server. Else null.
export async function loneFile({ dataTransfer }) {
  if (dataTransfer.files.length)
    return dataTransfer.files.length === 1 ? dataTransfer.files[0] : null;
  const named = dataTransfer.getData("text/uri-list");
  const address = named && URL.parse(named, location.href);
  if (address?.origin !== location.origin) return null;
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok) return null;
  const blob = await answer.blob();
  return new File([blob], address.searchParams.get("filename") ?? "dropped", { type: blob.type });
}
