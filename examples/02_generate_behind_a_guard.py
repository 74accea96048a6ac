"""Generate images behind a guard: prompts and images are screened, and only allowed images are released."""

from pathlib import Path

import safelight


def main() -> None:
    pipe = safelight.load_pipeline("storybook")  # or a hub id, a folder, or a pipeline of your own
    guard = safelight.Guard.from_policy("storybook").load()

    for prompt in ("a cat in a park", "a gun on a table"):
        result = guard.generate(pipe, prompt, n=2, seed=7, num_inference_steps=8)
        print(f"{prompt}: {result.action}, {len(result.images)} of 2 images released")
        for verdict in result.verdicts:
            print(f"  {verdict.subject} {verdict.index}: {verdict.explain()}")
        for number, image in zip(result.indices, result.images, strict=True):
            path = Path("example-output") / f"{prompt} {number}.png"
            path.parent.mkdir(exist_ok=True)
            image.save(path)


if __name__ == "__main__":
    main()
