"""facebatch: point it at a photo archive, get a face index in Parquet, each image exactly once."""

__version__ = "0.1.0"
