from __future__ import annotations

import inspect

from safelight import errors
from safelight.errors import BlockedError, MissingExtraError, SafelightError, unknown_name


def test_the_tree_in_the_docstring_is_complete() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    assert len(classes) > 5
    for each in classes:
        assert issubclass(each, SafelightError)
        assert each.__name__ in (errors.__doc__ or "")


def test_an_unknown_name_lists_what_there_is_and_the_closest() -> None:
    assert unknown_name("policy", "storybok", ["storybook", "general"]) == (
        'there is no policy "storybok"; available: general, storybook; did you mean "storybook"?'
    )
    assert unknown_name("policy", "zzz", []).endswith("available: none.")


def test_errors_carry_what_a_caller_needs() -> None:
    assert str(MissingExtraError("NudeNet", "nudenet")) == (
        'NudeNet needs the extra "nudenet": install safelight again with it '
        '(in a clone: pip install ".[nudenet]").'
    )
    assert BlockedError("no", ()).verdicts == ()
