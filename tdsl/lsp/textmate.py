"""The grammar by which editors colour `.tdsl` files, made from the language's: `python -m tdsl.lsp.textmate`.

Keywords, literals and signs come from `grammar/tdsl.lark`, names from the tables of operators and functions.
Which words are keywords in which declaration follows from its productions; elsewhere they are names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from lark import Lark
from lark.grammar import NonTerminal

from tdsl.lang.expected import spelling
from tdsl.lang.vocabulary import DTYPES, PARAMETER_KINDS, SIDES, Vocabulary

FILE = "tdsl.tmLanguage.json"

Pattern = dict[str, Any]


class LarkGrammar:
    """What a lark grammar says of words and signs: terminals by name, and what each production contains."""

    def __init__(self, text: str) -> None:
        grammar = Lark(text, parser="lalr", lexer="contextual")
        self.regexps = {terminal.name: terminal.pattern.to_regexp() for terminal in grammar.terminals}
        self._spelt = {t.name: spelling(t.pattern.value) for t in grammar.terminals}
        self._productions: dict[str, set[str]] = {}
        self._terminals: dict[str, set[str]] = {}
        for rule in grammar.rules:
            for symbol in rule.expansion:
                parts = self._productions if isinstance(symbol, NonTerminal) else self._terminals
                parts.setdefault(str(rule.origin.name), set()).add(str(symbol.name))
        self.declarations = sorted(self._productions["declaration"] - {"doc"})
        """The kinds of declarations; each is called after its keyword."""
        self.reserved = {w for w in self.keywords("start") if not re.fullmatch(self.regexps["NAME"], w)}
        """The words that are never a name."""

    def _inside(self, production: str) -> set[str]:
        """How the terminals are spelt that may stand anywhere in a production."""
        seen: set[str] = set()
        waiting = [production]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self._productions.get(name, ())
        return {self._spelt[terminal] for name in seen for terminal in self._terminals.get(name, ())}

    def keywords(self, production: str) -> set[str]:
        """The words that mean something of their own in a production."""
        return {word for word in self._inside(production) if re.fullmatch(r"[a-z_]+", word)}

    def signs(self, production: str) -> set[str]:
        """The signs that a production consists of."""
        return self._inside(production) - self.keywords(production)


def textmate(lark: str, vocabulary: Vocabulary) -> Pattern:
    """The TextMate grammar for a lark grammar and the names that rules may use."""
    grammar = LarkGrammar(lark)
    return {
        "name": "tdsl",
        "scopeName": "source.tdsl",
        "fileTypes": ["tdsl"],
        "patterns": [
            _include("comments"),
            _import(grammar),
            *(_declaration(kind, grammar) for kind in grammar.declarations),
        ],
        "repository": {
            "comments": _comments(grammar),
            "text": _text(),
            "parameters": _parameters(grammar, vocabulary),
            **{kind: _body(kind, grammar) for kind in grammar.declarations},
            "expression": _expression(grammar, vocabulary),
        },
    }


# ---------------------------------------------------------------- declarations


def _declaration(kind: str, grammar: LarkGrammar) -> Pattern:
    """From the keyword to the closing bracket, or to where the next declaration begins."""
    return {
        "begin": rf"^\s*({kind})\s+({grammar.regexps['GLOB']})",
        "beginCaptures": {
            "1": {"name": "storage.type.declaration.tdsl"},
            "2": {"name": "entity.name.function.tdsl"},
        },
        "end": rf"(?<=\}})|{_next(grammar)}",
        "patterns": [
            _include("comments"),
            _include("parameters"),
            _include(kind),
            *_keywords(kind, grammar),
            _include("expression"),
        ],
    }


def _next(grammar: LarkGrammar) -> str:
    """A place where another declaration begins, whatever is still open; a `symmetry` has a line `group …`."""
    heads = sorted({"import", *grammar.declarations} - {"group"})
    return rf'(?=^(?:{"|".join(heads)})\s+[\w"])'


def _body(kind: str, grammar: LarkGrammar) -> Pattern:
    """What stands in braces; a pipeline's steps may have braces of their own."""
    patterns = [_include("comments"), *_keywords(kind, grammar)]
    if kind == "pipeline":
        reference = {"match": r"(?!\d)[\w*]+(?:\.[\w*]+)+", "name": "entity.name.function.rule.tdsl"}
        patterns += [reference, _include(kind)]
    end = rf"\}}|{_next(grammar)}"
    return {"begin": r"\{", "end": end, "patterns": [*patterns, _include("expression")]}


def _keywords(kind: str, grammar: LarkGrammar) -> list[Pattern]:
    """The words that are keywords in this kind of declaration alone."""
    own = grammar.keywords(kind) - grammar.reserved - {kind}
    return [{"match": _any_of(own), "name": "keyword.control.tdsl"}] if own else []


def _import(grammar: LarkGrammar) -> Pattern:
    return {
        "match": rf"^\s*(import)\s+(?:({grammar.regexps['STRING']})|({grammar.regexps['DOTTED']}))?",
        "captures": {
            "1": {"name": "keyword.control.import.tdsl"},
            "2": {"name": "string.quoted.double.tdsl"},
            "3": {"name": "entity.name.namespace.tdsl"},
        },
    }


def _parameters(grammar: LarkGrammar, vocabulary: Vocabulary) -> Pattern:
    """Names and kinds between the name of a declaration and its body."""
    name = {"match": rf"\b({grammar.regexps['NAME']})(?=\s*:)", "name": "variable.parameter.tdsl"}
    kinds = {
        "match": _any_of([*PARAMETER_KINDS, *vocabulary.classes, *vocabulary.operators]) + r"(?!\s*\()",
        "name": "support.type.kind.tdsl",
    }
    return {
        "begin": r"\(",
        "end": rf"\)|{_next(grammar)}",
        "patterns": [_include("comments"), name, kinds, _include("expression")],
    }


# ---------------------------------------------------------------- expressions


def _expression(grammar: LarkGrammar, vocabulary: Vocabulary) -> Pattern:
    """Terms, conditions and definitions."""
    name = rf"\b{grammar.regexps['NAME']}"
    constants, modifiers, control = {"true", "false", "none"}, {"const"}, {"where"}
    comparisons = grammar.signs("compare")
    arithmetic = grammar.signs("arithmetic") & {*"+-*/%@", "**"}
    functions = set(vocabulary.functions)
    matched = {
        rf"\b{grammar.regexps['PERCENT']}": "constant.numeric.percent",
        rf"\b{grammar.regexps['NUMBER']}": "constant.numeric",
        _any_of(constants): "constant.language",
        _any_of(modifiers): "storage.modifier",
        rf"{_any_of(control)}(?!\()": "keyword.control",
        _any_of(grammar.reserved - constants - modifiers - control): "keyword.operator.word",
        _signs(grammar.signs("arrow") - comparisons): "keyword.operator.arrow",
        rf"{grammar.regexps['_ELLIPSIS']}|{grammar.regexps['_OPTIONAL']}": "keyword.operator.mark",
        _signs(comparisons | arithmetic): "keyword.operator",
        _any_of(DTYPES): "support.type.dtype",
        _any_of(SIDES): "variable.language.side",
        rf"{name}(?=\s*=(?![=>]))": "variable.parameter",
        _called(vocabulary.operators): "support.function.operator",
        _called(functions - set(vocabulary.operators)): "support.function.compile-time",
        rf"{name}(?=\s*\()": "entity.name.function",
        name: "variable.other",
    }
    brackets = [
        {"begin": begin, "end": f"{end}|{_next(grammar)}", "patterns": [_include("expression")]}
        for begin, end in ((r"\(", r"\)"), (r"\[", r"\]"))
    ]
    repetition = {"match": r"(?<=\w)\{[*+\d\s,]+\}", "name": "keyword.operator.repeat.tdsl"}
    words = [{"match": match, "name": f"{scope}.tdsl"} for match, scope in matched.items()]
    return {"patterns": [_include("comments"), _include("text"), repetition, *brackets, *words]}


def _text() -> Pattern:
    return {
        "begin": '"',
        "end": '"|$',
        "name": "string.quoted.double.tdsl",
        "patterns": [{"match": r'\\["\\nt]', "name": "constant.character.escape.tdsl"}],
    }


def _comments(grammar: LarkGrammar) -> Pattern:
    documentation = {"match": grammar.regexps["DOC"], "name": "comment.line.documentation.tdsl"}
    plain = {"match": grammar.regexps["COMMENT"], "name": "comment.line.double-slash.tdsl"}
    return {"patterns": [documentation, plain]}


def _include(name: str) -> Pattern:
    return {"include": f"#{name}"}


def _any_of(words: Iterable[str]) -> str:
    return rf"\b(?:{'|'.join(sorted(words))})\b"


def _called(names: Iterable[str]) -> str:
    return rf"{_any_of(names)}(?=\s*[({{])"


def _signs(signs: Iterable[str]) -> str:
    """Any of the signs, the longest first."""
    return "|".join(re.escape(sign) for sign in sorted(signs, key=lambda sign: (-len(sign), sign)))


# ---------------------------------------------------------------- the file


def rendered() -> str:
    """The text of the file as it should be."""
    from tdsl.factor.table import vocabulary

    lark = resources.files("tdsl.grammar").joinpath("tdsl.lark").read_text(encoding="utf-8")
    return json.dumps(textmate(lark, vocabulary()), indent=2, ensure_ascii=False) + "\n"


def path() -> Path:
    """Where the file is kept: beside the lark grammar."""
    return Path(str(resources.files("tdsl.grammar").joinpath(FILE)))


if __name__ == "__main__":
    path().write_text(rendered(), encoding="utf-8", newline="\n")
