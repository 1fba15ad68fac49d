// Both pages work without this file. With it the form is answered without loading the page anew, and a request can be sent from /docs.
const form = document.getElementById("record");

async function predict() {
  const [said, why] = ["said", "why"].map((id) => document.getElementById(id));
  form.ariaBusy = "true";
  try {
    const response = await fetch(form.getAttribute("action"), { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!fresh.getElementById("said")) throw new Error(`status ${response.status}`);
    for (const part of [said, why, ...form.querySelectorAll("p.error")]) part.replaceChildren(...fresh.getElementById(part.id).childNodes);
    for (const input of form.querySelectorAll("[name]")) input.ariaInvalid = fresh.getElementById(input.id).ariaInvalid;
    document.title = fresh.title;
    const wrong = form.querySelector("[aria-invalid=true]");
    if (wrong) wrong.focus();
    else said.scrollIntoView({ block: "nearest" });
  } catch (error) {
    said.textContent = `The service did not answer (${error.message}).`;
    why.replaceChildren();
  }
  form.ariaBusy = "false";
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});

// An example fills the form and is predicted at once.
document.getElementById("examples")?.addEventListener("click", (event) => {
  if (!event.target.href || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const given = new URL(event.target.href).searchParams;
  for (const input of form.querySelectorAll("[name]")) input.value = given.get(input.name) ?? "";
  predict();
});

document.getElementById("why")?.addEventListener("click", async (event) => {
  if (event.target.id !== "share" || !navigator.clipboard) return;
  event.preventDefault();
  await navigator.clipboard.writeText(event.target.href).then(() => (event.target.textContent = "Link copied"), () => location.assign(event.target.href));
});

for (const each of document.querySelectorAll("form.try")) {
  each.hidden = false;
  each.addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = each.querySelector("output"), body = each.querySelector("textarea")?.value, started = performance.now();
    const asked = new URLSearchParams(new FormData(each)).toString();
    try {
      const headers = body === undefined ? {} : { "Content-Type": "application/json" };
      const response = await fetch(each.getAttribute("action") + (asked && `?${asked}`), { method: each.method, headers, body });
      const text = await response.text(), took = Math.round(performance.now() - started);
      const shown = /json/.test(response.headers.get("Content-Type")) ? JSON.stringify(JSON.parse(text), null, 2) : text;
      output.textContent = `${response.status} ${response.statusText}, ${took} ms\n${shown}`;
    } catch (error) {
      output.textContent = `The service did not answer (${error.message}).`;
    }
  });
}
