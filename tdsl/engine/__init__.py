"""The rewriting engine.

A rule's left side becomes a `Pattern`, compiled to a Python matcher; its conditions and its right side
become closures over a `Frame`, one match. The driver keeps a worklist of candidates, the editor puts staged
replacements into the graph, and the journal records each of them.
"""
