"""Write a policy of your own: it extends a packaged one, with a word list and a category of its own.

The policy is examples/policies/brand.toml. Every key is explained in docs/reference/policy.md. Only prompts
are screened here, since the image filter needs the extra "nudenet".
"""

from pathlib import Path

import safelight

POLICY = Path(__file__).parent / "policies" / "brand.toml"
PROMPTS = [
    "a poster for ACME cola",
    "a soldier with a rifle, oil painting",
    "a massacre in a village",
    "a cat on a sofa",
]


def main() -> None:
    guard = safelight.Guard.from_policy(POLICY, stages=["prompt"]).load()
    print("policy:", guard.policy.id)
    for prompt, verdict in zip(PROMPTS, guard.screen_prompts(PROMPTS), strict=True):
        print(f"{prompt:40} {verdict.explain()}")


if __name__ == "__main__":
    main()
