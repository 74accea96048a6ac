from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import policies
from safelight.errors import PolicyError
from safelight.policy import (
    CategoryRule,
    ContextRule,
    Policy,
    PolicySource,
    Thresholds,
    packaged_policies,
    reach_problems,
)
from safelight.types import Action, Box, FilterRun, Finding

scores = st.floats(0, 1)


def _seen(**labels: float) -> list[Finding]:
    return [Finding(label.replace("_", " "), score, "test") for label, score in labels.items()]


@pytest.mark.parametrize("name", packaged_policies())
def test_packaged_policies_load(name: str) -> None:
    policy = Policy.load(name)
    assert policy.name == name
    assert policy.filters.prompt
    assert policy.filters.image


def test_five_policies_are_packaged() -> None:
    strengths = ("general", "general-nudenet", "general-relaxed", "general-strict")
    assert packaged_policies() == (*strengths, "storybook")


def test_the_strengths_of_general_are_in_order() -> None:
    """No threshold of a stricter policy is higher, or missing where a more relaxed one has it."""
    relaxed, general, strict = (Policy.load(f"general{name}") for name in ("-relaxed", "", "-strict"))
    for more, less in ((relaxed, general), (general, strict)):
        assert more.categories.keys() <= less.categories.keys()
        for category, rule in more.categories.items():
            for stage in ("prompt", "image"):
                lower = dict(getattr(less.categories[category], stage).steps())
                for action, threshold in getattr(rule, stage).steps():
                    assert lower[action] <= threshold, (category, stage, action)


BAD = [
    (
        'version = "1"',
        'version = "1"\nverison = "2"',
        r'line 4: verison: unknown key; did you mean "version"\?',
    ),
    ("block = 0.8 }", "blok = 0.8 }", r'line 14: .*blok: unknown key; did you mean "block"\?'),
    ('name = "test"', "name = 3", "line 2: name: Input should be a valid string, not 3"),
    ('name = "test"', "", "name: this key is missing"),
    ("review = 0.3", 'review = "high"', r"line 14: .*review: Input should be a valid number, not 'high'"),
    ("review = 0.3", "review = true", "line 14: .*valid number"),
    ("review = 0.3", "review = -0.1", "line 14: .*greater than or equal to 0"),
    ("review = 0.3", "review = nan", "line 14: .*review"),
    ("block = 0.8 }\nimage", "block = 1.2 }\nimage", "less than or equal to 1"),
    ("review = 0.3, block = 0.8", "review = 0.9, block = 0.8", "line 14: .*must not decrease"),
    ("steer = 0.2", "steer = 0.6", "line 15: .*must not decrease"),
    ("review = 0.3, block", "blur = 0.3, block", "line 13: .*a prompt cannot be blurred"),
    ('[categories."weapons"]', '[categories."wepons"]', 'line 13: there is no category "wepons".*"weapons"'),
    ('[categories."weapons"]', '[categories."csae"]', "line 13: csae is always on"),
    ('gun = ["weapons"]', 'gun = ["guns"]', 'line 23: there is no category "guns"'),
    ('gun = ["weapons"]', 'gun = ["hate"]', r'line 23: \[categories."hate"\] is missing'),
    (
        'gun = ["weapons"]',
        'gun = "weapons"',
        "line 23: labels.gun: Input should be a valid list, not 'weapons'",
    ),
    ('prompt = ["lexicon"]', 'prompt = ["lexicon", "never"]', '"never" is listed twice'),
    ('prompt = ["lexicon"]', 'prompt = ["always"]', 'no stage lists the filter "lexicon"'),
    ("timeout_s = 10", "timeout_s = 0", "line 8: .*greater than 0"),
    ('bomb = ["weapons"]', '[[context]]\ncategory = "violence"', "line 24: .*names no label"),
    ('bomb = ["weapons"]', '[[context]]\ncategory = "violenc"\nall = ["x"]', "line 25: there is no category"),
    ('bomb = ["weapons"]', '[[context]]\ncategory = "violence"\nstages = ["video"]', "line 26: .*stages"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_a_wrong_policy_is_refused_with_its_line(
    write_policy: Callable[..., Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(PolicyError, match=message) as error:
        Policy.load(write_policy((old, new)))
    assert "policy.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_category_without_thresholds_is_refused(write_policy: Callable[..., Path]) -> None:
    path = write_policy(text='name = "x"\nversion = "1"\n[filters]\n[categories.hate]\n')
    with pytest.raises(PolicyError, match=r"line 4: .*no threshold is set"):
        Policy.load(path)


def test_an_unknown_policy_lists_what_there_is() -> None:
    with pytest.raises(
        PolicyError, match=r'no policy "storybok"; available: general, .*storybook; did you mean'
    ):
        Policy.load("storybok")


def test_a_missing_policy_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"there is no file .*mine.toml"):
        Policy.load(tmp_path / "mine.toml")


def test_a_category_id_and_a_mapped_label_count_for_their_category(policy: Policy) -> None:
    verdict = policy.judge("prompt", _seen(gun=0.5, violence=0.9, cat=1.0))
    assert verdict.action == "block"
    assert verdict.categories["violence"].threshold == 0.8
    weapons = verdict.categories["weapons"]
    assert (weapons.score, weapons.action, weapons.threshold, weapons.labels) == (
        0.5,
        "review",
        0.3,
        ("gun",),
    )
    assert verdict.policy == "test 1"


@pytest.mark.parametrize(
    ("score", "action"), [(0.05, "allow"), (0.1, "review"), (0.2, "steer"), (0.4, "blur"), (0.7, "block")]
)
def test_each_action_starts_at_its_threshold(policy: Policy, score: float, action: str) -> None:
    assert policy.judge("image", _seen(gun=score)).action == action


def test_a_category_that_the_policy_leaves_out_is_reported_and_allowed(policy: Policy) -> None:
    verdict = policy.judge("prompt", _seen(hate=1.0))
    assert verdict.action == "allow"
    assert verdict.categories["hate"].threshold is None


@pytest.mark.parametrize("stage", ["prompt", "image", "pair"])
def test_csae_is_always_on(policy: Policy, stage: str) -> None:
    assert policy.judge(stage, _seen(csae=0.3)).action == "block"  # type: ignore[arg-type]


def test_a_problem_blocks_whatever_was_found(policy: Policy) -> None:
    run = FilterRun("1", 2.0, "the filter broke.")
    verdict = policy.judge("image", [], filters={"f": run})
    assert (verdict.action, verdict.reasons, verdict.elapsed_ms) == ("block", ("the filter broke.",), 2.0)
    assert policy.judge("prompt", [], problem="it is empty.").reasons == ("it is empty.",)


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        ({"knife": 0.9}, "allow"),
        ({"knife": 0.9, "man": 0.9}, "block"),
        ({"knife": 0.9, "man": 0.9, "bread": 0.9}, "allow"),
        ({"knife": 0.9, "man": 0.9, "bread": 0.3}, "block"),
        ({"knife": 0.9, "man": 0.9, "child": 0.9, "bread": 0.9}, "block"),
        ({"knife": 0.9, "man": 0.9, "child": 0.05, "bread": 0.9}, "allow"),
        ({"axe": 0.9, "woman": 0.9, "tree": 0.9}, "allow"),
        ({"axe": 0.9, "dog": 0.9}, "block"),
        ({"syringe": 0.9, "man": 0.9}, "block"),
        ({"syringe": 0.9, "man": 0.9, "doctor": 0.9}, "allow"),
        ({"bottle": 0.9, "man": 0.9}, "allow"),
        ({"bottle": 0.9, "child": 0.9}, "block"),
        ({"fire": 0.9, "tree": 0.9}, "allow"),
        ({"fire": 0.9, "house": 0.9}, "block"),
        ({"gun": 0.9}, "block"),
    ],
)
def test_storybook_judges_company(seen: dict[str, float], action: str) -> None:
    assert Policy.load("storybook").judge("image", _seen(**seen)).action == action


def test_general_blocks_a_minor_in_a_sexual_prompt_as_csae() -> None:
    verdict = Policy.load("general").judge("prompt", _seen(minor=1.0, **{"sexual.nudity": 1.0}))
    assert verdict.categories["csae"].action == "block"


@given(knife=scores, child=scores, bread=scores)
def test_a_context_rule_never_exceeds_its_weakest_label(knife: float, child: float, bread: float) -> None:
    rule = ContextRule(
        category="violence", all=("knife",), any=("child", "man"), unless=("bread",), score=0.9
    )
    score, _ = rule.apply({"knife": knife, "child": child, "bread": bread}, {})
    assert score == (0.0 if bread >= 0.5 else 0.9 * min(knife, child))
    protected = rule.model_copy(update={"protected": ("child",)})
    assert protected.apply({"knife": knife, "child": child, "bread": bread}, {})[0] == 0.9 * min(knife, child)


KNIFE = Box(0.0, 0.0, 0.2, 0.2)


@pytest.mark.parametrize(
    ("man", "score"),
    [
        (Box(0.1, 0.0, 0.5, 1.0), 0.9),  # half of the knife
        (Box(0.15, 0.0, 0.5, 1.0), 0.9),  # a quarter
        (Box(0.16, 0.0, 0.5, 1.0), 0.0),  # a fifth
        (Box(0.6, 0.0, 0.9, 1.0), 0.0),
        (None, 0.9),  # who knows where
    ],
)
def test_company_can_be_asked_to_be_close(man: Box | None, score: float) -> None:
    rule = ContextRule(
        category="violence", all=("knife",), any=("man", "child"), protected=("child",), overlap=0.249
    )
    seen = {"knife": 1.0, "man": 0.9}
    boxes = {"knife": [KNIFE], **({"man": [man]} if man else {})}
    assert rule.apply(seen, boxes)[0] == score
    far = {"knife": [KNIFE], "child": [Box(0.6, 0.6, 0.9, 0.9)]}
    assert rule.apply({"knife": 1.0, "child": 0.9}, far)[0] == 0.9


@pytest.mark.parametrize(
    ("knife", "score"),
    [
        (Box(0.6, 0.6, 0.6, 0.6), 1.0),  # without area, it may be anywhere
        (Box(0.0, 0.0, 1.0, 1.0), 1.0),  # around the man
        (Box(0.6, 0.6, 0.7, 0.7), 0.0),
    ],
)
def test_odd_boxes_excuse_nothing(knife: Box, score: float) -> None:
    rule = ContextRule(category="violence", all=("knife",), any=("man",), overlap=0.1)
    assert rule.apply({"knife": 1.0, "man": 1.0}, {"knife": [knife], "man": [KNIFE]})[0] == score


def test_who_is_seen_without_a_box_is_close_whoever_else_has_one() -> None:
    far = Box(0.8, 0.8, 1.0, 1.0)
    findings = [Finding("sword", 1.0, "f", KNIFE), Finding("man", 0.1, "f", far)]
    assert Policy.load("storybook").judge("image", findings).action == "allow"
    assert Policy.load("storybook").judge("image", [*findings, Finding("man", 0.9, "g")]).action == "block"


def test_boxes_of_findings_decide() -> None:
    policy = Policy.load("storybook")
    held, apart = Box(0.1, 0.0, 0.5, 1.0), Box(0.6, 0.0, 0.9, 1.0)
    for box, action in ((held, "block"), (apart, "allow")):
        findings = [Finding("sword", 1.0, "f", KNIFE), Finding("man", 1.0, "f", box)]
        assert policy.judge("image", findings).action == action
    assert policy.judge("prompt", _seen(sword=1.0, man=1.0)).action == "block"


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        ({"sword": 1.0, "man": 1.0}, "allow"),  # whether he holds it the image shows
        ({"sword": 1.0, "child": 1.0}, "block"),  # protected at any distance
        ({"syringe": 1.0, "man": 1.0}, "block"),  # a rule that asks for no closeness
        ({"gun": 1.0}, "block"),
    ],
)
def test_beside_an_image_words_do_not_say_how_close_company_is(seen: dict[str, float], action: str) -> None:
    assert Policy.load("storybook").judge("prompt", _seen(**seen), beside=True).action == action


def test_a_rule_for_words_alone_counts_beside_an_image() -> None:
    rule = ContextRule(category="violence", stages=("prompt",), all=("knife",), any=("man",), overlap=0.1)
    assert rule.apply({"knife": 1.0, "man": 1.0}, {}, beside=True)[0] == 1.0


def test_a_rule_without_company_asks_for_no_closeness() -> None:
    rule = ContextRule(category="violence", stages=("prompt", "image"), all=("gun", "child"), overlap=0.1)
    assert rule.apply({"gun": 1.0, "child": 1.0}, {}, beside=True)[0] == 1.0


@given(thresholds=st.lists(scores, min_size=4, max_size=4).map(sorted), low=scores, high=scores)
def test_more_harm_is_never_a_milder_action(thresholds: list[float], low: float, high: float) -> None:
    steps = Thresholds(**dict(zip(["review", "steer", "blur", "block"], thresholds, strict=True)))
    low, high = sorted((low, high))
    assert steps.decide(low)[0] <= steps.decide(high)[0]


@given(st.lists(st.tuples(st.sampled_from(["knife", "child", "gun", "bread", "csae", "odd"]), scores)))
def test_every_set_of_findings_gets_a_verdict(found: list[tuple[str, float]]) -> None:
    verdict = Policy.load("storybook").judge("image", [Finding(label, s, "f") for label, s in found])
    assert verdict.action in Action
    assert 0.0 <= verdict.score <= 1.0
    assert verdict.action >= max((c.action for c in verdict.categories.values()), default=Action.ALLOW)


def _problems(path: Path) -> str:
    with pytest.raises(PolicyError) as error:
        Policy.load(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[categories."weapons"]', "[categories.sexual.nudity]", r'quote it: \[categories."sexual.nudity"\]'),
        ('[categories."weapons"]', "[categories.sexual.nudty]", r'quote it: \[categories."sexual.nudity"\]'),
        ('[categories."weapons"]', "[categories.brand.logo]", r'quote it: \[categories."brand.logo"\]'),
        (
            '[categories."weapons"]',
            "[catgories.weapons]",
            'catgories: unknown key; did you mean "categories"',
        ),
        ('[categories."weapons"]\nprompt', '[categories."weapons"]\nprmpt', 'did you mean "prompt"'),
        (
            '[categories."weapons"]\nprompt = { review = 0.3',
            '[categories."weapons"]\nblock = 0.8\nprompt = { review = 0.3',
            "a threshold belongs to a stage; write prompt, image or pair = { block",
        ),
        ('gun = ["weapons"]', 'a.gun = ["weapons"]', 'quote it: "a.gun" = …'),
        (
            "[filters.options.lexicon]",
            "[filters.option.lexicon]",
            'filters.option: unknown key; did you mean "options"',
        ),
        ('gun = ["weapons"]', f"gun = [{'1' * 200}]", r"not 1{60}…\."),
    ],
)
def test_what_was_meant_is_told(write_policy: Callable[..., Path], old: str, new: str, message: str) -> None:
    assert re.search(message, _problems(write_policy((old, new))))


OWN = '[categories."brand.logo"]\ndescription = "Our own logo."\nprompt = { review = 0.5 }\n'


def test_a_policy_has_categories_of_its_own(write_policy: Callable[..., Path]) -> None:
    path = write_policy(("[labels]\n", f'{OWN}[labels]\nmark = ["brand.logo"]\n'))
    policy = Policy.load(path)
    for label in ("mark", "brand.logo"):
        verdict = policy.judge("prompt", [Finding(label, 0.7, "f")])
        assert (verdict.action, verdict.categories["brand.logo"].threshold) == ("review", 0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weapons2", "cannot be a category|needs a description"),
        ("csae", "csae is always on"),
        ("csae.mild", "do not begin the name with csae"),
        ("cs_ae", "do not begin the name with csae"),
        ("CSAE", "cannot be a category"),
        ("ip ", "cannot be a category"),
        ("hate", "describes this category already"),
    ],
)
def test_a_category_of_its_own_is_not_one_of_the_taxonomy(
    write_policy: Callable[..., Path], name: str, message: str
) -> None:
    said = "" if name == "weapons2" else 'description = "Mine."\n'
    path = write_policy(
        ("[labels]\n", f'[categories."{name}"]\n{said}prompt = {{ review = 0.5 }}\n[labels]\n')
    )
    with pytest.raises(PolicyError, match=message):
        Policy.load(path)


def test_a_category_of_its_own_is_used_only_where_it_is_declared(write_policy: Callable[..., Path]) -> None:
    assert 'no category "brand.logo"' in _problems(
        write_policy(('gun = ["weapons"]', 'gun = ["brand.logo"]'))
    )


def test_all_problems_are_found_at_once(write_policy: Callable[..., Path]) -> None:
    path = write_policy(('name = "test"', "name = 3"), ("timeout_s = 10", "timeout_s = 0"))
    policy, problems = Policy.read(PolicySource.read(path))
    assert policy is None
    assert [problem.partition(": ")[0].rpartition(", ")[2] for problem in problems] == ["line 2", "line 8"]


def test_thresholds_that_no_filter_reaches_are_found(policy: Policy) -> None:
    assert list(reach_problems(policy, "prompt", [{"gun", "violence"}])) == []
    (problem,) = reach_problems(policy, "prompt", [{"gun"}, {"cat"}])
    assert 'line 18: nothing can reach the prompt thresholds of "violence": "lexicon" cannot' in problem
    assert list(reach_problems(policy, "prompt", [{"gun"}, None])) == [], "a filter that does not tell"
    assert list(reach_problems(policy, "image", [frozenset()])) == [], "switched off on purpose"
    (problem,) = reach_problems(policy, "pair", [])
    assert '"violence": the policy lists no pair filter' in problem


def test_company_reaches_a_category() -> None:
    policy = Policy.load("storybook")
    (blind,) = reach_problems(policy, "image", [{"gun", "blood", "axe", "car"}])
    assert '"violence"' in blind
    assert list(reach_problems(policy, "image", [{"gun", "blood", "axe", "car", "man"}])) == []


def test_a_threshold_for_what_no_filter_sees_is_a_problem() -> None:
    general = Policy.load("general")
    labels = {"porn", "hentai", "sexy", "NSFW"}
    only = general.filters.model_copy(update={"image": ("nsfwjs", "opennsfw")})
    rules = {name: rule for name, rule in general.categories.items() if name.startswith("sexual.")}
    del rules["sexual.nonconsensual"]
    narrow = general.model_copy(update={"filters": only, "categories": rules})
    assert list(reach_problems(narrow, "image", [labels])) == []
    wide = {**rules, "hate": CategoryRule(image=Thresholds(block=0.7))}
    (problem,) = reach_problems(narrow.model_copy(update={"categories": wide}), "image", [labels])
    assert 'the image thresholds of "hate": "nsfwjs", "opennsfw" cannot' in problem


def test_general_says_what_it_does_not_detect() -> None:
    (line,) = (line for line in Policy.load("general").not_detected if "gore" in line)
    assert line.startswith("images of violence")


HOSTILE = {
    "a table in tables": b"[" + b"a." * 50_000 + b"a]\n",
    "keys in keys": b"a." * 50_000 + b"a = 1\n",
    "lists in lists": b"a = " + b"[" * 50_000,
    "tables in a table": b"a = " + b"{ a = " * 50_000,
    "a long number": b"a = " + b"9" * 5_000,
    "a long number in base sixteen": b"a = 0x" + b"f" * 5_000,
    "behind a text with quotes at its end": b'a = """x"""""\nb = ' + b"[" * 50_000,
    "a large file": b"# " + b"x" * 300_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_before_it_is_parsed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(PolicyError):
        Policy.load(path)
    assert time.process_time() - started < 1


@settings(max_examples=100, derandomize=True, deadline=None)
@given(case=policies.cases)
def test_a_damaged_policy_is_read_or_refused(case: policies.Case) -> None:
    policies.check(case)
