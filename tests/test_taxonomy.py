from __future__ import annotations

from safelight.policy.taxonomy import load_taxonomy

TAXONOMIES = {"ailuminate", "llama-guard", "openai", "i2p", "unsafebench", "llavaguard", "azure"}


def test_the_fourteen_categories_are_described_and_mapped() -> None:
    taxonomy = load_taxonomy()
    assert len(taxonomy.categories) == 14
    for category in taxonomy.categories.values():
        assert category.meaning.endswith(".")
        assert category.names.keys() == TAXONOMIES


def test_the_mapping_is_many_to_many() -> None:
    taxonomy = load_taxonomy()
    assert taxonomy.ours("llama-guard", "S1") == ("violence", "violence.graphic", "weapons")
    assert taxonomy.categories["violence"].names["openai"] == ("violence", "illicit/violent")
    assert taxonomy.ours("azure", "no such name") == ()
