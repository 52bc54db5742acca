// Puts sections in place of those that have changed, as the server sends them, and shows whether it still does.
"use strict";
const link = document.getElementById("link");
const waiting = new Map();
let source = null, over = link.textContent === "over", later = 0;

function say(text, bad = false) {
  if (link.textContent !== text) link.textContent = text;
  link.className = bad ? "bad" : "";
}

// Somebody has marked words in it.
function used(section) {
  const marked = getSelection();
  return !marked.isCollapsed && marked.containsNode(section, true);
}

function replace(section, part) {
  const details = () => [...section.querySelectorAll("details")];
  const scrolled = () => [...section.querySelectorAll("figure, .wide")];
  const open = details().map((each) => each.open), left = scrolled().map((each) => each.scrollLeft);
  const focus = [...section.querySelectorAll("a, summary")].indexOf(document.activeElement);
  section.innerHTML = part.html;
  section.dataset.version = part.version;
  details().forEach((each, number) => { if (number in open) each.open = open[number]; });
  scrolled().forEach((each, number) => { each.scrollLeft = left[number] ?? 0; });
  if (focus >= 0) section.querySelectorAll("a, summary")[focus]?.focus({preventScroll: true});
}

// The first section that begins in the window, else the one that fills it: what is read stays where it is.
function anchor() {
  const all = [...document.querySelectorAll("section")].filter((each) => each.childElementCount);
  return all.find((each) => each.getBoundingClientRect().top >= 0) ?? all.at(-1);
}

function show() {
  clearTimeout(later);
  const kept = anchor(), before = kept?.getBoundingClientRect().top;
  for (const [name, part] of waiting) {
    const section = document.getElementById(name);
    if (section && used(section)) continue;
    if (section) replace(section, part);
    waiting.delete(name);
  }
  if (kept) scrollBy(0, kept.getBoundingClientRect().top - before);
  if (waiting.size) later = setTimeout(show, 400);
}

function listen() {
  if (over || source || document.hidden) return;
  const have = [...document.querySelectorAll("section[data-version]")];
  const query = have.map((each) => `${each.id}.${each.dataset.version}`).join("-");
  source = new EventSource(`${location.pathname.replace(/\/$/, "")}/events?have=${query}`);
  source.addEventListener("part", (event) => {
    const part = JSON.parse(event.data);
    waiting.set(part.name, part);
    show();
  });
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    if (state.title) document.title = state.title;
    over = state.over;
    if (over) leave();
    say(state.trouble || (over ? "over" : "live"), Boolean(state.trouble));
  });
  source.onerror = () => {
    leave();
    say("clusterctl serve gives no answer; trying again", true);
    setTimeout(listen, 2000);
  };
}

function leave() {
  source?.close();
  source = null;
}

// A page that nobody sees costs nothing, and takes none of the few connections that a browser makes.
document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else listen(); });
document.documentElement.style.overflowAnchor = "none";
listen();
