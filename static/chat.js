"use strict";
// Answers are drawn with textContent alone: nothing in an answer can become markup.
(() => {
  const form = document.getElementById("ask");
  const field = document.getElementById("question");
  const send = document.getElementById("send");
  const fresh = document.getElementById("fresh");
  const error = document.getElementById("question-error");
  const status = document.getElementById("status");
  const conversation = document.getElementById("conversation");
  const csrf = form.elements.csrfmiddlewaretoken.value;
  let sessionId = null;

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const table = (block) => {
    const frame = element("div", null, "scroll");
    frame.tabIndex = 0;
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", block.caption || "Table");
    const grid = frame.appendChild(element("table"));
    if (block.caption) grid.appendChild(element("caption", block.caption));
    const head = grid.createTHead().insertRow();
    block.columns.forEach((name) => { head.appendChild(element("th", name)).scope = "col"; });
    const body = grid.createTBody();
    block.rows.forEach((cells) => {
      const row = body.insertRow();
      cells.forEach((cell) => { row.insertCell().textContent = cell; });
    });
    return frame;
  };

  const draw = {
    markdown: (block) => element("p", block.text, "text"),
    list: (block) => {
      const list = element(block.ordered ? "ol" : "ul");
      block.items.forEach((item) => list.appendChild(element("li", item)));
      return list;
    },
    table,
    code: (block) => {
      const frame = element("pre");
      frame.tabIndex = 0;
      frame.appendChild(element("code", block.text));
      return frame;
    },
    callout: (block) => {
      const box = element("div", null, `callout ${block.tone}`);
      if (block.title) box.appendChild(element("strong", block.title));
      box.appendChild(element("p", block.text, "text"));
      return box;
    },
  };

  const sources = (citations) => {
    const details = element("details");
    details.appendChild(element("summary", citations.length === 1 ? "1 source" : `${citations.length} sources`));
    const list = details.appendChild(element("ol"));
    citations.forEach((citation) => {
      const item = list.appendChild(element("li", `${citation.reference} (${citation.edition}; ${citation.jurisdiction})`));
      item.value = citation.n;
    });
    return details;
  };

  const drawAnswer = (answer) => {
    const article = element("article");
    article.tabIndex = -1;
    article.appendChild(element("h2", answer.title));
    answer.blocks.forEach((block) => article.appendChild(draw[block.type](block)));
    if (answer.citations.length) article.appendChild(sources(answer.citations));
    const actions = answer.meta.suggested_actions;
    if (actions.length) {
      const row = article.appendChild(element("div", null, "row"));
      actions.forEach((action) => {
        const button = row.appendChild(element("button", action.label, "plain"));
        button.type = "button";
        button.addEventListener("click", () => { field.value = action.payload; ask(); });
      });
    }
    const from = answer.meta.degraded ? "the knowledge base alone (the model could not be reached)" : answer.meta.model;
    article.appendChild(element("p", `${answer.meta.disclaimer}. From ${from}. ${answer.meta.retention_notice}`, "meta"));
    return article;
  };

  const complain = (text) => {
    error.textContent = text;
    status.textContent = "";
    field.setAttribute("aria-invalid", "true");
    field.focus();
  };

  const ask = async () => {
    const question = field.value.trim();
    error.textContent = "";
    field.removeAttribute("aria-invalid");
    if (!question) return complain("Write a question first.");
    send.disabled = true;
    status.textContent = "Looking for the answer";
    try {
      const body = { question };
      if (sessionId) body.session_id = sessionId;
      const response = await fetch("/chat/enhanced", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRFToken": csrf, "Idempotency-Key": crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}` },
        body: JSON.stringify(body),
      });
      const found = await response.json();
      if (!response.ok) {
        const fields = Object.values(found.errors || {}).flat().join(" ");
        if (response.status === 401 || response.status === 403) return complain("You are signed out. Sign in again in another tab, then ask again here.");
        if (found.code === "session_not_found") { sessionId = null; }
        return complain(`${fields || found.detail} Your question is still here.`);
      }
      sessionId = found.meta.session_id;
      conversation.prepend(element("p", question, "asked"), drawAnswer(found));
      field.value = "";
      fresh.hidden = false;
      status.textContent = `Answered: ${found.title}`;
      conversation.querySelector("article").focus();
    } catch (failure) {
      complain("The server could not be reached. Your question is still here; try again in a moment.");
    } finally {
      send.disabled = false;
    }
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  fresh.addEventListener("click", () => {
    sessionId = null;
    conversation.replaceChildren();
    fresh.hidden = true;
    status.textContent = "New conversation";
    field.focus();
  });
})();
