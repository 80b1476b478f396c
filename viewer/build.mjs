// Builds viewer.js with NiiVue into one script, and beside it the licences of what is in it and a record of how it was made.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "elr_mri", "findings", "viewer");
const sha256 = (content) => createHash("sha256").update(content).digest("hex");
const SOURCES = ["viewer.js", "absent.js", "build.mjs", "package.json", "package-lock.json"];

const made = await build({
  entryPoints: [join(here, "viewer.js")],
  absWorkingDir: here,
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  charset: "ascii",
  format: "iife",
  target: "es2022",
  legalComments: "none",
  alias: { zarrita: "./absent.js" },
});
const script = Buffer.from(made.outputFiles[0].contents);
const names = new Set(
  Object.keys(made.metafile.inputs).map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]).filter(Boolean),
);
const packages = [...names].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const facts = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  return { name, version: facts.version, license: facts.license, text: file ? readFileSync(join(folder, file), "utf8").trim() : null, author: facts.author };
});
mkdirSync(out, { recursive: true });
writeFileSync(join(out, "viewer.min.js"), script);
const kept = (name) => join(here, "licences", `${name.replace("/", "+")}.txt`); // where the package itself carries no text
const texts = packages.map((one) => {
  const text = one.text ?? (existsSync(kept(one.name)) ? readFileSync(kept(one.name), "utf8").trim() : null);
  if (!text) throw new Error(`${one.name} carries no licence text: put it into viewer/licences/`);
  return `${one.name} ${one.version} (${one.license})\n\n${text}\n`;
});
writeFileSync(join(out, "LICENCES.txt"), `viewer.min.js holds the following works.\n\n${texts.join(`\n${"-".repeat(72)}\n\n`)}`);
const record = {
  script: { file: "viewer.min.js", sha256: sha256(script), bytes: script.length },
  sources: Object.fromEntries(SOURCES.map((name) => [name, sha256(readFileSync(join(here, name)))])),
  packages: Object.fromEntries(packages.map(({ name, version, license }) => [name, { version, license }])),
  licences: sha256(readFileSync(join(out, "LICENCES.txt"))),
};
writeFileSync(join(out, "viewer.json"), `${JSON.stringify(record, null, 1)}\n`);
console.log(`${script.length} bytes`, Object.keys(record.packages).join(", "));
