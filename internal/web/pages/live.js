// Keeps "Now" up to date by server-sent events. All text goes in as text nodes.
"use strict";
(() => {
  const works = document.getElementById("works");
  const quiet = document.getElementById("quiet");
  const stale = document.getElementById("stale");
  const live = document.getElementById("live");
  const age = document.getElementById("age");
  const asOf = new Date(document.getElementById("asof").dateTime);
  const opened = Date.now(); // this machine's clock may differ from keyd's
  const most = 24;

  const fresh = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);
  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  function showMark(node, mark) {
    const use = node.querySelector("use");
    if (use.getAttribute("href") !== "#mark-" + mark) use.setAttribute("href", "#mark-" + mark);
  }

  function showStep(li, step) {
    if (li.className !== step.mark) li.className = step.mark;
    showMark(li, step.mark);
    say(li.querySelector(".hidden"), step.mark + ": ");
    say(li.querySelector(".words"), step.words);
    say(li.querySelector(".took"), step.took || "");
    say(li.querySelector(".note"), step.note || "");
  }

  function show(work) {
    let li = [...works.children].find((one) => one.dataset.key === work.key);
    if (!li) {
      li = fresh("work");
      li.dataset.key = work.key;
    }
    li.className = "work " + work.mark;
    showMark(li.querySelector("summary"), work.mark);
    say(li.querySelector("h3"), work.title);
    say(li.querySelector(".sum"), work.summary || "");
    if (li.dataset.mark !== work.mark) { // otherwise it stays as the reader has it
      li.dataset.mark = work.mark;
      li.querySelector("details").open = work.mark !== "done";
    }
    const list = li.querySelector("ol");
    work.steps.forEach((step, i) => {
      if (!list.children[i]) list.append(fresh("step"));
      showStep(list.children[i], step);
    });
    while (list.children.length > work.steps.length) list.lastElementChild.remove();
    if (!li.isConnected) works.prepend(li);
    while (works.children.length > most) works.lastElementChild.remove();
    quiet.hidden = true;
    if (work.mark !== "doing" && new Date(work.at) > asOf) stale.hidden = false;
  }

  function follow() {
    const source = new EventSource("/events");
    source.addEventListener("open", () => say(live, "live"));
    source.addEventListener("work", (e) => show(JSON.parse(e.data)));
    source.addEventListener("error", () => {
      say(live, "not live: keyd does not answer");
      if (source.readyState === EventSource.CLOSED) setTimeout(follow, 30000);
    });
  }

  function tick() {
    const minutes = Math.floor((Date.now() - opened) / 60000);
    say(age, minutes < 1 ? "" : minutes === 1 ? ", a minute ago" : ", " + minutes + " minutes ago");
  }

  follow();
  setInterval(tick, 15000);
})();
