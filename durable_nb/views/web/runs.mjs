// The table of runs: filters, order, pages, choosing and bulk actions. What fits and in which order, the kernel says.

import { left } from "./ask.mjs";
import { h, replace } from "./dom.mjs";
import { connect } from "./live.mjs";
import { openedRun } from "./opened.mjs";
import { has, nothing, question, size, toggled, togglePage } from "./selection.mjs";
import { sign, stateOf } from "./states.mjs";
import { counted, duration, moment } from "./words.mjs";

const COLUMNS = [
  { name: "state", label: "State", sorts: "state" },
  { name: "task", label: "Task", sorts: "task" },
  { name: "run", label: "Run", sorts: "created" },
  { name: "key", label: "Key", sorts: "key" },
  { name: "started", label: "Started", sorts: "started" },
  { name: "took", label: "Took", sorts: "took" },
  { name: "data", label: "Input → output" },
  { name: "metadata", label: "Metadata" },
];
const STATES = [
  ["any state", ""],
  ["unfinished", "QUEUED,RUNNING"],
  ["queued", "QUEUED"],
  ["running or waiting", "RUNNING"],
  ["completed", "COMPLETED"],
  ["failed", "FAILED"],
  ["cancelled", "CANCELLED"],
];
const SINCE = [["any time", ""], ["last 15 minutes", 900], ["last hour", 3600], ["last 24 hours", 86400], ["last 7 days", 604800]];
const TYPED = 250; // milliseconds of quiet before a text is looked for

class Row {
  constructor(table, row) {
    this.check = h("input", { type: "checkbox", tabindex: -1, "aria-label": `Choose run ${row.number}` });
    this.check.addEventListener("click", (event) => table.toggle(this.row, event.shiftKey));
    this.cells = COLUMNS.map(({ name }) => h("td", { class: `dnb-c-${name}` }));
    this.element = h("tr", { tabindex: -1, "data-number": row.number }, h("td", { class: "dnb-c-check" }, this.check), this.cells);
    this.element.addEventListener("dblclick", () => table.open(this.row));
    this.table = table;
    this.draw(row);
  }

  draw(row) {
    this.row = row;
    const [state, task, run, key, started, , data, metadata] = this.cells;
    const { word, colour } = stateOf(row.state);
    this.waits = h("span", { class: "dnb-waits" });
    replace(
      state,
      h("span", { class: `dnb-pill dnb-${colour}` }, sign(row.state), word),
      row.attempt > 1 && h("span", { class: "dnb-num dnb-small" }, ` attempt ${row.attempt}`),
      row.progress !== null && this.progress(row),
      row.waits.length > 0 && this.waits,
    );
    replace(task, h("b", {}, row.task));
    replace(run, h("button", { type: "button", class: "dnb-runs-link", tabindex: -1, title: row.id, click: () => this.table.open(row) }, `#${row.number}`), h("span", { class: "dnb-id" }, ` …${row.id.slice(-5)}`));
    replace(key, row.key);
    const [day, time] = row.started_at === null ? ["", ""] : moment(row.started_at).split(" ");
    replace(started, day === moment(this.table.live.now()).split(" ")[0] ? time : day);
    started.title = `${day} ${time}`;
    replace(data, h("div", { class: "dnb-flow" }, h("code", {}, row.input), row.result && h("span", { class: "dnb-runs-arrow" }, "→"), row.result && h("code", { class: row.is_bad ? "dnb-bad" : "" }, row.result)));
    replace(metadata, row.metadata && h("code", {}, row.metadata));
    for (const cell of [data, metadata, key]) cell.title = cell.textContent;
    this.tick(this.table.live.now());
  }

  progress({ progress, message }) {
    const percent = Math.round(Math.min(Math.max(progress, 0), 1) * 100);
    const bar = h("progress", { max: 100, value: percent, "aria-label": `Progress ${percent} %` });
    return h("span", { class: "dnb-runs-progress", title: message }, bar, h("span", { class: "dnb-num" }, `${percent} %`), message && h("span", { class: "dnb-waits" }, message));
  }

  tick(now) {
    const { started_at: from, finished_at: to, waits } = this.row;
    const took = from === null ? "" : duration((to ?? now) - from);
    if (this.cells[5].textContent !== took) replace(this.cells[5], took);
    if (!waits.length) return;
    const said = waits.map(({ words, due_at: due }) => (due === null ? words : `${words}, ${left(due - now)}`)).join(" or ");
    if (this.waits.textContent !== said) replace(this.waits, said);
    this.waits.title = said;
  }

  mark(isChosen, isCurrent) {
    this.check.checked = isChosen;
    this.element.setAttribute("aria-selected", String(isChosen));
    this.element.tabIndex = isCurrent ? 0 : -1;
  }
}

class Table {
  constructor(model, el) {
    this.items = new Map();
    this.rows = new Map();
    this.selection = nothing();
    this.current = null;
    this.query = { order: "created", descending: true, offset: 0, limit: 25, upto: null };
    this.live = connect(model, { changed: (items) => this.draw(items), lost: (message) => this.say(message) });
    this.opened = openedRun(this.live, model, { left: () => this.rows.get(this.openNumber)?.element.focus() });
    this.build(el);
    this.timer = setInterval(() => this.tick(), 1000);
  }

  build(el) {
    el.classList.add("dnb", "dnb-runs");
    el.setAttribute("data-lm-suppress-shortcuts", "true");
    const option = ([words, value]) => h("option", { value }, words);
    this.search = h("input", { type: "search", class: "dnb-search", placeholder: "task, id, key, input or customer=7", "aria-label": "Find runs by task, id, key, input, error or metadata" });
    this.status = h("select", { "aria-label": "State" }, STATES.map(option));
    this.task = h("select", { "aria-label": "Task" }, option(["any task", ""]));
    this.since = h("select", { "aria-label": "Created" }, SINCE.map(option));
    this.children = h("input", { type: "checkbox" });
    for (const control of [this.status, this.task, this.since, this.children]) control.addEventListener("change", () => this.choose({}));
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.choose({}), TYPED);
    });
    this.total = h("span", { class: "dnb-num" });
    this.newer = h("button", { type: "button", class: "dnb-newer", hidden: true, click: () => this.latest() });
    this.all = h("input", { type: "checkbox", "aria-label": "Choose all runs of this page" });
    this.all.addEventListener("click", () => this.select(togglePage(this.selection, this.page())));
    this.heads = COLUMNS.map((column) => h("th", { scope: "col", class: `dnb-c-${column.name}` }, column.sorts ? h("button", { type: "button", click: () => this.sort(column) }, column.label, h("span", { class: "dnb-way", "aria-hidden": "true" })) : column.label));
    this.body = h("tbody", {});
    this.grid = h("table", { role: "grid", "aria-label": "Runs", "aria-multiselectable": "true", keydown: (event) => this.keys(event) }, h("thead", {}, h("tr", {}, h("th", { class: "dnb-c-check" }, this.all), this.heads)), this.body);
    this.body.addEventListener("focusin", (event) => this.walkTo(Number(event.target.closest("tr")?.dataset.number), false));
    this.empty = h("p", { class: "dnb-runs-empty" }, "Loading…");
    this.bar = h("div", { class: "dnb-bar dnb-runs-chosen", role: "region", "aria-label": "Chosen runs", hidden: true });
    this.back = h("button", { type: "button", "aria-label": "Previous page", click: () => this.turn(-1) }, "‹");
    this.on = h("button", { type: "button", "aria-label": "Next page", click: () => this.turn(1) }, "›");
    this.where = h("span", { class: "dnb-num" });
    this.limit = h("select", { "aria-label": "Runs a page", change: () => this.choose({ limit: Number(this.limit.value) }) }, [25, 50, 100].map((number) => h("option", { value: number }, `${number} a page`)));
    this.said = h("div", { class: "dnb-hidden", role: "status", "aria-live": "polite" });
    this.lost = h("div", { class: "dnb-error dnb-runs-lost", role: "alert", hidden: true });
    const filters = h("div", { class: "dnb-filters", role: "search" }, this.search, this.status, this.task, this.since, h("label", { class: "dnb-runs-check" }, this.children, "with children"));
    const head = h("div", { class: "dnb-head" }, h("h2", { class: "dnb-title" }, "Runs"), this.total, this.newer, h("span", { class: "dnb-space" }), filters);
    const foot = h("div", { class: "dnb-bar dnb-pages" }, this.back, this.where, this.on, h("span", { class: "dnb-space" }), this.limit);
    el.append(h("section", { "aria-label": "Runs" }, head, this.lost, this.bar, h("div", { class: "dnb-runs-scroll" }, this.grid), this.empty, foot, this.opened.element, this.said));
  }

  page() {
    return (this.items.get("order") ?? []).map((number) => this.items.get(`run:${number}`));
  }

  announce(words) {
    replace(this.said, words);
  }

  say(message) {
    this.lost.hidden = false;
    replace(this.lost, message);
  }

  // ------------------------------------------------------------ what is shown

  /** Ask for other runs. A page beyond the first, or a choice, holds fast what is newest, so that rows do not move under the pointer. */
  async choose(changes) {
    const isOther = !("offset" in changes || "upto" in changes);
    if (isOther) this.selection = nothing();
    this.query = { ...this.query, ...(isOther ? { offset: 0, upto: null } : {}), ...changes };
    if (isOther) this.drawSelection();
    const query = {
      ...this.query,
      text: this.search.value,
      status: this.status.value ? this.status.value.split(",") : [],
      task: this.task.value || null,
      within: this.since.value ? Number(this.since.value) : null,
      children: this.children.checked,
    };
    try {
      await this.live.perform("choose", { query });
    } catch (error) {
      this.say(error.message);
    }
  }

  sort({ sorts, label }) {
    const descending = this.query.order === sorts ? !this.query.descending : sorts !== "task" && sorts !== "key";
    this.choose({ order: sorts, descending });
    this.drawHeads();
    this.announce(`Sorted by ${label}, ${descending ? "descending" : "ascending"}`);
  }

  turn(pages) {
    const offset = Math.max(this.query.offset + pages * this.query.limit, 0);
    this.choose({ offset, upto: this.query.upto ?? this.items.get("newest") });
    this.announce(`Page ${offset / this.query.limit + 1}`);
  }

  latest() {
    this.select(nothing());
    this.choose({ offset: 0, upto: null });
  }

  draw(items) {
    this.items = items;
    this.lost.hidden = true;
    const rows = this.page();
    const before = [...this.body.children];
    const hadFocus = this.body.contains(document.activeElement);
    const elements = rows.map((row) => {
      const known = this.rows.get(row.number);
      if (!known) this.rows.set(row.number, new Row(this, row));
      else if (known.row !== row) known.draw(row);
      return this.rows.get(row.number).element;
    });
    if (before.length !== elements.length || before.some((element, at) => element !== elements[at])) {
      this.body.replaceChildren(...elements);
      for (const number of [...this.rows.keys()]) if (!rows.some((row) => row.number === number)) this.rows.delete(number);
    }
    if (!rows.some((row) => row.number === this.current)) this.current = rows[0]?.number ?? null;
    if (hadFocus && !this.body.contains(document.activeElement)) this.rows.get(this.current)?.element.focus();
    this.drawFrame(rows);
    this.drawSelection();
    this.drawHeads();
  }

  drawFrame(rows) {
    const [count, most, newest, offset] = ["count", "most", "newest", "offset"].map((name) => this.items.get(name) ?? 0);
    const isMore = count > most;
    const total = `${isMore ? `more than ${most.toLocaleString("en")}` : count.toLocaleString("en")} ${count === 1 ? "run" : "runs"}`;
    replace(this.total, total);
    this.grid.hidden = rows.length === 0;
    for (const name of ["key", "metadata"]) this.grid.classList.toggle(`dnb-no-${name}`, rows.every((row) => !row[name]));
    this.empty.hidden = rows.length > 0;
    replace(this.empty, newest ? "No run fits these filters." : "No runs yet. A task's run(…) starts one.");
    const sorted = this.query.order !== "created" && isMore ? `, of the newest ${most.toLocaleString("en")}` : "";
    replace(this.where, rows.length ? `${(offset + 1).toLocaleString("en")}–${(offset + rows.length).toLocaleString("en")} of ${total}${sorted}` : "");
    this.back.disabled = offset === 0;
    this.on.disabled = offset + rows.length >= count || rows.length === 0;
    this.grid.setAttribute("aria-rowcount", String(isMore ? -1 : count + 1));
    [...this.body.children].forEach((element, at) => element.setAttribute("aria-rowindex", String(offset + at + 2)));
    const newer = this.query.upto === null ? 0 : newest - this.query.upto;
    this.newer.hidden = newer <= 0;
    replace(this.newer, `${counted(newer, "newer run")}: show`);
    const names = this.items.get("tasks") ?? [];
    if (names.length + 1 !== this.task.options.length) {
      const value = this.task.value;
      replace(this.task, [["", "any task"], ...names].map(([name, words]) => h("option", { value: name }, words)));
      this.task.value = value;
    }
  }

  drawHeads() {
    COLUMNS.forEach(({ sorts }, at) => {
      const isOn = sorts === this.query.order;
      if (!sorts) return;
      this.heads[at].setAttribute("aria-sort", isOn ? (this.query.descending ? "descending" : "ascending") : "none");
      replace(this.heads[at].querySelector(".dnb-way"), isOn ? (this.query.descending ? " ↓" : " ↑") : "");
    });
  }

  tick() {
    const now = this.live.now();
    for (const row of this.rows.values()) row.tick(now);
  }

  // ------------------------------------------------------------ choosing

  toggle(row, isRange) {
    this.select(toggled(this.selection, this.page(), row.number, { isRange }));
  }

  select(selection) {
    const was = size(this.selection, 1);
    this.selection = selection;
    this.isAsking = false;
    if (!was && size(selection, 1) && this.query.upto === null) this.choose({ upto: this.items.get("newest") });
    else if (was && !size(selection, 1) && this.query.offset === 0) this.choose({ upto: null });
    this.drawSelection();
    this.announce(size(selection, 1) ? `${this.chosen()} chosen` : "Nothing chosen");
  }

  chosen() {
    const [count, most] = [this.items.get("count") ?? 0, this.items.get("most")];
    if (this.selection.upto === null) return this.selection.ids.size.toLocaleString("en");
    return count > most ? `more than ${most.toLocaleString("en")}` : count.toLocaleString("en");
  }

  drawSelection() {
    const rows = this.page();
    for (const { number } of rows) this.rows.get(number)?.mark(has(this.selection, number), number === this.current);
    const here = rows.filter(({ number }) => has(this.selection, number)).length;
    this.all.checked = rows.length > 0 && here === rows.length;
    this.all.indeterminate = here > 0 && here < rows.length;
    const count = size(this.selection, this.items.get("count") ?? 0);
    const state = `${this.chosen()} ${here === rows.length}`;
    if (this.isAsking || (this.bar.dataset.state === state && !this.bar.hidden === count > 0)) return;
    this.bar.dataset.state = state;
    this.bar.hidden = count === 0;
    const isRest = this.selection.upto === null && here === rows.length && (this.items.get("count") ?? 0) > rows.length;
    const rest = isRest && h("button", { type: "button", class: "dnb-runs-link", click: () => this.select({ ...nothing(), upto: this.query.upto ?? this.items.get("newest") }) }, `Choose all ${this.total.textContent} that fit`);
    replace(
      this.bar,
      h("b", {}, `${this.chosen()} chosen`),
      rest,
      h("span", { class: "dnb-space" }),
      h("button", { type: "button", click: () => this.ask("replay") }, "Replay…"),
      h("button", { type: "button", click: () => this.ask("cancel") }, "Cancel…"),
      h("button", { type: "button", click: () => this.select(nothing()) }, "Clear"),
    );
  }

  async ask(action) {
    const { upto, ids } = this.selection;
    const given = { runs: upto === null ? [...ids.values()] : null, upto };
    this.isAsking = true;
    const back = () => {
      this.isAsking = false;
      delete this.bar.dataset.state;
      this.drawSelection();
      this.bar.querySelector("button")?.focus();
    };
    const report = (words, isBad) => {
      const close = h("button", { type: "button", click: () => (isBad ? back() : this.select(nothing())) }, "OK");
      replace(this.bar, h("span", { class: isBad ? "dnb-error" : "", role: "status" }, words), h("span", { class: "dnb-space" }), close);
      close.focus();
      this.announce(words);
    };
    try {
      const { words, does } = question(action, await this.live.perform("weigh", given), counted);
      if (!does) {
        report(words, true);
        return;
      }
      const go = async () => {
        replace(this.bar, h("span", { role: "status" }, action === "cancel" ? "Cancelling…" : "Replaying…"));
        try {
          const done = await this.live.perform(action, given);
          report(`${counted(done, "run")} ${action === "cancel" ? "cancelled" : "replayed"}.`, false);
        } catch (error) {
          report(error.message, true);
        }
      };
      const no = h("button", { type: "button", click: back }, "Back");
      replace(this.bar, h("span", { role: "alert" }, words), h("span", { class: "dnb-space" }), h("button", { type: "button", class: action === "cancel" ? "dnb-stop" : "dnb-go", click: go }, `${action === "cancel" ? "Cancel" : "Replay"} ${counted(does, "run")}`), no);
      no.focus();
    } catch (error) {
      report(error.message, true);
    }
  }

  // ------------------------------------------------------------ keys

  walkTo(number, moves = true) {
    if (!this.rows.has(number)) return;
    this.rows.get(this.current)?.element.setAttribute("tabindex", "-1");
    this.current = number;
    const { element } = this.rows.get(number);
    element.setAttribute("tabindex", "0");
    if (moves) element.focus();
  }

  keys(event) {
    const rows = this.page();
    const at = rows.findIndex(({ number }) => number === this.current);
    if (!event.target.closest("tbody") || at < 0) return;
    const walk = (to, isRange) => {
      const row = rows[Math.min(Math.max(to, 0), rows.length - 1)];
      if (isRange) {
        if (!has(this.selection, this.current)) this.toggle(rows[at], false);
        if (row !== rows[at]) this.toggle(row, true);
      }
      this.walkTo(row.number);
    };
    const isCommand = event.ctrlKey || event.metaKey;
    const doing = {
      ArrowDown: () => walk(at + 1, event.shiftKey),
      ArrowUp: () => walk(at - 1, event.shiftKey),
      Home: () => walk(0, event.shiftKey),
      End: () => walk(rows.length - 1, event.shiftKey),
      PageDown: () => this.on.disabled || this.turn(1),
      PageUp: () => this.back.disabled || this.turn(-1),
      " ": () => this.toggle(rows[at], event.shiftKey),
      Enter: () => this.open(rows[at]),
      Escape: () => this.select(nothing()),
      a: isCommand ? () => this.select(togglePage(nothing(), rows)) : null,
    }[event.key];
    if (!doing || event.target.closest("button")) return;
    event.preventDefault();
    event.stopPropagation();
    doing();
  }

  open({ id, number }) {
    this.opened.open(id, `Run #${number}`);
    this.openNumber = number;
  }

  close() {
    clearInterval(this.timer);
    this.opened.close();
    this.live.close();
  }
}

export default {
  render({ model, el }) {
    const table = new Table(model, el);
    return () => table.close();
  },
};
