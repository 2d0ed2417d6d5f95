"use strict";

const script = document.currentScript.dataset;
const dark = matchMedia("(prefers-color-scheme: dark)");

function setColours() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

async function show() {
  const url = new URL(script.document, location.href);
  const answer = await fetch(url);
  if (!answer.ok) {
    throw new Error(`${url} answers with ${answer.status}`);
  }
  const spec = await answer.json();
  // Requests go to the daemon that serves this page, behind the prefix of a proxy as well.
  const root = new URL(script.root, location.href);
  spec.servers = [{ url: root.href.replace(/\/$/, "") }];
  SwaggerUIBundle({
    spec,
    domNode: document.getElementById("page"),
    deepLinking: true,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}

setColours();
dark.addEventListener("change", setColours);
show().catch((error) => {
  document.getElementById("page").textContent = `The document cannot be shown: ${error.message}`;
});
