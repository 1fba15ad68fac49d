// Posts the form as one record and shows the answer, or what was wrong with it.
const form = document.getElementById("record");
const output = document.getElementById("answer");
const why = document.getElementById("why");

function value(input) {
  if (input.dataset.kind === "boolean") return input.value === "true";
  return input.type === "number" ? Number(input.value) : input.value;
}

// The answer's own fields, without what only tells where it comes from.
function shown(answer) {
  const fields = Object.entries(answer).filter(([name]) => !["model_version", "prediction_id", "explanation"].includes(name));
  const texts = fields.map(([name, value]) => `${name}: ${typeof value === "number" ? Number(value.toFixed(3)) : value}`);
  return `${texts.join("\n")} ${form.dataset.unit}`;
}

// What each feature adds to the score, the greatest first.
function explain(explanation) {
  why.hidden = !explanation;
  if (!explanation) return;
  const parts = Object.entries(explanation.contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const rows = [["where nothing is known", explanation.base_value], ...parts.slice(0, 10)];
  why.caption.textContent = `Why: parts of the score, in ${explanation.unit}`;
  why.tBodies[0].replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = name;
    row.insertCell().textContent = (value > 0 ? "+" : "") + value.toFixed(3);
    return row;
  }));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const filled = [...form.querySelectorAll("input, select")].filter((input) => input.value !== "");
  const record = Object.fromEntries(filled.map((input) => [input.name, value(input)]));
  let text, failed = true;
  try {
    const response = await fetch("predict?explain=true", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(record),
    });
    const answer = await response.json();
    failed = !response.ok;
    explain(answer.explanation);
    text = response.ok
      ? shown(answer)
      : answer.errors ? answer.errors.map((e) => `${e.field}: ${e.expected}`).join("\n") : answer.detail;
  } catch (error) {
    text = `The service did not answer (${error.message}).`;
  }
  output.className = failed ? "error" : "";
  output.textContent = text;
});
