"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const meta = JSON.parse($("meta").textContent);
  const filters = ["outcome", "trained", "verdict", "find"];
  const state = { run: 0, step: null, question: 0, id: "", outcome: "", trained: "", verdict: "", find: "" };
  const unpacked = new Map();
  const kept = 8;
  let turn = 0;

  // All text comes from models and files: it enters the page as text nodes alone, never as markup.
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  async function unpack(run, step) {
    const id = `r${run}s${step}`;
    if (!unpacked.has(id)) {
      const bytes = Uint8Array.from(atob($(id).textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      unpacked.set(id, new Response(stream).json());
      if (unpacked.size > kept) unpacked.delete(unpacked.keys().next().value);
    }
    return unpacked.get(id);
  }

  const isRollout = (line) => line.sample !== null;

  function outcome(question) {
    if (!question.rollouts) return "unsampled";
    return question.solved === 0 ? "none" : question.solved === question.rollouts ? "all" : "some";
  }

  function trainedOn(question) {
    const trained = question.lines.filter((line) => line.trained);
    const parts = [];
    if (trained.some(isRollout)) parts.push("rollouts");
    if (trained.some((line) => !isRollout(line))) parts.push("demonstration");
    return parts.length ? parts.join(" and ") : "nothing";
  }

  // Older files hold the prompt alone.
  const titleOf = (question) =>
    (question.problem ?? question.prompt.trim().split("\n").at(-1)).replace(/\s+/g, " ").trim() || question.id;
  const textOf = (line) => line.text ?? line.pieces.join("");

  function matches(question) {
    const needle = state.find.toLowerCase();
    const hay = () => [question.id, question.prompt, question.answer ?? "", ...question.lines.map(textOf)];
    return (!state.outcome || outcome(question) === state.outcome)
      && (!state.trained || trainedOn(question).includes(state.trained))
      && (!state.verdict || question.lines.some((line) => line.verdict === state.verdict))
      && (!needle || hay().some((text) => text.toLowerCase().includes(needle)));
  }

  const number = (value) => String(value).replace("-", "−");

  function shade(logprob) {
    const p = Math.exp(logprob / 100);
    return p >= 0.9 ? 0 : p >= 0.5 ? 1 : p >= 0.2 ? 2 : p >= 0.05 ? 3 : 4;
  }

  function shaded(line) {
    const box = element("div", { className: "text" });
    line.pieces.forEach((piece, index) => {
      const logprob = line.logprobs[index];
      const level = shade(logprob);
      const span = element("span", { textContent: piece });
      if (level) span.className = `s${level}`;
      if (!piece) span.classList.add("end");
      span.title = `${piece ? JSON.stringify(piece) : "no text of its own"}: p = ${Math.exp(logprob / 100).toPrecision(2)}, `
        + `log p = ${number((logprob / 100).toFixed(2))}`;
      box.append(span);
    });
    return box;
  }

  function card(question, line) {
    const sampled = question.gate ? "rollout" : "completion";
    const gold = question.answer === null ? "" : `, gold ${question.answer}`;
    const facts = [
      element("strong", { textContent: isRollout(line) ? `${sampled} ${line.sample + 1}` : "demonstration" }),
      element("span", { className: line.right ? "verdict right" : "verdict", textContent: `${line.right ? "✓" : "✗"} ${line.verdict}` }),
      `answer ${line.extracted ?? "none found"}${gold}`,
      `${line.tokens} tokens${line.truncated ? ", cut off by the length limit" : ""}`,
    ];
    if (question.gate) facts.push(`reward ${number(+line.reward.toPrecision(4))}`, line.trained ? "trained" : "not trained");
    if (line.logprobs?.length) {
      const mean = line.logprobs.reduce((sum, each) => sum + each, 0) / line.logprobs.length / 100;
      facts.push(`mean log p ${number(mean.toFixed(2))}`);
    }
    const header = element("header", {}, ...facts.map((fact) => (fact instanceof Node ? fact : element("span", { textContent: fact }))));
    const text = line.pieces ? shaded(line) : element("div", { className: "text", textContent: line.text });
    return element("article", { className: "card" }, header, text);
  }

  function saidOf(question) {
    const { gate, rollouts, solved, lines } = question;
    const gold = question.answer === null ? "" : ` Gold answer: ${question.answer}`;
    if (!gate) {
      const part = lines.length < rollouts ? ` ${lines.length} of them are in this page.` : "";
      return `${solved} of ${rollouts} completions are right.${part}${gold}`;
    }
    const sampled = rollouts
      ? `${solved} of ${rollouts} rollouts solved: α = ${gate.alpha} (rollouts), β = ${gate.beta} (demonstration)`
      : `nothing was sampled: α = ${gate.alpha}, β = ${gate.beta}`;
    const back = gate.fell_back ? "; it has no demonstration, so the gate fell back" : "";
    return `Gate: ${sampled}${back}. Trained on ${trainedOn(question)}.${gold}`;
  }

  function showQuestion(question) {
    const level = question.level === null ? "" : `, level ${question.level}`;
    $("detail").replaceChildren(
      element("h3", { textContent: `Question ${question.id}${level}` }),
      ...(question.prompt ? [element("div", { className: "text card", textContent: question.prompt })] : []),
      element("p", { className: "said", id: "gate", textContent: saidOf(question) }),
      ...question.lines.map((line) => card(question, line)),
    );
  }

  function listed(question) {
    const level = question.level === null ? "" : `level ${question.level}, `;
    const count = question.rollouts ? `${question.solved}/${question.rollouts} solved` : "not sampled";
    return `${level}${count}${question.gate ? `, trained on ${trainedOn(question)}` : ""}`;
  }

  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, textContent]) => element("option", { value, textContent })));
    select.value = chosen;
  }

  const nearest = (steps, wanted) =>
    steps.reduce((best, each) => (Math.abs(each.step - wanted) < Math.abs(best.step - wanted) ? each : best));

  async function show() {
    const mine = ++turn;
    const run = meta.runs[state.run] ? state.run : 0;
    const { name, settings, steps, of, what } = meta.runs[run];
    const wanted = state.step ?? steps[0].step;
    const step = nearest(steps, wanted);
    Object.assign(state, { run, step: step.step });
    const isEvaluation = what === "benchmark";
    const titled = step.title || `step ${step.step}`;
    if (isEvaluation) state.trained = "";
    $("run").value = String(run);
    $("run").title = settings;
    for (const each of document.querySelectorAll(".of-run")) each.hidden = isEvaluation;
    $("what").textContent = what;
    $("before").textContent = `← ${what}`;
    $("after").textContent = `${what} →`;
    $("place").textContent = `${name}, ${titled}: `;
    fill($("step"), steps.map((each) => [each.step, each.title || each.step]), step.step);
    for (const each of filters) if (each !== "verdict") $(each).value = state[each];
    const parts = [];
    if (wanted !== step.step && !isEvaluation) parts.push(`Step ${wanted} is not in this page; this is the nearest, ${step.step}.`);
    if (steps.length < of) parts.push(`${steps.length} of the ${of} ${what}s are in this page.`);
    if (step.questions < step.of) parts.push(`${step.questions} of this ${what}'s ${step.of} questions are in it.`);
    $("left-out").textContent = parts.join(" ");
    let data;
    try {
      data = await unpack(run, step.step);
    } catch (error) {
      $("detail").textContent = `This browser cannot unpack the rollouts (${error}); use one from 2023 or later.`;
      return;
    }
    if (mine !== turn) return;
    const verdicts = [...new Set(data.questions.flatMap((each) => each.lines.map((line) => line.verdict)))].sort();
    if (state.verdict && !verdicts.includes(state.verdict)) verdicts.push(state.verdict);
    fill($("verdict"), [["", "any"], ...verdicts.map((each) => [each, each])], state.verdict);
    const shown = data.questions.map((question, index) => [question, index]).filter(([question]) => matches(question));
    const found = shown.find(([question, each]) => (state.id ? question.id === state.id : each === state.question));
    if (state.id && !found) $("left-out").textContent += ` Question ${state.id} is not among them.`;
    const current = found ?? shown[0];
    state.id = "";
    if (current) state.question = current[1];
    $("list").replaceChildren(...shown.map(([question, each]) => {
      const button = element("button", { type: "button" }, titleOf(question), element("small", { textContent: listed(question) }));
      button.setAttribute("aria-current", String(current[1] === each));
      button.addEventListener("click", () => go({ question: each }));
      return element("li", {}, button);
    }));
    $("count").textContent = `${shown.length} of ${data.questions.length} questions`;
    if (current) showQuestion(current[0]);
    else $("detail").textContent = "No question of this step passes the filters.";
    document.documentElement.dataset.shown = `${run}/${step.step}/${current ? current[1] : ""}`;
  }

  function go(changes) {
    Object.assign(state, changes);
    const said = Object.entries(state).filter(([, value]) => value !== "" && value !== null);
    history.replaceState(null, "", `#${new URLSearchParams(said)}`);
    show();
  }

  function read() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (!said.has("run") && !said.has("step")) return false;
    for (const name of filters) state[name] = said.get(name) ?? "";
    for (const name of ["run", "step", "question"]) if (said.has(name)) state[name] = Number(said.get(name));
    return true;
  }

  function move(by) {
    const steps = meta.runs[state.run].steps;
    const place = steps.findIndex((each) => each.step === state.step) + by;
    if (steps[place]) go({ step: steps[place].step, question: 0 });
  }

  function cellAt(grid, svg, event) {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    for (const { box: [left, top, right, bottom], rows } of grid.panels) {
      if (x < left || x >= right || y < top || y >= bottom) continue;
      const row = rows[Math.floor((y - top) / (bottom - top) * rows.length)];
      const epoch = Math.floor((x - left) / (right - left) * grid.epochs);
      return { id: grid.ids[row], epoch, accuracy: grid.accuracy[row][epoch], step: grid.steps[row][epoch] };
    }
    return null;
  }

  function wire(name, grid) {
    const svg = $(name);
    svg.addEventListener("mousemove", (event) => {
      const cell = cellAt(grid, svg, event);
      $("tip").hidden = !cell || !cell.step;
      if (!cell || !cell.step) return;
      const value = cell.accuracy === null ? "not sampled" : `${number(cell.accuracy)}%`;
      $("tip").textContent = `${cell.id}, epoch ${cell.epoch + 1} (step ${cell.step}): ${value}`;
      $("tip").style.left = `${Math.min(event.clientX + 12, innerWidth - 260)}px`;
      $("tip").style.top = `${event.clientY + 12}px`;
    });
    svg.addEventListener("mouseleave", () => { $("tip").hidden = true; });
    svg.addEventListener("click", (event) => {
      const cell = cellAt(grid, svg, event);
      if (!cell || !cell.step || grid.run === null) return;
      go({ run: grid.run, step: cell.step, id: cell.id, outcome: "", trained: "", verdict: "", find: "" });
      $("rollouts").scrollIntoView();
    });
  }

  for (const [name, grid] of Object.entries(meta.grids)) wire(name, grid);
  if (!meta.runs.length) return;
  fill($("run"), meta.runs.map((run, index) => [index, run.name]), 0);
  $("run").addEventListener("change", () => go({ run: Number($("run").value), question: 0 }));
  $("step").addEventListener("change", () => go({ step: Number($("step").value), question: 0 }));
  for (const name of filters) $(name).addEventListener("input", () => go({ [name]: $(name).value }));
  $("before").addEventListener("click", () => move(-1));
  $("after").addEventListener("click", () => move(1));
  $("shade").addEventListener("change", () => $("detail").classList.toggle("plain", !$("shade").checked));
  addEventListener("hashchange", () => { if (read()) show(); });
  const linked = read();
  show().then(() => linked && $("rollouts").scrollIntoView());
})();
