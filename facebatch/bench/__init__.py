"""How fast facebatch is, beside what nobody can avoid and what else one could run. Ratios, measured side by side.

archive    real photographs under as many names as wanted
floor      reading, decoding and the networks as bare calls: what no pipeline can be faster than
contest    contestants in turn, each in processes of its own, several times
rivals     what a user would run instead
growth     1,000, 10,000, 100,000 images: does the cost of one stay the same?
chart      the figures as a picture
"""
