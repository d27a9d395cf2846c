"use strict";
// Answers are drawn with textContent alone: nothing in an answer can become markup.
(() => {
  const form = document.getElementById("ask");
  const field = document.getElementById("question");
  const send = document.getElementById("send");
  const stop = document.getElementById("stop");
  const fresh = document.getElementById("fresh");
  const error = document.getElementById("question-error");
  const status = document.getElementById("status");
  const conversation = document.getElementById("conversation");
  const csrf = form.elements.csrfmiddlewaretoken.value;
  const sentences = JSON.parse(conversation.dataset.losses);
  const RESUMES = 6;
  let sessionId = null;
  let current = null;

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

  // The marks within a line that models use most; every other mark is shown as it was written.
  const MARK = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\[[^\]\n]+\]\((?:https?:\/\/|mailto:)[^\s()]+\))/;
  const inline = (into, text) => {
    text.split(MARK).forEach((piece, place) => {
      if (place % 2 === 0) into.append(piece);
      else if (piece.startsWith("`")) into.appendChild(element("code", piece.slice(1, -1)));
      else if (piece.startsWith("**")) into.appendChild(element("strong", piece.slice(2, -2)));
      else {
        const [label, address] = piece.slice(1, -1).split("](");
        const link = into.appendChild(element("a", label));
        link.href = address;
        link.rel = "noopener noreferrer";
      }
    });
    return into;
  };

  // Headings become bold lines: the page's own headings stay an outline of the page.
  const markdown = (text) => {
    const box = element("div");
    text.split(/\n{2,}/).forEach((part) => {
      const heading = /^#{1,6} +(.+)$/.exec(part);
      if (heading) box.appendChild(element("p", null, "text")).appendChild(inline(element("strong"), heading[1]));
      else box.appendChild(inline(element("p", null, "text"), part));
    });
    return box;
  };

  const draw = {
    markdown: (block) => markdown(block.text),
    list: (block) => {
      const list = element(block.ordered ? "ol" : "ul");
      block.items.forEach((item) => inline(list.appendChild(element("li")), item));
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
      box.appendChild(markdown(block.text));
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

  // What was lost on the way is told to the reader; other repairs are on record and change nothing for them.
  const losses = (codes) => {
    const told = codes.filter((code) => sentences[code]);
    if (!told.length) return null;
    const box = element("div", null, "callout warning");
    box.appendChild(element("strong", "About this answer"));
    told.forEach((code) => box.appendChild(element("p", sentences[code], "text")));
    return box;
  };

  const suggestions = (actions) => {
    const row = element("div", null, "row");
    actions.forEach((action) => {
      const button = row.appendChild(element("button", action.label, "plain"));
      button.type = "button";
      button.addEventListener("click", () => { field.value = action.payload; ask(); });
    });
    return row;
  };

  // An answer on the page: blocks as they come, then title, sources and the rest around them.
  const answerView = () => {
    const article = element("article");
    article.tabIndex = -1;
    article.setAttribute("aria-busy", "true");
    const title = article.appendChild(element("h2", "Answering"));
    let shown = 0;
    return {
      article,
      block: (index, block) => {
        if (index !== shown) return;
        article.appendChild(draw[block.type](block));
        shown += 1;
      },
      finish: (answer) => {
        title.textContent = answer.title;
        answer.blocks.slice(shown).forEach((block) => article.appendChild(draw[block.type](block)));
        const lost = losses(answer.meta.repair_codes);
        if (lost) article.appendChild(lost);
        if (answer.citations.length) article.appendChild(sources(answer.citations));
        if (answer.meta.suggested_actions.length) article.appendChild(suggestions(answer.meta.suggested_actions));
        const alone = answer.meta.degraded && answer.meta.provider === "extractive";
        const from = alone ? "the knowledge base alone (the model could not be reached)" : answer.meta.model;
        const origin = from ? ` From ${from}.` : "";
        article.appendChild(element("p", `${answer.meta.disclaimer}.${origin} ${answer.meta.retention_notice}`, "meta"));
        article.removeAttribute("aria-busy");
      },
      fail: () => {
        if (!shown) return article.remove();
        title.textContent = "Answer not finished";
        article.removeAttribute("aria-busy");
      },
    };
  };

  const complain = (text) => {
    error.textContent = text;
    status.textContent = "";
    field.setAttribute("aria-invalid", "true");
    field.focus();
  };

  const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

  // Server-sent events of a response, one object each. EventSource cannot send a question.
  async function* eventsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const fields = {};
        part.split("\n").forEach((line) => {
          const at = line.indexOf(": ");
          if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
        });
        if (fields.event) yield { id: fields.id, event: fields.event, data: JSON.parse(fields.data) };
      }
    }
  }

  // Follows a turn to its last event, over as many connections as it takes. Returns that event, or null.
  const follow = async (first, running, view) => {
    let response = first;
    for (let tries = 0; tries <= RESUMES; tries += 1) {
      try {
        for await (const { id, event, data } of eventsOf(response)) {
          tries = 0;
          running.last = id;
          status.textContent = "Answering";
          if (event === "started") { running.turn = data.turn_id; running.session = data.session_id; }
          if (event === "block") view.block(data.index, data.block);
          if (event === "answer" || event === "error") return { event, data };
        }
      } catch (dropped) {
        // Taken up again below.
      }
      if (!running.turn) return null;
      status.textContent = "The connection was lost; taking it up again";
      await pause(Math.min(500 * 2 ** tries, 8000));
      try {
        response = await fetch(`/chat/turns/${running.turn}/stream`, { headers: { "Last-Event-ID": running.last } });
        if ([204, 404, 410].includes(response.status)) return null;
        if (response.status !== 200) response = new Response("");
      } catch (away) {
        response = new Response("");
      }
    }
    return null;
  };

  const refused = (httpStatus, problem) => {
    const fields = Object.values(problem.errors || {}).flat().join(" ");
    if (httpStatus === 401 || httpStatus === 403) return complain("You are signed out. Sign in again in another tab, then ask again here.");
    if (problem.code === "session_not_found") sessionId = null;
    return complain(`${fields || problem.detail} Your question is still here.`);
  };

  const asking = (running) => {
    send.disabled = Boolean(running);
    stop.hidden = !running;
    stop.disabled = false;
    current = running;
  };

  const ask = async () => {
    const question = field.value.trim();
    error.textContent = "";
    field.removeAttribute("aria-invalid");
    if (current) return;
    if (!question) return complain("Write a question first.");
    const running = { turn: null, session: null, last: "0" };
    asking(running);
    status.textContent = "Looking for the answer";
    const view = answerView();
    const asked = element("p", question, "asked");
    try {
      const body = { question, stream: true };
      if (sessionId) body.session_id = sessionId;
      const response = await fetch("/chat/enhanced", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRFToken": csrf },
        body: JSON.stringify(body),
      });
      if (!response.ok) return refused(response.status, await response.json());
      conversation.prepend(asked, view.article);
      const last = await follow(response, running, view);
      if (!last || last.event === "error") {
        view.fail();
        if (!view.article.isConnected) asked.remove();
        return last ? refused(last.data.status, last.data) : complain("The connection was lost and could not be taken up again. Your question is still here; what was answered is in the record.");
      }
      sessionId = running.session;
      view.finish(last.data);
      field.value = "";
      fresh.hidden = false;
      status.textContent = `Answered: ${last.data.title}`;
      view.article.focus();
    } catch (failure) {
      view.fail();
      complain("The server could not be reached. Your question is still here; try again in a moment.");
    } finally {
      asking(null);
    }
  };

  stop.addEventListener("click", async () => {
    if (!current || !current.turn) return;
    stop.disabled = true;
    status.textContent = "Stopping";
    try {
      await fetch(`/chat/turns/${current.turn}/stop`, { method: "POST", headers: { "X-CSRFToken": csrf } });
    } catch (away) {
      stop.disabled = false;
    }
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  fresh.addEventListener("click", () => {
    if (current) return;
    sessionId = null;
    conversation.replaceChildren();
    fresh.hidden = true;
    status.textContent = "New conversation";
    field.focus();
  });
})();
