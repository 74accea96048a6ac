"""Alignment of the text encoder: methods that remove the harmful meaning of unsafe prompts."""

from safelight.alignment.text_encoder.adversarial import Adversarial
from safelight.alignment.text_encoder.des import DES
from safelight.alignment.text_encoder.method import TextEncoderMethod
from safelight.alignment.text_encoder.prompts import Prompts
from safelight.alignment.text_encoder.safe_clip import SafeCLIP
from safelight.alignment.text_encoder.safetext import SafeText

METHODS: dict[str, type[TextEncoderMethod]] = {
    each.name: each for each in (SafeText, DES, SafeCLIP, Adversarial)
}

__all__ = ["DES", "METHODS", "Adversarial", "Prompts", "SafeCLIP", "SafeText", "TextEncoderMethod"]
