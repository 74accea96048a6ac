"""Views of a network: modules that share its weights but have another ``forward``.

Guidance changes the calls of one pipeline to its network. If it patched the network itself, every other
pipeline with the same network would be guided as well.
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
    """Return a module that equals ``network`` except that calling it calls ``forward``.

    Parameters, buffers and submodules are shared, not copied. ``forward`` calls ``network`` as a whole, so
    that hooks, offloading and compilation of the network itself keep working.
    """
    view: nn.Module = object.__new__(type(network))
    state = dict(vars(network))
    state["forward"] = forward
    # Hooks stay on the network, so that they run once; a compiled call would bypass ``forward``.
    state.update({name: OrderedDict() for name in state if name.endswith("_hooks")})
    state["_compiled_call_impl"] = None
    state[_ORIGINAL] = network
    state["__deepcopy__"] = lambda memo: copy.deepcopy(network, memo)
    view.__dict__.update(state)
    return view


def original_of(module: Any) -> Any:
    """Return the original network of a view or of a compiled module, and any other object unchanged."""
    module = vars(module).get(_ORIGINAL, module) if hasattr(module, "__dict__") else module
    return getattr(module, "_orig_mod", module)
