"""Policies that extend others, and paths that start at the file in which they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from safelight.errors import PolicyError
from safelight.policy import Policy, PolicySource
from safelight.screening.listed_filter import ListedFilter, listed_filters

Write = Callable[[str, str], Path]

OURS = """
extends = "storybook"
name = "ours"
version = "1"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    return write


def test_a_few_keys_of_another_policy_are_changed(write: Write) -> None:
    base = Policy.load("storybook")
    ours = Policy.load(write("ours.toml", OURS + '[categories."weapons"]\nprompt = { review = 0.4 }\n'))
    assert ours.categories["weapons"].prompt.steps() == [("review", 0.4), ("block", 0.8)]
    assert ours.categories["weapons"].image == base.categories["weapons"].image
    assert (ours.context, ours.labels, ours.guidance) == (base.context, base.labels, base.guidance)
    assert ours.id == f"ours 1 ({base.id})"


def test_lists_take_the_place_of_lists(write: Write) -> None:
    text = OURS + 'context = []\n[filters]\nprompt = ["never"]\n[labels]\ngun = []\n'
    ours = Policy.load(write("ours.toml", text))
    assert (ours.filters.prompt, ours.context, ours.labels["gun"]) == (("never",), (), ())
    assert "lexicon" not in ours.filters.options, "options go with their filter"


def test_false_takes_out_what_the_base_has(write: Write) -> None:
    text = "early_stop = false\n[categories]\nillegal = false\nweapons = { image = false }\n"
    text += "[labels]\nbomb = false\n"
    ours = Policy.load(write("ours.toml", OURS + text))
    assert ours.early_stop is None
    assert "illegal" not in ours.categories
    assert ours.categories["weapons"].image.steps() == []
    assert "bomb" not in ours.labels
    assert [rule.category for rule in ours.context].count("illegal") == 3, "still reported, and allowed"


def test_false_is_a_value_where_the_base_has_one_like_it(write: Write) -> None:
    base = write("base.toml", OURS.replace("ours", "base") + "[hiding]\nwhole = true\n")
    ours = Policy.load(write("ours.toml", OURS.replace("storybook", base.name) + "[hiding]\nwhole = false\n"))
    assert not ours.hiding.whole
    assert ours.id == "ours 1 (base 1, storybook 2026.7)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "generel"\nname = "x"\nversion = "1"', 'line 1: there is no policy "generel".*"general"'),
        ('extends = "none.toml"\nname = "x"\nversion = "1"', r"line 1: there is no file .*none\.toml"),
        (
            'name = "x"\nversion = "1"\nextends = ["general"]',
            "line 3: extends must be the name or the path of one",
        ),
        ('extends = "storybook"\nversion = "1"', "name: this key is missing"),
        ('extends = "storybook"\nname = "x"', "version: this key is missing"),
        (OURS + "[categories]\nhate = false", "line 6: categories.hate: .*false only removes"),
        (OURS + "[categories]\nweapons = { image = false, prompt = false }", "line 6: .*no threshold is set"),
        (OURS + "[categories]\ncsae = false", "line 6: .*csae is always on"),
        (
            OURS + "[filters.options.lexicom]\nx = 1",
            'ours.toml, line 5: .*no stage lists the filter "lexicom"',
        ),
    ],
)
def test_what_cannot_be_extended_is_said_of_its_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as error:
        Policy.load(write("ours.toml", text))
    assert "ours.toml" in str(error.value)


def test_an_error_names_the_file_in_which_the_key_stands(write: Write) -> None:
    write("base.toml", 'name = "base"\nversion = "1"\n[filters]\nprompt = ["never"]\ntimeout_s = -1\n')
    ours = OURS.replace("storybook", "base.toml") + "[filters]\nimage = 3\n"
    policy, problems = Policy.read(PolicySource.read(write("ours.toml", ours)))
    assert policy is None
    assert sorted(problem.split(":")[0].rpartition("/")[2] for problem in problems) == [
        "base.toml, line 5",
        "ours.toml, line 6",
    ]


def test_circles_and_long_chains_end(write: Write) -> None:
    head = 'name = "x"\nversion = "1"\n'
    one = write("one.toml", f'extends = "two.toml"\n{head}')
    write("two.toml", f'{head}extends = "./one.toml"\n')
    with pytest.raises(
        PolicyError, match=r"two.toml, line 3: one.toml extends two.toml extends one.toml; remove"
    ):
        Policy.load(one)
    itself = write("self.toml", f'extends = "self.toml"\n{head}')
    with pytest.raises(PolicyError, match=r"self\.toml extends self\.toml"):
        Policy.load(itself)
    for number in range(20):
        write(f"{number}.toml", f'extends = "{number + 1}.toml"\n{head}')
    with pytest.raises(PolicyError, match="line 1: more than 8 policies extend each other"):
        Policy.load(itself.with_name("0.toml"))


def test_a_base_needs_a_name_and_a_version(write: Write) -> None:
    write("base.toml", '[filters]\nprompt = ["never"]\n')
    with pytest.raises(PolicyError, match=r"base.toml, line 1: a policy needs a name"):
        Policy.load(write("ours.toml", OURS.replace("storybook", "base.toml")))


def test_equal_files_are_equal_policies(write: Write) -> None:
    path = write("ours.toml", OURS)
    assert Policy.load(path) == Policy.load(path)


def _listed(path: Path) -> list[ListedFilter]:
    policy = Policy.load(path)
    return [each for stage in ("prompt", "image") for each in listed_filters(policy, stage)]  # type: ignore[arg-type]


def test_paths_start_at_the_file_in_which_they_stand(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = write("base/words.toml", 'version = "1"\n[labels]\nviolence = ["zva"]\n')
    base = 'name = "base"\nversion = "1"\n[filters]\nprompt = ["lexicon"]\n[filters.options.lexicon]\n'
    write("base/base.toml", base + 'words = "words.toml"\n')
    path = write("ours.toml", OURS.replace("storybook", "base/base.toml"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (lexicon,) = _listed(Path("../ours.toml"))
    monkeypatch.chdir(tmp_path)
    lexicon.check()
    assert Path(lexicon.options["words"]).resolve() == words
    assert lexicon.build().labels == {"violence"}
    path.write_text(path.read_text() + '[filters.options.lexicon]\nwords = "words.toml"\n')
    with pytest.raises(
        PolicyError, match=rf"ours.toml, line 6: there is no file or folder {tmp_path}/words.toml"
    ):
        _listed(path)[0].check()


def test_paths_in_lists_and_tables_start_there_too(write: Write, tmp_path: Path) -> None:
    path = write(
        "ours.toml",
        'name = "x"\nversion = "1"\n[filters]\nimage = ["known-image", "table", "clip", "hub"]\n'
        '[filters.options.known-image]\nlists = ["lists/a.csv", "b"]\n'
        '[filters.options.table]\nuse = "known-image"\nlists = { "lists/a.csv" = "ip" }\n'
        '[filters.options.clip]\nheads = ["one.safetensors", { file = "two.safetensors", sha256 = "00" }]\n'
        '[filters.options.hub]\nuse = "image-classifier"\nmodel = "someone/something"\nrevision = "0"\n',
    )
    write("b", "")
    known, table, clip, hub = (each.options for each in _listed(path))
    assert known["lists"] == [f"{tmp_path}/lists/a.csv", f"{tmp_path}/b"]
    assert table["lists"] == {f"{tmp_path}/lists/a.csv": "ip"}
    assert clip["heads"][0] == f"{tmp_path}/one.safetensors"
    assert clip["heads"][1] == {"file": f"{tmp_path}/two.safetensors", "sha256": "00"}
    assert hub["model"] == "someone/something"


def test_packaged_names_win_over_what_lies_beside_the_policy(write: Write, tmp_path: Path) -> None:
    for name in ("storybook", "general"):
        (tmp_path / name).mkdir()
    path = write(
        "ours.toml",
        'name = "x"\nversion = "1"\n[filters]\nprompt = ["lexicon", "classifier"]\nimage = ["clip"]\n'
        '[filters.options.lexicon]\nwords = "storybook"\n[filters.options.classifier]\nmodel = "general"\n'
        '[filters.options.clip]\nmodel = "storybook"\n',
    )
    for each in _listed(path):
        assert not each.paths
        each.check()


def test_a_model_on_a_hub_needs_a_revision(write: Write) -> None:
    path = write(
        "ours.toml",
        'name = "x"\nversion = "1"\n[filters]\nimage = ["image-classifier"]\n'
        '[filters.options.image-classifier]\nmodel = "someone/something"\n',
    )
    with pytest.raises(PolicyError, match=r"line 6: there is no file or folder .*needs the option revision"):
        _listed(path)[0].check()
