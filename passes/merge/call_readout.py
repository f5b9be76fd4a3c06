"""Results that are put together again: `stack` or `concat` of what a call gives for every copy, in order.

They lie side by side in the joined result already, so that there is nothing to take apart.
"""

from __future__ import annotations

from typing import Any

from tdsl.passes.merge.call_regions import Bundle
from torch import fx

from tdsl.engine.sizes import same_shape
from tdsl.engine.stage import stage
from tdsl.engine.staged import Staged
from tdsl.engine.workspace import Workspace
from tdsl.ops import OPERATORS
from tdsl.ops.targets import operator_of


def put_together(bundle: Bundle, axis: int) -> fx.Node | None:
    """The only user of a result, if it puts the copies together along the axis on which they lie anyway."""
    users = {user for node in bundle for user in node.users}
    if len(users) != 1:
        return None
    [user] = users
    operator = operator_of(user.target) if user.op == "call_function" else None
    joins = operator is not None and operator.name in ("stack", "concat")
    if not joins or tuple(user.args[0]) != bundle:  # type: ignore[arg-type]  # a list of tensors
        return None
    dim = user.args[1] if len(user.args) > 1 else 0
    return user if isinstance(dim, int) and dim % user.meta["val"].ndim == axis else None


def whole(work: Workspace, user: fx.Node, joined: Staged) -> Any:
    """What `put_together` found, made of the joined result."""
    wanted = user.meta["val"]
    if same_shape(work.val(joined).shape, wanted.shape):
        return joined
    return stage(work, OPERATORS["reshape"], {"x": joined, "shape": list(wanted.shape)})
