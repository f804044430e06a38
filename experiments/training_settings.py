"""Settings of the study of what training makes: edit them here, or give them as words for one run.

    python -m experiments.training
    python -m experiments.training SEEDS=10 EPOCHS=40 TRAIN_IMAGES=4000

Those of settings.py that a dissection needs (DICTIONARY, QUANTILE, ALPHA, ...) hold here as well.
"""

# The network that all others are compared with, see loader/model_loader_convnet.py.
NETWORK = "32-64-128-256 batchnorm"  # a text that is not empty
# What they have more (+), what they lack (-), and how wide they are (x).
VARIANTS = ["+dropout", "-batchnorm", "x0.5", "x2"]  # a list of: a text that is not empty
# Of how many seeds each is trained: the first weights, the order of the images. The faces are the same.
SEEDS = 5  # a whole number at least 3 and at most 100
# Epochs after which NETWORK is dissected, beside its first weights and its last; those beyond EPOCHS are left out.
KEEP_EPOCHS = [1, 3]  # a list of: a whole number at least 1

# Side of the input, pixels; each block halves it.
SIDE_PX = 64  # a whole number at least 32 and at most 1024
# Rendered faces to train on, in equal parts of the 16 groups of age, gender and skin tone that are told apart.
TRAIN_IMAGES = 960  # a whole number at least 16 and at most 1000000
# Other faces, on which accuracy is measured.
TEST_FACES = 320  # a whole number at least 16 and at most 1000000
# Passes over the training set.
EPOCHS = 8  # a whole number at least 1 and at most 10000
# Images per step of the training, and the largest step (AdamW, one cycle).
TRAIN_BATCH = 32  # a whole number at least 2 and at most 65536
LEARNING_RATE = 0.002  # a number above 0 and at most 1

# Where trained networks, their dissections and the results go.
STUDY_FOLDER = "result/experiments"  # a text that is not empty
