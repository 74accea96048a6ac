"""Serve many requests at once: those that are alike share one call of the pipeline, each with its own seed.

``AsyncGuard`` is for services that use asyncio. No request changes the result of another, and each may have a
deadline.
"""

import asyncio

import safelight

PROMPTS = ["a cat in a park", "a red apple", "a child with a knife", "a boat at night"]


async def serve() -> list[safelight.Result]:
    pipe = safelight.load_pipeline("storybook")
    guard = safelight.Guard.from_policy("storybook")
    async with safelight.AsyncGuard(guard, pipe, max_batch=4, max_wait_ms=50) as service:
        requests = [
            service.generate(prompt, seed=seed, num_inference_steps=8, deadline_s=120)
            for seed, prompt in enumerate(PROMPTS)
        ]
        return list(await asyncio.gather(*requests))


def main() -> None:
    for prompt, result in zip(PROMPTS, asyncio.run(serve()), strict=True):
        print(f"{prompt:25} {result.action:7} {len(result.images)} image, seed {result.seed}")


if __name__ == "__main__":
    main()
