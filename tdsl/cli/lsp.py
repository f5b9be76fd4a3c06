"""`tdsl lsp`: the language server that editors start."""

from __future__ import annotations

from tdsl.errors import TdslError


def serve_editor() -> None:
    """Serve an editor over standard input and output.

    What is spoken is the language server protocol.
    """
    try:
        import pygls  # noqa: F401  # what an installation without the extra lacks
    except ImportError:
        raise TdslError(
            "the language server needs pygls, which is not installed",
            hint='`pip install pygls`, or `pip install ".[lsp]"` in a checkout of tdsl',
        ) from None
    from tdsl.lsp.server import serve

    serve()
