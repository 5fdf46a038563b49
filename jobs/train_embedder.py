"""Train an embedder to do as a stronger one: python jobs/train_embedder.py --data DIR --output DIR [key=value ...]

The same command goes on where it was killed. Settings: `facebatch.training.recipes.EmbedderRecipe`.
"""

from facebatch.cli.training import embedder

if __name__ == "__main__":
    embedder()
