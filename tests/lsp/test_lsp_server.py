"""The server as an editor meets it: a process, spoken to over its standard input and output."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.client import LanguageClient

TEXT = "// 𝒙 counts twice in UTF-16\nrule twice {\n    relu(rleu(x))\n  =>\n    relu(x)\n}\n"


class Client:
    """A client that opened one file."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.version = 0
        self.client = LanguageClient("test", "1")
        self.published: asyncio.Queue[list[types.Diagnostic]] = asyncio.Queue()

        @self.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def publish(params: types.PublishDiagnosticsParams) -> None:
            if params.uri == uri:
                self.published.put_nowait(params.diagnostics)

    @property
    def document(self) -> types.TextDocumentIdentifier:
        return types.TextDocumentIdentifier(self.uri)

    async def start(self) -> types.InitializeResult:
        await self.client.start_io(sys.executable, "-m", "tdsl.cli", "lsp")
        item = types.ClientCompletionItemOptions(snippet_support=True)
        completion = types.CompletionClientCapabilities(completion_item=item)
        capabilities = types.ClientCapabilities(
            text_document=types.TextDocumentClientCapabilities(completion=completion)
        )
        result = await self.client.initialize_async(types.InitializeParams(capabilities))
        self.client.initialized(types.InitializedParams())
        return result

    async def stop(self) -> None:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    def open(self, text: str) -> None:
        item = types.TextDocumentItem(self.uri, "tdsl", self.version, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def replace(self, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        self.version += 1
        change = types.TextDocumentContentChangePartial(
            types.Range(types.Position(*start), types.Position(*end)), text
        )
        document = types.VersionedTextDocumentIdentifier(self.version, self.uri)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))

    async def until(self, messages: list[str]) -> list[types.Diagnostic]:
        """The first diagnostics with these first lines."""
        while True:
            found = await asyncio.wait_for(self.published.get(), timeout=60)
            if [d.message.split("\n")[0] for d in found] == messages:
                return found


async def conversation(uri: str) -> None:
    client = Client(uri)
    result = await client.start()
    assert result.server_info.name == "tdsl"
    client.open(TEXT)

    [wrong] = await client.until(["there is no operator or function `rleu`"])
    assert wrong.range == types.Range(types.Position(2, 9), types.Position(2, 16))
    assert wrong.message.endswith("hint: did you mean `relu`?")

    at = types.Position(2, 5)
    shown = await client.client.text_document_hover_async(types.HoverParams(client.document, at))
    assert shown.contents.value.startswith("```tdsl\nrelu(x) -> like\n```")

    at = types.Position(2, 11)
    offered = await client.client.text_document_completion_async(types.CompletionParams(client.document, at))
    [relu] = [item for item in offered.items if item.label == "relu"]
    assert relu.insert_text_format is types.InsertTextFormat.Snippet
    assert relu.text_edit == types.TextEdit(types.Range(types.Position(2, 9), at), "relu(${1:x})")

    client.replace((2, 9), (2, 13), "relu")
    await client.until([])

    at = types.Position(4, 9)
    params = types.DefinitionParams(client.document, at)
    [place] = await client.client.text_document_definition_async(params)
    assert (place.uri, place.range.start) == (uri, types.Position(2, 14))

    new = types.RenameParams(client.document, at, "value")
    edit = await client.client.text_document_rename_async(new)
    assert [e.range.start for e in edit.changes[uri]] == [types.Position(2, 14), types.Position(4, 9)]
    new.new_name = "not a name"
    with pytest.raises(JsonRpcException, match="`not a name` is no name"):
        await client.client.text_document_rename_async(new)

    symbols = types.DocumentSymbolParams(client.document)
    [symbol] = await client.client.text_document_document_symbol_async(symbols)
    assert (symbol.name, symbol.detail, symbol.range.end) == ("twice", "rule", types.Position(5, 1))

    client.replace((0, 3), (0, 5), "𝒙𝒙 rule")  # behind these, columns are those of the client
    options = types.FormattingOptions(4, True)
    form = types.DocumentFormattingParams(client.document, options)
    assert list(await client.client.text_document_formatting_async(form)) == []
    client.replace((4, 4), (4, 4), "  ")
    [edit] = await client.client.text_document_formatting_async(form)
    assert edit.new_text == TEXT.replace("𝒙", "𝒙𝒙 rule").replace("rleu", "relu")
    await client.stop()


def test_an_editor_is_served(tmp_path):
    asyncio.run(asyncio.wait_for(conversation((tmp_path / "rules.tdsl").as_uri()), timeout=120))


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_without_the_extra_the_command_says_which_one_it_needs():
    script = "import sys; sys.modules['pygls'] = None; sys.argv = ['tdsl', 'lsp']"
    done = run(f"{script}; from tdsl.cli import main; main()")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: the language server needs pygls, which is not installed\n"
        '  hint: `pip install pygls`, or `pip install ".[lsp]"` in a checkout of tdsl\n'
    )


def test_other_commands_load_neither_torch_nor_pygls_and_the_server_no_torch_at_once():
    show = "print(sorted({'torch', 'pygls', 'lsprotocol'} & set(sys.modules)))"
    assert run(f"import sys; import tdsl.cli.app; {show}").stdout == "[]\n"
    assert run(f"import sys; import tdsl.lsp.server; {show}").stdout == "['lsprotocol', 'pygls']\n"
