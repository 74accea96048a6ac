"""Screen prompts with a policy: what is allowed, what is blocked, and why.

The policy "storybook" knows cartoon scenes. A knife is harmless for a chef and blocked beside a child,
however it is spelt. No image is generated, and PyTorch is not needed.
"""

import safelight

PROMPTS = [
    "a chef with a knife and bread",
    "a child with a knife",
    "a child with a kn1fe",
    "a dog on a beach",
]


def main() -> None:
    guard = safelight.Guard.from_policy("storybook")
    for prompt, verdict in zip(PROMPTS, guard.screen_prompts(PROMPTS), strict=True):
        print(f"{prompt:30} {verdict.explain()}")
        for finding in verdict.findings:
            print(f"{'':32} {finding.label} {finding.score:.2f}, by {finding.filter}: {finding.evidence}")


if __name__ == "__main__":
    main()
