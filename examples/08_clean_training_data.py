"""Clean training data: every sample is screened with a policy, and what stays and what goes is written down.

The data is a folder of images with captions beside them; WebDataset, Parquet and Arrow work alike. It needs
the extra "data". The command is that of the command line.
"""

import json
import subprocess
import sys
from pathlib import Path

import safelight

CAPTIONS = ["a cat in a park", "a red apple", "a gun on a table", "a dog on a beach"]


def main() -> None:
    data, cleaned = Path("example-output/data"), Path("example-output/cleaned")
    data.mkdir(parents=True, exist_ok=True)
    pipe = safelight.load_pipeline("storybook")
    for number, caption in enumerate(CAPTIONS):
        pipe(caption, num_inference_steps=8).images[0].save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(caption)

    options = ["--policy", "storybook", "--out", cleaned, "--workers", "1", "--write-clean"]
    subprocess.run([sys.executable, "-m", "safelight", "clean", data, *options], check=True)

    print(json.dumps(json.loads((cleaned / "summary.json").read_text()), indent=2))
    print("kept:", sorted(path.name for path in (cleaned / "clean").rglob("*.png")))


if __name__ == "__main__":
    main()
