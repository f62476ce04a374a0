"use strict";
// Comfort only: a filter over the checks, and buttons that copy commands. Everything is readable without it.
const form = document.getElementById("filter");
const checks = [...document.querySelectorAll(".check")];
const phases = [...document.querySelectorAll(".phase")];

function filter() {
  const text = form.elements.q.value.trim().toLowerCase();
  const wanted = [...form.querySelectorAll("select")].map((select) => select.value).filter(Boolean);
  let shown = 0;
  for (const check of checks) {
    const facts = check.dataset.f.split("\n");
    const fits = wanted.every((word) => facts.includes(word)) && (!text || check.textContent.toLowerCase().includes(text));
    check.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  for (const phase of phases) {
    phase.hidden = !phase.querySelector(".check:not([hidden])");
    phase.open = Boolean(text || wanted.length) && !phase.hidden;
  }
  form.elements.shown.value = `${shown} of ${checks.length} checks`;
}

if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function offerCopies(commands) {
  for (const command of commands) {
    command.dataset.c = "";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard?.writeText(command.textContent);
      button.textContent = "Copied";
    });
    command.after(button);
  }
}

offerCopies(document.querySelectorAll(".causes .command"));
document.addEventListener("toggle", (event) => {
  offerCopies(event.target.querySelectorAll?.(":scope > .command:not([data-c])") ?? []);
}, true);
