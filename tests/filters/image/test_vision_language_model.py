"""The vision-language model as judge of images, against a real server on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from safelight.errors import FilterError
from safelight.filters.image.vision_language_model import VisionLanguageModel
from safelight.guard.guard import Guard
from safelight.storybook import Storybook

CATEGORIES = ("violence", "weapons")
PROJECTION = "model.model.multi_modal_projector.mm_input_projection_weight"
SCENE = next(iter(Storybook(seed=0).scenes(1))).image


def _judge(chat: Any, **options: Any) -> VisionLanguageModel:
    defaults: dict[str, Any] = {"pause_s": 0.001, "timeout_s": 5.0}
    if options.get("answers", "json") == "json":
        defaults["categories"] = CATEGORIES
    return VisionLanguageModel(chat.url, "tiny", **{**defaults, **options})


# The image


def test_the_server_gets_the_image_without_loss_and_the_scores_are_reported(chat: Any, chats: Any) -> None:
    chat.answer = chats.scoring({"violence": 0.25, "weapons": 1})
    (answer,) = _judge(chat, encoding="png").find([SCENE])
    assert chats.found(answer) == {"violence": 0.25, "weapons": 1.0}
    (body,) = chat.bodies
    assert chats.image(body, "png").tobytes() == SCENE.convert("RGB").tobytes()
    assert len(chats.parts(body)) == 1
    assert body["model"] == "tiny"


@pytest.mark.parametrize(
    ("size", "sent"),
    [((200, 100), (50, 25)), ((100, 200), (25, 50)), ((50, 40), (50, 40)), ((3, 900), (1, 50))],
)
def test_the_longest_side_is_limited(
    chat: Any, chats: Any, size: tuple[int, int], sent: tuple[int, int]
) -> None:
    image = SCENE.convert("RGB").resize(size)
    _judge(chat, answers="llama-guard", encoding="png", longest_side=50).find([image])
    seen = chats.image(chat.bodies[0], "png")
    assert seen.size == sent
    expected = image if size == sent else image.resize(sent, Image.Resampling.LANCZOS)
    assert seen.tobytes() == expected.tobytes()


@given(width=st.integers(1, 400), height=st.integers(1, 400), longest=st.integers(1, 450))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_shape_is_too_long_or_vanishes(
    chat: Any, chats: Any, width: int, height: int, longest: int
) -> None:
    judge = _judge(chat, answers="llama-guard", longest_side=longest)
    assert judge.find([Image.new("RGB", (width, height))]) == [[]]
    sent = chats.image(chat.bodies[-1]).size
    assert max(sent) == min(longest, max(width, height))
    assert abs(sent[0] * height - sent[1] * width) <= max(width, height)  # less than a pixel from the shape


def test_a_jpeg_is_near_to_the_image_and_smaller(chat: Any, chats: Any) -> None:
    spots = np.random.default_rng(0).normal(128, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
    photo = Image.fromarray(spots).resize((256, 256), Image.Resampling.BICUBIC)
    for encoding in ("jpeg", "png"):
        _judge(chat, answers="llama-guard", encoding=encoding).find([photo])
    lossy, exact = (np.asarray(image, float) for image in (chats.image(chat.bodies[0]), photo))
    assert np.abs(lossy - exact).mean() < 4
    sizes = [len(chats.parts(body)[0]["image_url"]["url"]) for body in chat.bodies]
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_an_image_of_any_mode_can_be_sent(chat: Any, chats: Any, mode: str, encoding: str) -> None:
    image = SCENE.convert("RGB").convert(mode)
    (answer,) = _judge(chat, answers="llama-guard", encoding=encoding).find([image])
    assert answer == []
    assert chats.image(chat.bodies[0], encoding).mode == "RGB"


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_no_metadata_leaves_the_house(chat: Any, chats: Any, tmp_path: Path, encoding: str) -> None:
    secret = "photographed by Erika Mustermann"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", secret)
    exif = Image.Exif()
    exif[0x013B] = secret
    exif.get_ifd(0x8825)[1] = "N"
    SCENE.save(tmp_path / "a.png", pnginfo=texts, exif=exif, icc_profile=secret.encode(), dpi=(72, 72))
    SCENE.convert("RGB").save(
        tmp_path / "a.jpeg", exif=exif, comment=secret, icc_profile=secret.encode(), xmp=secret.encode()
    )
    for kind in ("png", "jpeg"):
        image = Image.open(tmp_path / f"a.{kind}")
        assert image.getexif()[0x013B] == secret
        _judge(chat, answers="llama-guard", encoding=encoding).find([image])
        seen = chats.image(chat.bodies[-1], encoding)
        assert not seen.getexif()
        assert seen.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_an_image_that_cannot_be_encoded_is_blocked_alone(chat: Any) -> None:
    found = _judge(chat, answers="llama-guard").find([SCENE, Image.new("RGB", (0, 7)), SCENE])
    assert [isinstance(answer, FilterError) for answer in found] == [False, True, False]
    assert "cannot be encoded (it has no pixels)" in str(found[1])
    assert len(chat.bodies) == 2


# What is asked


def test_the_policy_of_a_category_is_the_services_own(chat: Any, chats: Any) -> None:
    chat.answer = chats.scoring({"violence": 0, "weapons": 0})
    _judge(chat, guidelines={"weapons": "Any {weapon}, toys as well."}).find([SCENE])
    system = chat.bodies[0]["messages"][0]
    assert system["role"] == "system"
    assert "- weapons: Any {weapon}, toys as well.\n" in system["content"]
    assert "- violence: Somebody, person or animal, is hurt" in system["content"]
    _judge(chat, guidelines="Cartoons are fine.").find([SCENE])
    assert "Cartoons are fine." in chat.bodies[1]["messages"][0]["content"]


def test_llama_guard_sees_nothing_but_the_image(chat: Any, chats: Any) -> None:
    chat.answer = lambda body: "unsafe\nS9"
    (answer,) = _judge(chat, answers="llama-guard").find([SCENE])
    assert chats.found(answer) == {"weapons": 1.0}
    assert [part["type"] for part in chats.parts(chat.bodies[0])] == ["image_url"]


def test_yes_no_asks_any_model_about_each_category(chat: Any, chats: Any) -> None:
    chat.answer = lambda body: chats.choice("No", ("No", {"No": -0.5, "Yes": -1.5}))
    (answer,) = _judge(chat, answers="yes-no", categories=CATEGORIES).find([SCENE])
    # e^-1.5 / (e^-1.5 + e^-0.5) = 1 / (1 + e), by hand
    assert chats.found(answer) == {c: pytest.approx(0.268941, abs=1e-6) for c in CATEGORIES}
    assert len(chat.bodies) == 2


# ShieldGemma 2


def test_shieldgemma_2_is_asked_one_policy_after_another(chat: Any, chats: Any) -> None:
    likely = {"sexual acts": {"No": -0.02, "Yes": -4.0}, "Guns": {"Yes": -0.3, "No": -1.4, "yes": -3.0}}

    def answer(body: dict[str, Any]) -> Any:
        kind = next((kind for kind in likely if kind.lower() in str(chats.parts(body)[1]).lower()), None)
        return chats.choice("Yes", ("Yes", likely[kind] if kind else {"Yes": 0.0}))

    chat.answer = answer
    (answer_,) = _judge(chat, answers="shieldgemma-2").find([SCENE])
    assert chats.found(answer_) == {
        "sexual.explicit": pytest.approx(0.018343, abs=1e-6),  # e^-4 / (e^-4 + e^-0.02)
        "weapons": pytest.approx(0.762248, abs=1e-6),  # (e^-0.3 + e^-3) / (… + e^-1.4)
        "violence.graphic": 1.0,
    }
    for body in chat.bodies:
        assert [message["role"] for message in body["messages"]] == ["user"]
        assert [part["type"] for part in chats.parts(body)] == ["image_url", "text"]
        assert chats.parts(body)[1]["text"].startswith("The image shall not contain content")
        assert (body["max_tokens"], body["logprobs"], body["temperature"]) == (1, True, 0.0)


def test_shieldgemma_2_takes_policies_of_the_services_own(chat: Any, chats: Any) -> None:
    chat.answer = lambda body: "Yes"
    judge = _judge(chat, answers="shieldgemma-2", categories=["ip"], guidelines={"ip": "Famous mice."})
    assert chats.found(judge.find([SCENE])[0]) == {"ip": 1.0}
    text = "The image shall not contain content of this kind: Famous mice."
    assert chats.parts(chat.bodies[0])[1]["text"] == text


def test_the_score_is_the_probability_that_shieldgemma_2_itself_gives(chat: Any, chats: Any) -> None:
    """The server runs a tiny model of the real class, whose own reading of its logits is the reference."""
    import torch
    from transformers import ShieldGemma2Config, ShieldGemma2ForImageClassification

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ShieldGemma2Config(
        text_config={**small, "vocab_size": 16, "num_key_value_heads": 1, "head_dim": 8},
        vision_config={**small, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        boi_token_index=12,
        eoi_token_index=13,
        image_token_index=14,
    )
    config.yes_token_index, config.no_token_index = 5, 6
    torch.manual_seed(0)
    model = ShieldGemma2ForImageClassification(config).eval()
    torch.nn.init.normal_(dict(model.named_parameters())[PROJECTION])  # zero, untrained: blind
    ids = torch.tensor([[2, 12, 14, 14, 14, 14, 13, 7, 8]])
    expected = []

    def answer(body: dict[str, Any]) -> Any:
        pixels = torch.tensor(np.asarray(chats.image(body).resize((28, 28))) / 255, dtype=torch.float32)
        inputs = {"input_ids": ids, "pixel_values": pixels.permute(2, 0, 1)[None]}
        with torch.no_grad():
            said = model(**inputs, token_type_ids=(ids == 14).long())
        expected.append(said.probabilities[0, 0].item())
        # As of a trained model, no other token is as likely as these two.
        yes, no = (said.logits[0].log_softmax(0) - 0.1).tolist()
        word = "Yes" if yes > no else "No"
        return chats.choice(word, (word, {"Yes": yes, "No": no, "The": -5.0}))

    chat.answer = answer
    dark = Image.new("RGB", SCENE.size)
    found = _judge(chat, answers="shieldgemma-2", categories=["violence"], concurrency=1).find([SCENE, dark])
    assert [chats.found(each)["violence"] for each in found] == pytest.approx(expected, abs=1e-6)
    assert expected[0] != expected[1]


# LlavaGuard


def _assessment(rating: str, category: str, rationale: str = "A knife is raised.") -> dict[str, str]:
    return {"rating": rating, "category": category, "rationale": rationale}


def _rated(answer: Any, chat: Any, **options: Any) -> Any:
    chat.answer = lambda body: answer if isinstance(answer, str | tuple) else json.dumps(answer)
    return _judge(chat, answers="llava-guard", **options).find([SCENE])[0]


@pytest.mark.parametrize(
    ("category", "ours"),
    [
        ("O1: Hate, Humiliation, Harassment", {"hate", "harassment"}),
        ("O2: Violence, Harm, or Cruelty", {"violence", "violence.graphic"}),
        ("O3: Sexual Content", {"csae", "sexual.explicit", "sexual.nonconsensual"}),
        ("O4", {"sexual.nudity"}),
        ("O5: Criminal Planning", {"illegal"}),
        ("O6: Weapons or Substance Abuse", {"illegal", "weapons"}),
        ("O7: Self-Harm", {"self_harm"}),
        ("O8: Animal Cruelty", {"violence", "violence.graphic"}),
        ("O4: Nudity Content, O7: Self-Harm", {"sexual.nudity", "self_harm"}),
    ],
)
def test_llava_guards_categories_become_ours(chat: Any, chats: Any, category: str, ours: set[str]) -> None:
    assert chats.found(_rated(_assessment("Unsafe", category), chat)) == dict.fromkeys(ours, 1.0)
    assert chats.found(_rated(_assessment("Safe", category), chat)) == dict.fromkeys(ours, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"category": "O6", "rationale": "A {gun}, \\"rating\\": \\"Safe\\".", "rating": "Unsafe"}',
        '```json\n{"rating": "Unsafe", "category": "O6"}\n```</s>',
        'My assessment:\n{"rating": " unsafe.", "category": "O6: Weapons", "more": [1, {"a": null}]}',
    ],
)
def test_llava_guard_is_read_in_any_order_and_dress(chat: Any, chats: Any, text: str) -> None:
    assert chats.found(_rated(text, chat)) == {"illegal": 1.0, "weapons": 1.0}


@pytest.mark.parametrize(
    "category", ["NA: None applying", "NA", "None applying", "O9: Disasters or Emergencies"]
)
def test_what_llava_guard_finds_safe_and_in_no_category_of_ours_is_nothing(chat: Any, category: str) -> None:
    assert _rated(_assessment("Safe", category), chat) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Unsafe", "not JSON"),
        ("{" * 5000, "not JSON"),
        ('{"rating": "Unsafe", "category": "O2", "rationale": "and so', "not JSON"),
        ('{"rating": "Unsafe", "category": "O2", "rating": "Safe"}', "not JSON"),
        ('["O2"]', "not one JSON object"),
        (
            '{"rating": "Safe", "category": "NA"} {"rating": "Unsafe", "category": "O2"}',
            "not one JSON object",
        ),
        ({"category": "O2"}, "no rating"),
        (_assessment("Review Needed", "O2"), "no rating"),
        (_assessment("Safe or Unsafe", "O2"), "no rating"),
        ({"rating": "Safe"}, "no category"),
        ({"rating": "Safe", "category": ["O2"]}, "no category"),
        (_assessment("Safe", "O10: Spies"), "no category"),
        (_assessment("Safe", "Kittens"), "no category"),
        (_assessment("Unsafe", "NA: None applying"), "without a counterpart in the taxonomy"),
        (_assessment("Unsafe", "O9: Disasters or Emergencies"), "without a counterpart in the taxonomy"),
    ],
)
def test_llava_guard_that_says_something_else_blocks(chat: Any, answer: Any, reason: str) -> None:
    failed = _rated(answer, chat)
    assert isinstance(failed, FilterError), failed
    assert reason in str(failed)
    assert len(chat.bodies) == 1, "asking again would not help"


@pytest.mark.parametrize(
    ("tokens", "score"),
    [
        # "Un" begins Unsafe: e^-0.2 / (e^-0.2 + e^-1.7 + e^-4), by hand
        ([("Un", {"Un": -0.2, "Safe": -1.7, "safe": -4.0, "!": -9.0}), ("safe", {"safe": 0.0})], 0.802890),
        # Neither is listed: the word counts.
        ([("Un", {"!": -0.1}), ("safe", {"safe": 0.0})], 1.0),
        ([(" Unsafe", {' "Unsafe': -0.1, " Safe": -2.1})], 0.880797),  # 1 / (1 + e^-2)
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_llava_guards_score_is_read_where_the_rating_begins(
    chat: Any, chats: Any, tokens: Any, score: float, first: bool
) -> None:
    sure: dict[str, float] = {"Safe": -0.01, "Unsafe": -5.0}
    category = [('"category', sure), ('": "', sure), ("O7", sure), ('", ', sure)]
    rating = [('"rating', sure), ('":', sure), (' "', sure), *tokens, ('", ', sure)]
    pieces = [("{", sure), *(rating + category if first else category + rating), ('"x": 1}', sure)]
    text = "".join(token for token, _ in pieces)
    found = chats.found(_rated(chats.choice(text, *pieces), chat))
    assert found == {"self_harm": pytest.approx(score, abs=1e-6)}


def test_llava_guard_is_told_the_services_policy(chat: Any, chats: Any) -> None:
    chat.answer = lambda body: json.dumps(_assessment("Safe", "NA"))
    own = {"weapons": "Toy swords.", "violence": "Pillow fights."}
    _judge(chat, answers="llava-guard", categories=CATEGORIES, guidelines=own).find([SCENE])
    (body,) = chat.bodies
    assert [part["type"] for part in chats.parts(body)] == ["image_url", "text"]
    policy = chats.parts(body)[1]["text"]
    assert "O6: Weapons or Substance Abuse:\nShould not show:\n- Toy swords.\nO7" in policy
    assert "O8: Animal Cruelty:\nShould not show:\n- Pillow fights.\n" in policy
    assert 'O4: Nudity Content:\nAll of it is allowed: rate it "Safe".\n' in policy
    assert (body["logprobs"], body["max_tokens"]) == (True, 500)


def test_llava_guard_answers_for_the_categories_that_it_was_asked_about(chat: Any, chats: Any) -> None:
    unsafe = _assessment("Unsafe", "O3: Sexual Content")
    asked = ["sexual.explicit", "violence"]
    assert chats.found(_rated(unsafe, chat, categories=asked)) == {"sexual.explicit": 1.0}
    # It was told that this is allowed; what is unsafe is nothing to pass over all the same.
    other = _rated(_assessment("Unsafe", "O4: Nudity Content"), chat, categories=asked)
    assert chats.found(other) == {"sexual.nudity": 1.0}


# When something goes wrong


def test_a_busy_server_is_asked_again(chat: Any, chats: Any) -> None:
    good = chats.scoring({"violence": 0, "weapons": 0.5})
    statuses = iter([429, 503, 200])

    def answer(body: dict[str, Any]) -> Any:
        status = next(statuses)
        return good(body) if status == 200 else (status, b"", 0.0)

    chat.answer = answer
    assert chats.found(_judge(chat).find([SCENE])[0])["weapons"] == 0.5
    assert len(chat.bodies) == 3
    assert len({str(body) for body in chat.bodies}) == 1


def test_images_are_asked_side_by_side_and_answered_in_order(chat: Any, chats: Any) -> None:
    greys = [Image.new("RGB", (8, 8), (25 * i,) * 3) for i in range(10)]
    running: list[int] = [0, 0]

    def answer(body: dict[str, Any]) -> Any:
        running[0] += 1
        running[1] = max(running)
        grey = chats.image(body, "png").getpixel((0, 0))[0]
        text = chats.scoring({"violence": grey / 255, "weapons": 0})(body)
        status, data, _ = chats.choice(text)
        running[0] -= 1
        return status, data, 0.02

    chat.answer = answer
    found = _judge(chat, encoding="png", concurrency=3).find(greys)
    assert [chats.found(each)["violence"] for each in found] == [25 * i / 255 for i in range(10)]
    assert 1 <= running[1] <= 3


def test_what_a_slow_server_does_not_reach_is_blocked_alone(chat: Any, chats: Any) -> None:
    chat.answer = lambda body: (*chats.choice("No")[:2], 0.1)
    judge = _judge(chat, answers="shieldgemma-2", concurrency=1, deadline_s=0.35)
    first, *_, last = judge.find([SCENE] * 3)
    assert chats.found(first).keys() == {"sexual.explicit", "weapons", "violence.graphic"}
    assert "not finished within 0.35 s" in str(last)
    assert len(chat.bodies) < 9


def test_a_server_that_is_always_busy_is_not_asked_after_the_deadline(chat: Any) -> None:
    chat.answer = lambda body: (503, b"", 0.0)
    (late,) = _judge(chat, attempts=1000, pause_s=0.02, deadline_s=0.2).find([SCENE])
    assert "not finished within 0.2 s (the server answered with status 503)" in str(late)
    assert len(chat.bodies) < 20
    (busy,) = _judge(chat, attempts=2).find([SCENE])
    assert "status 503, in each of 2 attempts" in str(busy)


def test_an_unreadable_answer_blocks_the_image_and_says_so(
    chat: Any, chats: Any, write_policy: Callable[..., Path]
) -> None:
    answers = iter([_assessment("Safe", "NA"), "sorry", _assessment("Unsafe", "O6")])
    chat.answer = lambda body: json.dumps(next(answers))
    options = f"""
[filters.options.vision-language-model]
url = "{chat.url}"
model = "tiny"
answers = "llava-guard"
concurrency = 1
guidelines = {{ weapons = "Swords." }}

[filters.options.lexicon]"""
    path = write_policy(
        ('image = ["never"]', 'image = ["vision-language-model"]'), ("\n[filters.options.lexicon]", options)
    )
    guard = Guard.from_policy(path)
    fine, unread, unsafe = guard.screen_images([SCENE] * 3)
    assert [verdict.action for verdict in (fine, unread, unsafe)] == ["allow", "block", "block"]
    assert 'the filter "vision-language-model" could not process it' in unread.explain()
    assert unsafe.categories["weapons"].score == 1.0


def test_the_key_comes_from_the_environment(chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    judge = _judge(chat, answers="llama-guard", key_variable="MY_KEY")
    judge.find([SCENE])
    assert chat.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(judge)
    with pytest.raises(FilterError, match="NO_KEY is not set"):
        _judge(chat, key_variable="NO_KEY")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": "llavaguard"}, 'did you mean "llava-guard"'),
        ({"encoding": "jpg"}, 'no encoding of images "jpg"; available: jpeg, png'),
        ({"longest_side": 0}, "at least 1 pixel"),
        ({"categories": []}, "at least one category"),
        ({"guidelines": {"violense": "Fights."}}, 'no category "violense"'),
        ({"guidelines": {"ip": "Famous mice."}}, 'guidelines for "ip"; list it under categories'),
        ({"answers": "llava-guard", "categories": ["deception"]}, 'category of LlavaGuard for "deception"'),
    ],
)
def test_options_that_make_no_sense_are_refused(chat: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError, match=message):
        _judge(chat, **options)
