// Judges answers for tests/unit/test_answer_forms.py: reads `[{ schema, values }]`, writes `[[{ locs, again, of }]]`.

import { readFileSync } from "node:fs";

import { answerOf, draftOf, fieldOf } from "../../durable_nb/views/web/forms.mjs";
import { misfits } from "../../durable_nb/views/web/schema.mjs";

const cases = JSON.parse(readFileSync(0, "utf8"));
const judged = cases.map(({ schema, values }) => {
  const field = fieldOf(schema, schema);
  return values.map((value) => {
    const { value: again, errors } = answerOf(field, draftOf(field, value));
    return { locs: misfits(schema, value).map(({ loc }) => loc), again: again ?? null, of: errors.map(({ loc }) => loc) };
  });
});
process.stdout.write(JSON.stringify(judged));
