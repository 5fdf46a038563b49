"""Judging face vectors on labelled pairs of images: which pairs (`pairs`, `bin_file`), which figures (`scores`), which
pictures of them (`plots`, `sheet`). A library of plain functions: no network is run here, so cosine similarities come
from outside, and nothing is written but the pictures that are asked for."""
