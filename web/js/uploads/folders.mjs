// What lies in dropped folders, at any depth.

const HIDDEN = /^\.|^__MACOSX$/;

// The entries (FileSystemEntry) of a drop, if one of them is a folder; else null. They are there
// only until the drop's own handlers are done.
export function entriesOf(dataTransfer) {
  const entries = [...(dataTransfer?.items ?? [])]
    .map((item) => item.webkitGetAsEntry?.())
    .filter(Boolean);
  return entries.some(({ isDirectory }) => isDirectory) ? entries : null;
}

// Promises [{ path, file }] of the files that are wanted, by name; rejects with RangeError as soon
// as there are more than `most` of any kind.
export async function filesIn(entries, isWanted, most) {
  const [found, waiting] = [[], [...entries]];
  for (let seen = 0; waiting.length;) {
    const entry = waiting.shift();
    if (HIDDEN.test(entry.name)) continue;
    if (entry.isDirectory) {
      waiting.push(...(await listed(entry.createReader())));
      continue;
    }
    if (++seen > most) throw new RangeError();
    if (isWanted(entry))
      found.push({ path: entry.fullPath, file: await new Promise((...to) => entry.file(...to)) });
  }
  return found;
}

// A reader gives some entries at a time, and none at the end.
async function listed(reader) {
  const all = [];
  for (let some; (some = await new Promise((...to) => reader.readEntries(...to))).length;)
    all.push(...some);
  return all;
}
