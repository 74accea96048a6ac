"""Wrap a diffusers pipeline: the guarded one is called like the pipeline itself.

Code that expects a pipeline goes on working. With ``placeholders`` a card that says why stands in the place
of each image that was blocked.
"""

import torch

import safelight


def main() -> None:
    pipe = safelight.load_pipeline("storybook")
    guarded = safelight.Guard.from_policy("storybook").wrap(pipe, placeholders=True)

    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    output = guarded(["a cat in a park", "a gun on a table"], num_inference_steps=8, generator=generators)

    print("images:", len(output.images), "blocked or blurred:", output.nsfw_content_detected)
    for verdict in output.verdicts:
        print(f"  {verdict.subject} {verdict.index}: {verdict.explain()}")


if __name__ == "__main__":
    main()
