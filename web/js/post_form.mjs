// The answer of one of our routes to a form; rejects with the server's reason.
export async function postForm(api, route, body) {
  const answer = await api.fetchApi(route, { method: "POST", body });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.reason ?? `${answer.status} ${answer.statusText}`);
  return told;
}
