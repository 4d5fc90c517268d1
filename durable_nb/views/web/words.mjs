// Times and numbers in words: the same as durable_nb/views/words.py gives them.

const UNITS = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
  [60, "min", 1, "s"],
];

/** Seconds as people say them, two units at most: "34 ms", "3.2 s", "4 min 10 s", "3 d 11 h". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "unknown time";
  if (seconds < 1) return `${Math.round(Math.max(seconds, 0) * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, small, below] of UNITS) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / small);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${below}` : ""}`;
  }
  return `${whole} s`;
}

const two = (number) => String(number).padStart(2, "0");

/** A time of the log (UTC seconds) as local time, to the second, or to the millisecond. */
export function moment(at, { exact = false } = {}) {
  const date = new Date(at * 1000);
  if (Number.isNaN(date.getTime())) return `${at} s`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}${exact ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : ""}`;
}

/** A number with its noun: "1 run", "2 runs". */
export function counted(number, singular, plural = `${singular}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? singular : plural}`;
}
