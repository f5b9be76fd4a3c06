"""`tdsl lsp`: the language server over standard input and output, with pygls.

Quick checks are published with every keystroke. Thorough ones follow on another thread, once the keys rest.
Torch and the standard library are loaded on a thread too; until then editors have operators and syntax.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from tdsl.errors import TdslError
from tdsl.lsp import protocol
from tdsl.lsp.checks import Checks, Mistake, carried
from tdsl.lsp.completion import complete
from tdsl.lsp.document import Document
from tdsl.lsp.files import Files, standard_entries
from tdsl.lsp.hover import hover
from tdsl.lsp.knowledge import Knowledge
from tdsl.lsp.navigate import Target, definition, references, renamable, rename
from tdsl.lsp.outline import formatted, symbols

PAUSE = 0.15
"""Seconds without a keystroke before thorough checks begin."""

_log = logging.getLogger(__name__)


class _Placed(Protocol):
    """A request about a position."""

    @property
    def text_document(self) -> types.TextDocumentIdentifier: ...

    @property
    def position(self) -> types.Position: ...


class Server(LanguageServer):
    """What is kept for one editor."""

    def __init__(self) -> None:
        super().__init__("tdsl", version("tdsl"))
        self.files = Files()
        self.checks = Checks(self.files, Knowledge())
        self._uris: dict[Path, str] = {}
        self._found: dict[Path, list[Mistake]] = {}
        self._waiting: dict[Path, asyncio.Task[None]] = {}

    # ------------------------------------------------------------ loading

    def load(self) -> None:
        """Learn the rest of the language on a thread, and check again what is open after each step."""
        loop = asyncio.get_running_loop()

        def learn(knowledge: Knowledge) -> None:
            self.checks = Checks(self.files, knowledge)
            for document in self.files.open:
                self.check(document)

        def work() -> None:
            try:
                standard_entries()
                knowledge = self.checks.knowledge.with_functions()
                loop.call_soon_threadsafe(learn, knowledge)
                loop.call_soon_threadsafe(learn, knowledge.with_library())
            except TdslError as mistake:
                _log.error("the standard library has a mistake, so pipelines are not checked: %s", mistake)
            except RuntimeError as reason:  # the editor left before this was done
                _log.info("%s", reason)

        threading.Thread(target=work, name="tdsl-load", daemon=True).start()

    # ------------------------------------------------------------ documents

    def document(self, uri: str) -> Document:
        """The document of an address."""
        return self.files.get(protocol.path_of(uri))

    def update(self, uri: str) -> None:
        """Take over what the editor has, and check it and the open documents that may import it."""
        document = self.files.put(protocol.path_of(uri), self.workspace.get_text_document(uri).source)
        self._uris[document.path] = uri
        self.check(document)
        for other in self.files.open:
            if other.path != document.path and document in self.files.imported(other):
                self.check(other)

    def close(self, uri: str) -> None:
        """Forget a document."""
        path = self.document(uri).path
        self.files.drop(path)
        self._found.pop(path, None)
        self._uris.pop(path, None)
        if task := self._waiting.pop(path, None):
            task.cancel()
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))

    # ------------------------------------------------------------ checks

    def check(self, document: Document) -> None:
        """Publish what quick checks find, and thorough ones soon."""
        self._publish(document, carried(self._found.get(document.path, []), document))
        if task := self._waiting.get(document.path):
            task.cancel()
        self._waiting[document.path] = asyncio.ensure_future(self._check_thoroughly(document))

    async def _check_thoroughly(self, document: Document) -> None:
        await asyncio.sleep(PAUSE)
        found = await asyncio.to_thread(self.checks.thorough, document)
        if document in self.files.open:
            self._found[document.path] = found
            self._publish(document, found)

    def _publish(self, document: Document, thorough: list[Mistake]) -> None:
        codec = self.workspace.position_codec
        mistakes = dict.fromkeys([*self.checks.quick(document), *thorough])
        diagnostics = [protocol.diagnostic(mistake, document, codec) for mistake in mistakes]
        uri = self._uris[document.path]
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, diagnostics))

    # ------------------------------------------------------------ places

    def at(self, asked: _Placed) -> tuple[Document, int, int]:
        """The document of a request, and the line and column in code points."""
        document = self.document(asked.text_document.uri)
        codec = self.workspace.position_codec
        place = codec.position_from_client_units(document.lines, asked.position)
        return document, place.line, place.character

    def location(self, target: Target) -> types.Location:
        """A place in a file, as the editor counts."""
        uri = self._uris.get(target.path) or protocol.uri_of(target.path)
        return types.Location(uri, self._range(target))

    def edits(self, targets: list[Target], text: str) -> types.WorkspaceEdit:
        """The edit that writes `text` at every one of some places."""
        changes: dict[str, list[types.TextEdit]] = {}
        for target in targets:
            uri = self.location(target).uri
            changes.setdefault(uri, []).append(types.TextEdit(self._range(target), text))
        return types.WorkspaceEdit(changes=changes)

    def _range(self, target: Target) -> types.Range:
        lines = self.files.get(target.path).lines
        return protocol.range_of(
            lines, self.workspace.position_codec, target.line, target.column, target.line, target.end
        )


def server() -> Server:
    """A server with everything that an editor can ask of it."""
    ls = Server()

    @ls.feature(types.INITIALIZED)
    def initialized(params: types.InitializedParams) -> None:
        ls.load()

    @ls.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        ls.update(params.text_document.uri)

    @ls.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        ls.update(params.text_document.uri)

    @ls.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        ls.close(params.text_document.uri)

    @ls.feature(types.TEXT_DOCUMENT_HOVER)
    @ls.thread()  # a proof may take its time
    def hovered(params: types.HoverParams) -> types.Hover | None:
        text = hover(*ls.at(params), ls.checks)
        return types.Hover(protocol.markdown(text)) if text else None

    @ls.feature(
        types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=[".", "(", ",", ":", '"'])
    )
    def completed(params: types.CompletionParams) -> types.CompletionList:
        return protocol.completions(complete(*ls.at(params), ls.checks), params.position, _snippets(ls))

    @ls.feature(types.TEXT_DOCUMENT_DEFINITION)
    def defined(params: types.DefinitionParams) -> list[types.Location]:
        return [ls.location(target) for target in definition(*ls.at(params), ls.files)]

    @ls.feature(types.TEXT_DOCUMENT_REFERENCES)
    def referred(params: types.ReferenceParams) -> list[types.Location]:
        found = references(*ls.at(params), ls.files)
        return [ls.location(target) for target in found[0 if params.context.include_declaration else 1 :]]

    @ls.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
    def renamed_from(params: types.PrepareRenameParams) -> types.Range:
        with _refusals():
            return ls.location(renamable(*ls.at(params), ls.files)).range

    @ls.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
    def renamed(params: types.RenameParams) -> types.WorkspaceEdit:
        with _refusals():
            return ls.edits(
                rename(*ls.at(params), params.new_name, ls.files),
                params.new_name,
            )

    @ls.feature(types.TEXT_DOCUMENT_FORMATTING)
    def form(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        document = ls.document(params.text_document.uri)
        text = formatted(document)
        return None if text is None else protocol.replacement(document, text)

    @ls.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def outlined(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        document, codec = ls.document(params.text_document.uri), ls.workspace.position_codec
        return [protocol.symbol(found, document, codec) for found in symbols(document)]

    return ls


def _snippets(ls: Server) -> bool:
    """Whether the editor understands snippets."""
    asked = ls.client_capabilities.text_document
    item = asked.completion.completion_item if asked and asked.completion else None
    return bool(item and item.snippet_support)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turns a mistake of the user's into an error of the protocol, which editors show as a message."""
    try:
        yield
    except TdslError as mistake:
        code = types.LSPErrorCodes.RequestFailed.value
        raise JsonRpcException(protocol.in_full(mistake), code) from None


def serve() -> None:
    """Serve one editor until it leaves. What libraries print meanwhile goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    server().start_io(sys.stdin.buffer, out)
