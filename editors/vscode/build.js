// Copies what the extension shares with the rest of the repository, which keeps one copy of each.
const { copyFileSync, mkdirSync } = require("node:fs");
const { join } = require("node:path");

const root = join(__dirname, "..", "..");
mkdirSync(join(__dirname, "syntaxes"), { recursive: true });
copyFileSync(join(root, "grammar", "tdsl.tmLanguage.json"), join(__dirname, "syntaxes", "tdsl.tmLanguage.json"));
copyFileSync(join(root, "LICENSE"), join(__dirname, "LICENSE"));
