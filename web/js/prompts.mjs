// Prompts as the page sends them: { id: { class_type, inputs } }.

// Ids of a node and of all that it is made from.
export function behind(prompt, id, found = new Set()) {
  if (found.has(id) || !(id in prompt)) return found;
  found.add(id);
  for (const value of Object.values(prompt[id].inputs))
    if (Array.isArray(value)) behind(prompt, String(value[0]), found);
  return found;
}
