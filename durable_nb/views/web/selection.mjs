// Which rows are chosen: by hand, by range, or all that fit. Pure.

/** Nothing chosen. `ids`: by number, of runs chosen by hand, also on other pages; `upto`: the newest run of "all that fit", else null. */
export function nothing() {
  return { ids: new Map(), upto: null, anchor: null };
}

/** Whether a run is chosen. */
export function has(selection, number) {
  return selection.upto === null ? selection.ids.has(number) : number <= selection.upto;
}

/** How many are chosen; all that fit are as many as the table says. */
export function size(selection, count) {
  return selection.upto === null ? selection.ids.size : count;
}

/** Choose a row, or no longer. With `isRange` every row from the last one that was touched to this one becomes as this one. */
export function toggled(selection, rows, number, { isRange = false } = {}) {
  const ids = new Map(selection.upto === null ? selection.ids : rows.map((row) => [row.number, row.id]));
  const isChosen = !ids.has(number);
  const numbers = rows.map((row) => row.number);
  const [from, to] = [isRange ? numbers.indexOf(selection.anchor) : -1, numbers.indexOf(number)];
  const touched = from < 0 ? rows.filter((row) => row.number === number) : rows.slice(Math.min(from, to), Math.max(from, to) + 1);
  for (const row of touched) {
    if (isChosen || isRange) ids.set(row.number, row.id);
    else ids.delete(row.number);
  }
  return { ids, upto: null, anchor: number };
}

/** Choose all rows of the page; where all of them are chosen already, none of them. */
export function togglePage(selection, rows) {
  const ids = new Map(selection.upto === null ? selection.ids : []);
  const isFull = selection.upto !== null || rows.every((row) => ids.has(row.number));
  for (const row of rows) {
    if (isFull) ids.delete(row.number);
    else ids.set(row.number, row.id);
  }
  return { ids, upto: null, anchor: selection.anchor };
}

/** What is asked before a bulk action: `{ words, does }`. `weighed` is what the kernel counted: `{ all, active }`. */
export function question(action, { all, active }, counted) {
  const does = action === "cancel" ? active : all - active;
  const rest = all - does;
  const verb = action === "cancel" ? "Cancel" : "Replay";
  const why = action === "cancel" ? "ended already and will not change" : "not ended and will just go on";
  const what = action === "cancel" ? " Unfinished children are cancelled too." : " What is recorded is not done again.";
  if (!does) return { does, words: action === "cancel" ? "None of them can be cancelled: all have ended." : "None of them can be replayed: they have not ended." };
  return { does, words: `${verb} ${counted(does, "run")}?${rest ? ` ${rest.toLocaleString("en")} more ${rest === 1 ? "has" : "have"} ${why}.` : ""}${what}` };
}
