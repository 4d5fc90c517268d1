// The page's end of a view: keeps what the feed has sent, asks again when a message was lost, and does actions.

let drawn = 0;

/** Apply a message of the feed to the items; give the keys that changed, or null where a message is missing. */
export function applied(items, message, count) {
  if (message.kind === "all") {
    const before = [...items.keys()];
    items.clear();
    for (const [key, value] of Object.entries(message.items)) items.set(key, value);
    return new Set([...before, ...items.keys()]);
  }
  if (message.n !== count + 1) return null;
  for (const key of message.drop) items.delete(key);
  for (const [key, value] of Object.entries(message.set)) items.set(key, value);
  return new Set([...message.drop, ...Object.keys(message.set)]);
}

/**
 * Connect one drawing of a view. `changed(items, keys)` is called with all items (a Map) and a Set of keys, at most once a frame;
 * `lost(message)` when the log cannot be read. Gives `{ perform(action, arguments): Promise, now(): seconds, close() }`: `now` is the kernel's
 * time, since the browser's clock may differ. An action that is refused rejects with the kernel's sentence, and, where an input
 * does not fit its type, with `fields`: `[[path, why], …]`.
 */
export function connect(model, { changed, lost }) {
  const drawing = `${Date.now()}-${(drawn += 1)}`;
  const items = new Map();
  const pending = new Map();
  let count = 0;
  let ahead = 0; // of the kernel's clock, seconds
  let keys = new Set();
  let frame = null;

  const say = (content) => model.send({ ...content, drawing });
  const draw = () => {
    const those = keys;
    [frame, keys] = [null, new Set()];
    changed(items, those);
  };
  const settle = ({ kind, id, value, message, fields }) => {
    const promise = pending.get(id);
    pending.delete(id);
    if (kind === "done") promise?.resolve(value);
    else promise?.reject(Object.assign(new Error(message), { fields }));
  };
  const take = (message) => {
    if (message.kind === "done" || message.kind === "refused") {
      settle(message);
      return;
    }
    ahead = message.at - Date.now() / 1000;
    if (message.kind === "lost") {
      count = message.n;
      lost?.(message.message);
      return;
    }
    const those = applied(items, message, count);
    if (those === null) {
      say({ kind: "hello" });
      return;
    }
    count = message.n;
    for (const key of those) keys.add(key);
    frame ??= requestAnimationFrame(draw);
  };

  model.on("msg:custom", take);
  say({ kind: "hello" });
  return {
    perform(action, given = {}) {
      const id = `${drawing}-${(drawn += 1)}`;
      return new Promise((resolve, reject) => {
        pending.set(id, { resolve, reject });
        say({ kind: "do", id, action, with: given });
      });
    },
    now: () => Date.now() / 1000 + ahead,
    close() {
      model.off("msg:custom", take);
      if (frame !== null) cancelAnimationFrame(frame);
      say({ kind: "bye" });
    },
  };
}
