// Posts the form as one record and shows the answer, or what was wrong with it.
const form = document.getElementById("record");
const output = document.getElementById("answer");

function value(input) {
  return input.type === "number" ? Number(input.value) : input.value;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const filled = [...form.querySelectorAll("input")].filter((input) => input.value !== "");
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
      ? `${answer[form.dataset.answer].toFixed(1)} ${form.dataset.unit}`
      : answer.errors ? answer.errors.map((e) => `${e.field}: ${e.expected}`).join("\n") : answer.detail;
  } catch (error) {
    text = `The service did not answer (${error.message}).`;
  }
  output.className = failed ? "error" : "";
  output.textContent = text;
});
