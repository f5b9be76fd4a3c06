// Starts `tdsl lsp` for `.tdsl` files and connects VS Code with it; everything else is the server's work.
const { commands, window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function start() {
  const command = workspace.getConfiguration("tdsl").get("path");
  client = new LanguageClient(
    "tdsl",
    { command, args: ["lsp"] },
    { documentSelector: [{ language: "tdsl" }] },
  );
  try {
    await client.start();
  } catch {
    const remedy = 'Install it with `pip install "tdsl[lsp]"`, and set `tdsl.path` to the command.';
    window.showErrorMessage(`\`${command} lsp\` did not start. ${remedy}`);
  }
}

async function stop() {
  if (client?.isRunning()) {
    await client.stop();
  }
}

async function restart() {
  await stop();
  await start();
}

exports.activate = (context) => {
  context.subscriptions.push(
    commands.registerCommand("tdsl.restart", restart),
    workspace.onDidChangeConfiguration((event) => event.affectsConfiguration("tdsl.path") && restart()),
  );
  return start();
};

exports.deactivate = stop;
