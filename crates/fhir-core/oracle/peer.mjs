// What fhirpath.js says: every expression on every resource, one JSON line each, as examples/oracle prints ours.
//
//     node peer.mjs <this folder>
//
// Run where the packages of package.json are installed. Numbers with a point or an exponent are read without binary floats, and computed with
// decimals: so they can be compared digit by digit.

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// The packages lie where this is run, not beside this file.
const require = createRequire(join(process.cwd(), "package.json"));
const fhirpath = require("fhirpath");
const r4 = require("fhirpath/fhir-context/r4");
const { parse } = require("lossless-json");
const { FP_Decimal } = fhirpath;

const OPTIONS = { preciseMath: true, keepDecimalTypes: true, traceFn: () => {} };

// It also tells errors, which are answers here, on the console.
console.error = console.warn = () => {};

const folder = process.argv[2];
const expressions = readFileSync(join(folder, "expressions.txt"), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"));

/** A number of a resource: decimals keep their digits. */
function number(text) {
  return /[.eE]/.test(text) || text.length > 15 ? FP_Decimal.getDecimal(text) : Number(text);
}

/** JSON with every decimal as it was written. */
function json(value) {
  if (value instanceof FP_Decimal) return Number.isFinite(value.toNumber()) ? value.toString() : `"${value}"`;
  if (Array.isArray(value)) return `[${value.map(json).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined && typeof inner !== "function");
    const members = entries.map(([name, inner]) => `${JSON.stringify(name)}:${json(inner)}`);
    return `{${members.join(",")}}`;
  }
  if (typeof value === "bigint") return String(value);
  // Half a surrogate pair is no Unicode.
  return JSON.stringify(typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "\ufffd") : (value ?? null));
}

function evaluate(text, expression) {
  try {
    const resource = parse(text, null, number);
    return { items: fhirpath.evaluate(resource, expression, { resource, rootResource: resource }, r4, OPTIONS) };
  } catch (error) {
    return { error: String(error.message ?? error).split("\n")[0] };
  }
}

for (const file of readdirSync(join(folder, "resources")).sort()) {
  const text = readFileSync(join(folder, "resources", file), "utf8");
  for (const expression of expressions) {
    console.log(json({ resource: file.replace(/\.json$/, ""), expression, ...evaluate(text, expression) }));
  }
}
