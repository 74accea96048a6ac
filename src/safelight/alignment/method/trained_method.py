"""The base class of methods that train components of a pipeline and return a delta."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.alignment.delta.adapter import Adapter, LowRank, Whole
from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.alignment.delta.proof import draw
from safelight.errors import ModelError, RequestError
from safelight.models.pipelines import model_name
from safelight.training.loop import Evaluate, Loss, Progress, TrainingLoop
from safelight.training.plan import LrScheduler, TrainingPlan
from safelight.types import AlignmentResult, AlignmentRun

if TYPE_CHECKING:
    from torch import nn

# The metadata of a setting that several methods have.
CHECKPOINTING_HELP = {"help": "Recompute activations in the backward pass to save memory."}

# For each evaluation: the number of images of each concept, their denoising steps and their first seed.
_IMAGES, _STEPS, _SEED = 8, 15, 0


@dataclass(frozen=True, kw_only=True)
class TrainedMethod(ABC):
    """The base class of methods that train for ``train_steps`` steps.

    The settings up to ``patience`` are those of ``TrainingPlan``. With a ``rank`` above 0 a low-rank change
    of the weights (LoRA) is trained, which needs no copy of them; otherwise the weights themselves are
    trained.

    Raises ``RequestError`` for invalid settings.
    """

    concepts: Sequence[str] = field(
        kw_only=False,
        metadata={
            "option": "--concept",
            "help": "Concept to remove, with synonyms separated by commas; repeatable.",
        },
    )
    train_steps: int = field(default=200, metadata={"help": "Number of optimizer steps.", "min": 1})
    learning_rate: float = field(default=1e-4, metadata={"help": "Initial learning rate of AdamW, above 0."})
    lr_scheduler: LrScheduler = field(
        default="constant",
        metadata={"help": "Learning rate schedule: constant, or cosine, which decays to 0."},
    )
    gradient_accumulation: int = field(
        default=1,
        metadata={
            "help": "Number of batches whose gradients are accumulated for one optimizer step.",
            "min": 1,
        },
    )
    checkpoint_every: int = field(
        default=50, metadata={"help": "Number of optimizer steps between checkpoints.", "min": 1}
    )
    eval_every: int = field(
        default=0,
        metadata={
            "help": "Number of optimizer steps between evaluations, which generate images of the concepts. "
            "Training stops once no image shows a concept, or once their share no longer falls. 0 turns "
            "evaluation off. Needs a judge of the images, which only the packaged model has.",
            "min": 0,
        },
    )
    patience: int = field(
        default=2,
        metadata={
            "help": "Number of evaluations without a lower share of images that show a concept after which "
            "training stops; only with --eval-every.",
            "min": 1,
        },
    )
    rank: int = field(
        default=0,
        metadata={"help": "Rank of the LoRA to train; 0 trains the weights themselves.", "min": 0},
    )
    seed: int = 0

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.plan()
        if self.rank < 0:
            raise RequestError(f"rank is {self.rank}; give at least 1, or 0 to train the weights themselves.")

    @abstractmethod
    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Train, restore ``pipe`` bit for bit, and return the delta.

        An interrupted training resumes from the checkpoint in ``run.folder``. Raises ``RequestError`` for a
        concept that the tokenizer cannot represent, and the errors of ``TrainingLoop.run`` and ``Delta.of``.
        """

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return the settings that reproduce the training, as JSON; data are represented by their hash."""

    @property
    def is_first(self) -> bool:
        """Whether this process, of those that train together, is the one that writes the result."""
        return True

    def plan(self) -> TrainingPlan:
        return TrainingPlan(
            train_steps=self.train_steps,
            learning_rate=self.learning_rate,
            lr_scheduler=self.lr_scheduler,
            gradient_accumulation=self.gradient_accumulation,
            checkpoint_every=self.checkpoint_every,
            eval_every=self.eval_every,
            patience=self.patience,
        )

    def adapter(self, module: nn.Module, chosen: Mapping[str, nn.Parameter]) -> Adapter:
        """Return an adapter that trains the ``chosen`` parameters of ``module``, or a low-rank change."""
        if self.rank:
            return LowRank(module, chosen, self.rank, self.seed)
        return Whole(module, chosen)

    def train(
        self, pipe: Any, adapters: Mapping[str, Adapter], loss: Loss, run: AlignmentRun
    ) -> AlignmentResult[Delta]:
        """Train the ``adapters`` of these components of ``pipe``, and remove them afterwards."""
        try:
            base = {part: part_sha256(pipe, part) for part in adapters}
            loop = TrainingLoop(
                {f"{part}.{n}": each for part, a in adapters.items() for n, each in a.parameters.items()},
                self.plan(),
                run.folder / "checkpoint.safetensors" if run.folder else None,
                {**self.settings(), "base": base},
            )
            curve = loop.run(loss, self._evaluate(pipe, run), self._progress(run))
            changes = {f"{p}.{n}": each for p, a in adapters.items() for n, each in a.differences().items()}
            done = {**self.settings(), "steps_done": loop.steps_done, "rates": curve.rates}
            about = Provenance(self.name, tuple(self.concepts), model_name(pipe), base, done)
            rates = {step: {"images that show a concept": rate} for step, rate in curve.rates.items()}
            return AlignmentResult(Delta.of(changes, about), tuple(curve.loss), rates)
        finally:
            for adapter in adapters.values():
                adapter.remove()

    def check_run(self, run: AlignmentRun) -> None:
        """Raise ``RequestError`` if training should be evaluated but ``run`` has no means of evaluation."""
        if self.eval_every and not (run.shows or run.evaluate):
            raise RequestError("there is no judge of this model's images; leave eval_every 0.")

    def _evaluate(self, pipe: Any, run: AlignmentRun) -> Evaluate | None:
        """Return the evaluation of ``run``, or one that measures how many images still show the concepts."""
        if run.evaluate or not run.shows:
            return run.evaluate
        shows = run.shows

        def evaluate(_: int) -> float:
            seen: list[bool] = []
            for concept in self.concepts:
                seen += shows(concept, draw(pipe, concept, _IMAGES, _STEPS, _SEED)) or ()
            return sum(seen) / len(seen) if seen else 1.0

        return evaluate if self.eval_every else None

    def _progress(self, run: AlignmentRun) -> Progress | None:
        report = run.progress
        return (lambda done, _: report(done, self.train_steps)) if report and self.is_first else None


@contextmanager
def gradient_checkpointing(network: Any) -> Iterator[None]:
    """Recompute activations in the backward pass inside the context (gradient checkpointing).

    Raises ``ModelError`` for a network that does not support it.
    """
    if not getattr(network, "_supports_gradient_checkpointing", False):
        raise ModelError(f"a {type(network).__name__} does not support gradient checkpointing; turn it off.")
    before = network.is_gradient_checkpointing
    network.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            network.disable_gradient_checkpointing()
