"""The language server: what an editor shows and offers while a `.tdsl` file is written.

Everything but `server` is a function of texts and positions. Lines and columns count from 0, in code points;
`server` speaks the protocol, translates positions into the client's units, and keeps slow work off its loop.
"""
