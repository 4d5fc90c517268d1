// The inbox: open questions with their forms, and what was answered.

import { ago, askForm, factsOf } from "./ask.mjs";
import { h, replace } from "./dom.mjs";
import { connect } from "./live.mjs";
import { openedRun } from "./opened.mjs";
import { sign } from "./states.mjs";
import { counted, moment } from "./words.mjs";

const UNFOLDED = 2; // questions whose forms are open from the start
const GONE = 6000; // milliseconds that a sent answer is still shown

const STATUS = { answered: "completed", "timed out": "parked", withdrawn: "cancelled" };

/** One open question. Its form is made when it is unfolded, and kept: an update of the feed never touches what is being typed. */
class Card {
  constructor(inbox, question) {
    this.inbox = inbox;
    this.question = question;
    this.form = null;
    this.isSent = false;
    this.facts = factsOf(question, () => inbox.opened.open(question.run, `Run #${question.number}`));
    this.toggle = h("button", { type: "button", class: "dnb-inbox-answer", "aria-expanded": "false", click: () => this.unfold(true) }, "Answer…");
    this.body = h("div", { class: "dnb-body" });
    this.title = h("h3", { class: "dnb-question" }, question.question);
    this.element = h("article", { class: "dnb-ask", "aria-label": question.question.slice(0, 200) }, h("div", { class: "dnb-inbox-asked" }, h("div", { class: "dnb-words" }, this.title, this.facts.element), this.toggle), this.body);
  }

  unfold(byHand = false) {
    this.form ??= askForm(this.inbox.live, this.question, { sent: () => this.sent(), later: () => this.fold() });
    replace(this.body, this.form.element);
    this.toggle.hidden = true;
    this.toggle.setAttribute("aria-expanded", "true");
    if (byHand) this.form.focus();
  }

  fold() {
    replace(this.body);
    this.toggle.hidden = false;
    replace(this.toggle, this.form?.isTouched() ? "Go on…" : "Answer…");
    this.toggle.setAttribute("aria-expanded", "false");
    this.toggle.focus();
  }

  sent() {
    this.isSent = true;
    this.note(["Sent."]);
  }

  note(words, dismiss) {
    replace(this.body, h("div", { class: "dnb-inbox-note" }, sign(this.isSent ? "completed" : "parked"), h("span", {}, words), dismiss && h("button", { type: "button", click: dismiss }, "Dismiss")));
    this.toggle.hidden = true;
  }

  /** The question takes no answer any more: say why to who was writing one. */
  close(done, leave) {
    if (this.isSent) {
      setTimeout(leave, GONE);
      return;
    }
    if (!this.form?.isTouched()) {
      leave();
      return;
    }
    const why = done?.status === "answered" ? `${done.by ?? "Somebody"} answered first: ${done.answer}` : done?.status === "timed out" ? "Its time is over" : "It is not asked any more";
    this.note([`${why}. What you had filled in was not sent.`], leave);
    this.inbox.announce(`${this.question.question.slice(0, 80)}: ${why}`);
  }
}

class Inbox {
  constructor(model, el) {
    this.cards = new Map();
    this.count = h("span", { class: "dnb-pill dnb-wait" });
    this.list = h("div", { class: "dnb-asks" });
    this.empty = h("p", { class: "dnb-inbox-empty" }, "Loading…");
    this.more = h("p", { class: "dnb-inbox-empty", hidden: true });
    this.said = h("div", { class: "dnb-hidden", role: "status", "aria-live": "polite" });
    this.lost = h("div", { class: "dnb-error dnb-inbox-lost", role: "alert", hidden: true });
    this.doneCount = h("span", { class: "dnb-num" });
    this.doneList = h("div", { class: "dnb-done-list", role: "list" });
    this.done = h("details", { class: "dnb-done", hidden: true }, h("summary", {}, "Answered and closed ", this.doneCount), this.doneList);
    this.live = connect(model, { changed: (items) => this.draw(items), lost: (message) => this.say(message) });
    this.opened = openedRun(this.live, model);
    el.classList.add("dnb", "dnb-inbox");
    el.setAttribute("data-lm-suppress-shortcuts", "true");
    const head = h("div", { class: "dnb-head" }, h("h2", { class: "dnb-title" }, "Waiting for an answer"), this.count);
    el.append(h("section", { "aria-label": "Inbox" }, head, this.lost, this.list, this.empty, this.more, this.opened.element, this.done, this.said));
    this.timer = setInterval(() => this.tick(), 1000);
  }

  announce(words) {
    replace(this.said, words);
  }

  say(message) {
    this.lost.hidden = false;
    replace(this.lost, `The log cannot be read, it is tried again: ${message}`);
  }

  draw(items) {
    this.lost.hidden = true;
    const order = items.get("order") ?? [];
    for (const [id, card] of this.cards) {
      if (order.includes(id) || card.isClosed) continue;
      card.isClosed = true;
      card.close(items.get(`done:${id}`), () => {
        card.element.remove();
        this.cards.delete(id);
        this.tell(items);
      });
    }
    const isFirst = this.cards.size === 0;
    for (const id of order) {
      if (this.cards.has(id)) continue;
      const card = new Card(this, items.get(`open:${id}`));
      this.cards.set(id, card);
      this.list.append(card.element);
      const unfolded = [...this.cards.values()].filter((other) => other.form && !other.isClosed).length;
      if (unfolded < UNFOLDED) card.unfold();
      if (!isFirst) this.announce(`New question: ${card.question.question.slice(0, 200)}`);
    }
    this.tell(items);
    this.drawDone(items);
    this.tick();
  }

  tell(items) {
    const count = items.get("count") ?? 0;
    const most = items.get("most");
    replace(this.count, sign("waiting"), count > most ? `more than ${most.toLocaleString("en")}` : String(count));
    this.count.setAttribute("aria-label", `${count} open`);
    this.count.hidden = count === 0;
    this.empty.hidden = this.cards.size > 0;
    replace(this.empty, "Nothing is asked of anybody now. A question appears here when a task calls ctx.aio_ask.");
    const hidden = count - (items.get("order") ?? []).length;
    this.more.hidden = hidden <= 0;
    replace(this.more, `${counted(hidden, "later question")} will follow when these are answered.`);
  }

  drawDone(items) {
    const done = items.get("done") ?? [];
    this.done.hidden = done.length === 0;
    replace(this.doneCount, String(done.length), items.get("has_more") ? " newest" : "");
    const key = done.join();
    if (this.doneKey === key) return;
    this.doneKey = key;
    this.doneRows = done.map((id) => {
      const item = items.get(`done:${id}`);
      const at = h("span", {});
      const said = item.status === "answered" ? ["answered by ", h("b", {}, item.by ?? "somebody"), " ", at] : [item.status, " ", at];
      const row = h(
        "div",
        { class: "dnb-done-row", role: "listitem" },
        sign(STATUS[item.status] ?? item.status),
        h("div", {}, h("div", { class: "dnb-words" }, item.question), item.status === "answered" && h("div", { class: "dnb-inbox-said" }, h("code", {}, item.answer), item.reason && h("span", { class: "dnb-why" }, ` “${item.reason}”`))),
        h("div", { class: "dnb-inbox-facts" }, h("span", {}, `${item.task} #${item.number}`), h("span", {}, said)),
      );
      return { row, at, item };
    });
    replace(this.doneList, this.doneRows.map(({ row }) => row));
  }

  tick() {
    const now = this.live.now();
    for (const card of this.cards.values()) card.facts.tick(now);
    for (const { at, item } of this.doneRows ?? []) {
      replace(at, item.at === null ? "" : ago(now - item.at));
      if (item.at !== null) at.title = moment(item.at);
    }
  }

  close() {
    clearInterval(this.timer);
    this.opened.close();
    this.live.close();
  }
}

export default {
  render({ model, el }) {
    const inbox = new Inbox(model, el);
    return () => inbox.close();
  },
};
