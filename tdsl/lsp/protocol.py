"""From what the other modules answer to the protocol's own types, positions in the client's units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lsprotocol import types
from pygls import uris
from pygls.workspace import PositionCodec, ServerTextPosition, ServerTextRange

from tdsl.errors import TdslError
from tdsl.lsp.checks import Mistake
from tdsl.lsp.completion import Kind, Offer, Offers
from tdsl.lsp.document import Document
from tdsl.lsp.outline import Symbol

_ICONS = {
    Kind.ARGUMENT: types.CompletionItemKind.Property,
    Kind.VARIABLE: types.CompletionItemKind.Variable,
    Kind.RULE: types.CompletionItemKind.Reference,
    Kind.VALUE: types.CompletionItemKind.Value,
    Kind.OPERATOR: types.CompletionItemKind.Operator,
    Kind.FUNCTION: types.CompletionItemKind.Function,
    Kind.TYPE: types.CompletionItemKind.TypeParameter,
    Kind.KEYWORD: types.CompletionItemKind.Keyword,
    Kind.FILE: types.CompletionItemKind.File,
}
_SYMBOLS = {
    "rule": types.SymbolKind.Function,
    "law": types.SymbolKind.Interface,
    "pipeline": types.SymbolKind.Module,
    "example": types.SymbolKind.Event,
}


def path_of(uri: str) -> Path:
    """The file of a document; one that has none yet is in the working directory."""
    return Path(uris.to_fs_path(uri) or uri.rpartition(":")[2])


def uri_of(path: Path) -> str:
    """The address of a file."""
    return uris.from_fs_path(str(path)) or path.as_uri()


def range_of(
    lines: Sequence[str], codec: PositionCodec, line: int, column: int, end_line: int, end_column: int
) -> types.Range:
    """A stretch of a text whose `lines` these are."""
    stretch = ServerTextRange(ServerTextPosition(line, column), ServerTextPosition(end_line, end_column))
    return codec.range_to_client_units(lines, stretch)


def in_full(error: TdslError) -> str:
    """What is wrong, what was expected, what to do; the place is told apart from it."""
    remedy = [f"expected: {error.expected}"] if error.expected else []
    remedy += [f"hint: {error.hint}"] if error.hint else []
    return "\n".join([error.message, *remedy])


def diagnostic(mistake: Mistake, document: Document, codec: PositionCodec) -> types.Diagnostic:
    """A mistake with its remedy."""
    return types.Diagnostic(
        range=range_of(
            document.lines, codec, mistake.line, mistake.start[1], mistake.end_line, mistake.stop[1]
        ),
        message=in_full(mistake.error),
        severity=types.DiagnosticSeverity.Error,
        source="tdsl",
    )


def completions(offers: Offers, position: types.Position, snippets: bool) -> types.CompletionList:
    """The list of an editor; names with dots are replaced as a whole."""
    start = types.Position(position.line, position.character - len(offers.typed))
    stretch = types.Range(start, position)
    return types.CompletionList(False, [_item(offer, stretch, snippets) for offer in offers.offers])


def _item(offer: Offer, stretch: types.Range, snippets: bool) -> types.CompletionItem:
    as_snippet = bool(offer.snippet) and snippets
    return types.CompletionItem(
        label=offer.label,
        kind=_ICONS[offer.kind],
        detail=offer.detail or None,
        documentation=markdown(offer.doc) if offer.doc else None,
        sort_text=f"{offer.kind.value}{offer.label}",
        insert_text_format=types.InsertTextFormat.Snippet if as_snippet else None,
        text_edit=types.TextEdit(stretch, offer.snippet if as_snippet else offer.label),
    )


def markdown(text: str) -> types.MarkupContent:
    """Text for an editor to render."""
    return types.MarkupContent(types.MarkupKind.Markdown, text)


def symbol(found: Symbol, document: Document, codec: PositionCodec) -> types.DocumentSymbol:
    """An entry of the outline."""
    name, lines = found.name, document.lines
    end = len(lines[found.last_line])
    return types.DocumentSymbol(
        name=name.text,
        detail=found.keyword,
        kind=_SYMBOLS[found.keyword],
        range=range_of(lines, codec, found.first_line, 0, found.last_line, end),
        selection_range=range_of(lines, codec, name.line, name.column, name.line, name.end),
    )


def replacement(document: Document, text: str) -> list[types.TextEdit]:
    """The edit that makes `text` of a document."""
    if text == document.text:
        return []
    whole = types.Range(types.Position(0, 0), types.Position(len(document.lines), 0))
    return [types.TextEdit(whole, text)]
