"""A second handle on a network: it has the same weights, and calls of it go through a function of ours.

Guidance changes what one pipeline's calls of its network ask. Were that done on the network itself, every
other pipeline with the same weights would be guided too.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from safelight.models.patched_method import Method

if TYPE_CHECKING:
    from torch import nn

_ORIGINAL = "_safelight_original"


def view_of(network: nn.Module, forward: Method) -> nn.Module:
    """Return a module that is ``network`` in everything, but that calls ``forward`` when it is called.

    Parameters, buffers and submodules are shared, not copied. ``forward`` calls ``network`` as a whole, so
    that hooks, offloading and compilation of the network itself keep working.
    """
    view: nn.Module = object.__new__(type(network))
    state = dict(vars(network))
    state["forward"] = forward
    # Hooks belong to the network, where they run once; a compiled entrance would go around ``forward``.
    state.update({name: OrderedDict() for name in state if name.endswith("_hooks")})
    state["_compiled_call_impl"] = None
    state[_ORIGINAL] = network
    state["__deepcopy__"] = lambda memo: copy.deepcopy(network, memo)
    view.__dict__.update(state)
    return view


def original_of(module: Any) -> Any:
    """Return the network itself, of a view or of a module that was compiled; anything else as it is."""
    module = vars(module).get(_ORIGINAL, module) if hasattr(module, "__dict__") else module
    return getattr(module, "_orig_mod", module)
