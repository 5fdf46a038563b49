"""Train a face detector: python jobs/train_detector.py --data DIR --output DIR [key=value ...]

The same command goes on where it was killed. Settings: `facebatch.training.recipes.DetectorRecipe`.
"""

from facebatch.cli.training import detector

if __name__ == "__main__":
    detector()
