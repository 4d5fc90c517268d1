// The view of one run: its head, and tabs that each show it in another way.

import { h, replace, uniqueId } from "./dom.mjs";
import { graphTab } from "./graph.mjs";
import { connect } from "./live.mjs";
import { logTab } from "./log.mjs";
import { replayTab } from "./replay.mjs";
import { head } from "./runhead.mjs";
import { timelineTab } from "./timeline.mjs";

/**
 * The tabs, in order. Each is `{ name, label, make(host) }`, and what `make` gives is `{ element, update(items, keys), close() }`: `update` is
 * called with all items (a Map) and the keys that changed, while the tab is shown, and once when it comes to be shown. The host is
 * `{ perform(action, arguments): Promise, now(): seconds, items, model, tick(call): undo, live }`; `tick` calls every second while the page is seen.
 */
export const TABS = [graphTab, timelineTab, replayTab, logTab];

const LOST = "The log cannot be read: ";

export default {
  render({ model, el }) {
    el.classList.add("dnb", "dnb-run-view");
    const label = uniqueId();
    const items = new Map();
    const ticking = new Set();
    const made = new Map();
    let shown = null;

    const changed = (all, keys) => {
      if (items !== all) host.items = all;
      problem.hidden = true;
      top.update(all, keys);
      made.get(shown)?.update(all, keys);
    };
    const lost = (message) => {
      problem.hidden = false;
      replace(problem, LOST, message);
    };
    const host = { items, model, tick, now: () => Date.now() / 1000, perform: () => Promise.reject(new Error("not connected yet")) };
    function tick(call) {
      ticking.add(call);
      return () => ticking.delete(call);
    }
    const clock = setInterval(() => {
      if (el.isConnected && !document.hidden) for (const call of ticking) call();
    }, 1000);

    const top = head(host);
    const problem = h("p", { class: "dnb-error dnb-problem", role: "alert", hidden: true });
    const buttons = new Map();
    const bar = h("div", { class: "dnb-tabs", role: "tablist", "aria-label": "Views of the run", keydown: move });
    const panels = new Map();
    for (const tab of TABS) {
      const [own, panel] = [`${label}-tab-${tab.name}`, `${label}-${tab.name}`];
      const pick = () => show(tab.name);
      const button = h("button", { role: "tab", id: own, "aria-controls": panel, click: pick, type: "button" }, tab.label);
      buttons.set(tab.name, button);
      bar.append(button);
      panels.set(tab.name, h("div", { role: "tabpanel", id: panel, "aria-labelledby": own, class: `dnb-panel-${tab.name}`, hidden: true }));
    }
    el.append(top.element, bar, problem, ...panels.values());

    function show(name) {
      const tab = TABS.find((one) => one.name === name) ?? TABS[0];
      if (shown === tab.name) return;
      shown = tab.name;
      for (const [key, button] of buttons) {
        button.setAttribute("aria-selected", String(key === shown));
        button.setAttribute("tabindex", key === shown ? "0" : "-1");
        panels.get(key).hidden = key !== shown;
      }
      if (!made.has(shown)) {
        made.set(shown, tab.make(host));
        panels.get(shown).append(made.get(shown).element);
      }
      if (model.get("tab") !== shown) {
        model.set("tab", shown);
        model.save_changes();
      }
      if (host.items.size) made.get(shown).update(host.items, new Set(host.items.keys()));
    }
    function move(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const names = TABS.map((tab) => tab.name);
      show(names[(names.indexOf(shown) + step + names.length) % names.length]);
      buttons.get(shown).focus();
    }
    const moved = () => show(model.get("tab"));
    const ended = () => {
      problem.hidden = false;
      replace(problem, "The kernel has ended: this is how the run stood. Run the cell again to follow it.");
    };
    model.on("change:tab", moved);
    model.on("comm_live_update", ended);
    const live = connect(model, { changed, lost });
    Object.assign(host, { live, now: live.now, perform: live.perform });
    show(model.get("tab"));
    return () => {
      clearInterval(clock);
      model.off("change:tab", moved);
      model.off("comm_live_update", ended);
      for (const tab of made.values()) tab.close();
      top.close();
      live.close();
    };
  },
};
