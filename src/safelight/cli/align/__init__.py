"""``safelight align``: concepts are taken out of a model."""

from __future__ import annotations

from safelight.cli.align.diffusion import debias, esd, uce
from safelight.cli.align.text_encoder import text_encoder
from safelight.cli.renamed_options import Commands

align = Commands(
    name="align",
    help="Take concepts out of a model; what was changed is written as a small delta.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
align.command()(uce)
align.command()(debias)
align.command()(esd)
align.command("text-encoder")(text_encoder)
