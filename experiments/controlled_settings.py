"""Settings of the controlled experiments: edit them here, or give them as words for one run.

    python -m experiments.controlled NAME=eyeglasses
    python -m experiments.controlled NAME=grayscale SEEDS=3
    python -m experiments.controlled NAME=eyeglasses ARCH=resnet50 SIDE_PX=128 TRAIN_IMAGES=4000 EPOCHS=20

Those of settings.py that a dissection needs (DICTIONARY, QUANTILE, ALPHA, ...) hold here as well.
"""

# Which property goes with gender in the training sets: whether a face wears eyeglasses, or whether its picture is grey.
NAME = "eyeglasses"  # 'eyeglasses' or 'grayscale'
# Shares of the men that have the property, %; of the women it is the rest of 100. Each makes a training set. The larger
# it is, the more the property tells about gender; at 50 it tells nothing.
PERCENTAGES = [50, 60, 70, 80, 90, 100]  # a list of: a whole number at least 50 and at most 100
# Of how many seeds: each draws faces of its own and begins with weights of its own. What one shows is a hint.
SEEDS = 1  # a whole number at least 1 and at most 100

# Any classifier of torchvision.models, by name.
ARCH = "resnet18"  # a text that is not empty
# Its layers that are dissected, as module paths.
BLOCKS = ["layer1", "layer2", "layer3", "layer4"]  # a list of: a text that is not empty
# Side of the input, pixels. The last maps of a ResNet have 1/32 of it: at 112 px they are 4 x 4, at 64 px 2 x 2, which
# can locate nothing.
SIDE_PX = 112  # a whole number at least 32 and at most 1024

# Faces to train on, half of them men, half women; all sets show the same.
TRAIN_IMAGES = 640  # a whole number at least 4 and at most 1000000
# Other faces, on which accuracy is measured, each with and without the property. The grayscale experiment dissects with
# them, too; fewer than 33 are too few to call a unit biased.
TEST_FACES = 200  # a whole number at least 4 and at most 1000000
# Passes over the training set.
EPOCHS = 8  # a whole number at least 1 and at most 10000
# Images per step of the training, and the largest step (AdamW, one cycle).
TRAIN_BATCH = 32  # a whole number at least 2 and at most 65536
LEARNING_RATE = 0.001  # a number above 0 and at most 1

# Where trained networks, their dissections and the results go.
STUDY_FOLDER = "result/experiments"  # a text that is not empty
