// Posts the form as one record and shows the answer, or what was wrong with it.
const form = document.getElementById("record");
const output = document.getElementById("answer");

function value(input) {
  if (input.dataset.kind === "boolean") return input.value === "true";
  return input.type === "number" ? Number(input.value) : input.value;
}

// The answer's own fields, without what only tells where it comes from.
function shown(answer) {
  const fields = Object.entries(answer).filter(([name]) => name !== "model_version" && name !== "prediction_id");
  const texts = fields.map(([name, value]) => `${name}: ${typeof value === "number" ? Number(value.toFixed(3)) : value}`);
  return `${texts.join("\n")} ${form.dataset.unit}`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const filled = [...form.querySelectorAll("input, select")].filter((input) => input.value !== "");
  const record = Object.fromEntries(filled.map((input) => [input.name, value(input)]));
  let text, failed = true;
  try {
    const response = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(record),
    });
    const answer = await response.json();
    failed = !response.ok;
    text = response.ok
      ? shown(answer)
      : answer.errors ? answer.errors.map((e) => `${e.field}: ${e.expected}`).join("\n") : answer.detail;
  } catch (error) {
    text = `The service did not answer (${error.message}).`;
  }
  output.className = failed ? "error" : "";
  output.textContent = text;
});
