"""Settings of the counterfactual twins: edit them here, or give them as words for one run.

    python -m experiments.counterfactual TASK=dlib_gender LAYER_NAME=layer4
    python -m experiments.counterfactual TASK=dlib_age LAYER_NAME=layer3 SWITCHED=Smiling,skin_tone FACES=320

Those of settings.py that a dissection needs (TASK, LAYER_NAME, DICTIONARY, TOPK, RANDOM_SETS, BOOTSTRAPS, ...) hold
here as well.
"""

# What is switched on the same face: concepts that are drawn, or skin_tone, from bright to dark.
SWITCHED = [  # a list of: a text that is not empty
    "Eyeglasses", "Mustache", "Wearing_Lipstick", "Smiling", "skin_tone",
]  # fmt: skip
# Faces, each drawn with and without. The 16 combinations of subgroups of age, gender and skin tone take turns.
FACES = 64  # a whole number at least 16 and at most 100000
