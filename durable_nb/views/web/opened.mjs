// A run that was opened from another view: its own live view, drawn by the page's widget manager.

import { h, replace } from "./dom.mjs";

/** The place for it. `live` is what `connect` gives, `model` the view's; `left` is called when a person closes it. */
export function openedRun(live, model, { left } = {}) {
  const element = h("div", { class: "dnb-opened", hidden: true });
  let wanted = 0;
  let close = () => {};

  function leave() {
    wanted += 1;
    close();
    close = () => {};
    element.hidden = true;
    replace(element);
  }

  async function open(run, name) {
    leave();
    const mine = wanted;
    const button = h("button", { type: "button", click: () => shut() }, "Close");
    const place = h("div", {}, h("p", { class: "dnb-num" }, "Loading…"));
    const shut = () => {
      leave();
      left?.();
    };
    const head = h("div", { class: "dnb-opened-head", keydown: (event) => event.key === "Escape" && shut() }, h("b", {}, name), h("span", { class: "dnb-id" }, run), h("span", { class: "dnb-space" }), button);
    replace(element, h("section", { "aria-label": name }, head, place));
    element.hidden = false;
    button.focus();
    try {
      const id = await live.perform("open_run", { run });
      const gone = () => live.perform("close_run", { model: id }).catch(() => {}); // a kernel that has ended holds nothing
      if (mine !== wanted) {
        gone();
        return;
      }
      close = gone;
      const view = await model.widget_manager.create_view(await model.widget_manager.get_model(id));
      if (mine !== wanted) {
        view.remove();
        return;
      }
      close = () => {
        view.remove();
        gone();
      };
      replace(place, view.el);
    } catch (error) {
      if (mine === wanted) replace(place, h("p", { class: "dnb-error" }, error.message));
    }
  }

  return { element, open, close: leave };
}
